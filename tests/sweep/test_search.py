"""The sweep as a command: what it prints, leaves, survives and refuses."""

import csv
import json
import os
import signal

import mlflow
import pytest
import yaml
from conftest import ROOT
from optuna.trial import TrialState
from sweeping import ended

from bpx.sweep.study import outcome_of

LR = "optimizer.lr=tag(log, interval(1e-3,1))"
GRID = ["hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=null"]
PLANTED = """
import os, signal
from bpx.engine.activations import Tanh

class Broken(Tanh):
    def f(self, z, out):
        raise RuntimeError("planted")

class Worse(Broken):
    pass

class Killer(Tanh):
    def f(self, z, out):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def planted(sweep):
    (sweep.home / "planted.py").write_text(PLANTED)
    return {"PYTHONPATH": str(sweep.home)}


def choice(name):
    return f"activation._target_=choice(bpx.engine.activations.Tanh,planted.{name})"


def rows(home, name="default-sweep"):
    with (home / "outputs" / name / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_sweep_is_searched_tracked_and_continued(sweep):
    words = [LR, "batch_size=choice(16,32)", "model.depth=range(1,4)", "epochs=3", "tracking=mlflow"]
    done = sweep(*words, "hydra.sweeper.n_trials=4")
    assert done.returncode == 0, done.stderr
    assert "4/4 done" in done.stdout and "best      trial" in done.stdout and done.stderr == ""
    home = sweep.home / "outputs" / "default-sweep"
    made = {p.stem for p in (home / "figures").iterdir()}
    assert made >= {"map_lr_depth_cost", "map_lr_batch_size_cost", "optuna_history", "optuna_slices", "optuna_parallel"}
    assert made >= {"optuna_contour", "optuna_importances"}
    again = sweep(*words, "hydra.sweeper.n_trials=6")
    assert again.returncode == 0 and "continues after 4 of 6 trials" in again.stdout
    table = rows(sweep.home)
    assert [row["trial"] for row in table] == list("012345") and len({row["directory"] for row in table}) == 6
    client = mlflow.MlflowClient(f"sqlite:///{sweep.home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "bpx"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(runs) == 7 and parent.info.status == "FINISHED"
    best = min((r for r in table if r["outcome"] == "finished"), key=lambda r: float(r["cost/val"]))
    assert parent.data.metrics["best/cost/val"] == pytest.approx(float(best["cost/val"]))
    assert parent.data.tags["best.trial"] == best["trial"]
    assert parent.data.tags["best.batch_size"] == best["batch_size"]
    assert "Best trial" in parent.data.tags["mlflow.note.content"]
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} >= {"figures", "trials.csv", "provenance.json"}
    assert parent.data.tags["mlflow.source.name"]
    for row in table:  # children draw no figures, log no model, and send no curves of layers
        found = {a.path for a in client.list_artifacts(row["run_id"])}
        assert "figures" not in found and "config" in found
        run = client.get_run(row["run_id"])
        assert not [name for name in run.data.metrics if "/layer_" in name]
        assert run.data.tags["bpx.outcome"] == row["outcome"]
        assert run.info.status == {"finished": "FINISHED", "diverged": "FINISHED", "pruned": "KILLED"}[row["outcome"]]


def test_divergence_is_a_result(sweep):
    done = sweep(
        "optimizer.lr=choice(1e12,1e-2)", "epochs=3", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_trials=null"
    )
    assert done.returncode == 0 and "1 diverged" in done.stdout and done.stderr == ""
    states = {t.params["optimizer.lr"]: (t.state, outcome_of(t)) for t in sweep.study().trials}
    assert states == {1e12: (TrialState.PRUNED, "diverged"), 1e-2: (TrialState.COMPLETE, "finished")}


def test_a_crash_does_not_stop_the_study(sweep, planted):
    words = [choice("Broken"), "epochs=2", *GRID]
    done = sweep(*words, env=planted)
    assert done.returncode == 0 and "crashed: RuntimeError: planted" in done.stdout
    crashed, finished = sorted(sweep.study().trials, key=outcome_of)
    assert (crashed.state, finished.state) == (TrialState.FAIL, TrialState.COMPLETE)
    home = sweep.home / "outputs" / "default-sweep" / f"trial_{crashed.number:04d}"
    assert "RuntimeError: planted" in (home / "traceback.txt").read_text()


def test_a_trial_that_comes_to_no_run_is_a_failed_run_of_the_study(sweep):
    open_ = [
        "batch_size=choice(8,200)",
        "dataset.train_size=choice(100,400)",
    ]  # each value runs beside one of the other
    words = [*open_, "epochs=2", "tracking=mlflow", *GRID]
    done = sweep(*words)
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{sweep.home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "bpx"]
    runs = client.search_runs([experiment.experiment_id], "tags.`mlflow.parentRunId` LIKE '%'")
    ended = {(r.data.params["batch_size"], r.data.params["dataset.train_size"]): r.info.status for r in runs}
    assert ended == {(size, n): "FINISHED" for size in ("8", "200") for n in ("100", "400")} | {
        ("200", "100"): "FAILED"
    }
    (failed,) = [run for run in runs if run.info.status == "FAILED"]
    (row,) = [row for row in rows(sweep.home) if row["outcome"] == "failed"]
    assert failed.info.run_id == row["run_id"] and failed.data.tags["bpx.error"] == row["error"]
    assert (failed.data.tags["bpx.trial"], failed.data.tags["bpx.outcome"]) == (row["trial"], "failed")
    assert "batch_size must be at most" in row["error"]


def test_too_many_crashes_do(sweep, planted):
    words = ["activation._target_=planted.Broken", LR, "hydra.sweeper.n_trials=50"]
    done = sweep(*words, env=planted)
    assert done.returncode == 1 and len(sweep.study().trials) == 3
    assert "3 of 3 trials failed or crashed, more than hydra.sweeper.max_failure_rate=0.5" in done.stderr


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_trial_only(sweep, planted):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [
        choice("Killer"),
        "seed=range(0,2)",
        "epochs=2",
        "hydra/sweeper/sampler=grid",
        "hydra.sweeper.n_trials=null",
    ]
    more = ["hydra/launcher=joblib", "hydra.sweeper.n_jobs=2", "hydra.sweeper.max_failure_rate=1"]
    done = sweep(*words, *more, env=planted)
    assert done.returncode == 0, done.stderr
    for trial in sweep.study().trials:
        killer = "Killer" in trial.params["activation._target_"]
        assert outcome_of(trial) == ("crashed" if killer else "finished")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_other_launchers(sweep, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    words = [LR, "epochs=3", "tracking=mlflow", f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2"]
    done = sweep(*words, "hydra.sweeper.n_trials=4")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(f"sqlite:///{sweep.home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "bpx"]
    runs = client.search_runs([experiment.experiment_id], "tags.`mlflow.parentRunId` LIKE '%'")
    assert len(runs) == 4 and {outcome_of(t) for t in sweep.study().trials} <= {"finished", "pruned"}


@pytest.mark.slow
def test_a_local_ray(sweep):
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra `ray` is not installed")
    words = [LR, "epochs=3", "hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "hydra.sweeper.n_jobs=2"]
    done = sweep(*words, "hydra.sweeper.n_trials=4")
    assert done.returncode == 0, done.stderr
    assert {outcome_of(t) for t in sweep.study().trials} <= {"finished", "pruned"} and len(sweep.study().trials) == 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_running_and_the_study_goes_on(sweep, number):
    words = [LR, "epochs=4000", "tracking=mlflow", "hydra.sweeper.n_trials=2", "hydra/sweeper/pruner=none"]
    process = sweep.start(*words)
    with ended(process):
        (trial,) = sweep.wait(lambda ts: ts and "bpx.run" in ts[0].user_attrs)
        os.kill(process.pid, number)
        process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert [outcome_of(t) for t in sweep.study().trials] == ["interrupted", "waiting"]
    client = mlflow.MlflowClient(f"sqlite:///{sweep.home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "bpx"]
    assert {r.info.status for r in client.search_runs([experiment.experiment_id])} == {"KILLED"}
    queued = sweep.study().trials[1]
    assert queued.params == trial.params


@pytest.mark.slow
def test_several_objectives(sweep):
    words = [LR, "model.depth=range(3,6)", "epochs=2", "hydra/sweeper/sampler=nsga2", "hydra.sweeper.n_trials=4"]
    more = ["hydra.sweeper.objective=[accuracy/val,gradient_flow/abs_slope]"]
    done = sweep(*words, *more, "hydra.sweeper.direction=[maximize,minimize]")
    assert done.returncode == 0, done.stderr
    assert all(len(t.values) == 2 for t in sweep.study().trials)
    assert (sweep.home / "outputs/default-sweep/figures/optuna_pareto_front.png").exists()
    assert json.loads((sweep.home / "outputs/default-sweep/study.json").read_text())["direction"] == [
        "maximize",
        "minimize",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([LR, "hydra.sweeper.objective=cost/vall"], "this run logs no cost/vall; it logs"),
        ([LR, "dataset.val_size=null", "dataset=moons"], "no cost/val, for dataset=moons has no validation part: give"),
        ([LR, "optimizer.momentum=2"], "optimizer.momentum"),
        ([LR, "hydra.sweeper.n_jobs=2"], "hydra/launcher=joblib"),
        ([LR, "hydra/sweeper/sampler=best"], "hydra/sweeper/sampler=best: there is no such option; known are"),
        (["epochs=2"], "nothing to search"),
        ([LR, "hydra.sweeper.enqueue=[{optimizer.lr: 5}]"], "enqueue[0]: optimizer.lr must be in tag(log,interval("),
        ([LR, "hydra.sweeper.enqueue=[3]"], "hydra.sweeper.enqueue must be a list of keys with values"),
        ([LR, "hydra.sweeper.direction=up"], "minimize or maximize"),
        (["optimizer.lr=interval(-2,-1)"], "lr must be"),
        ([LR, "hydra/sweeper/sampler=grid"], "sampler=grid needs values that can be listed, not optimizer.lr="),
        ([LR, "hydra.sweeper.sampler.seed=-1"], "hydra.sweeper.sampler (seed=-1, n_startup_trials=10"),
        (
            [LR, "hydra.sweeper.sampler.n_startup_trials=abc"],
            "hydra.sweeper.sampler.n_startup_trials must be an integer, got abc",
        ),
        ([LR, "hydra.sweeper.sampler.seed=x"], "hydra.sweeper.sampler.seed must be an integer or null, got x"),
        ([LR, "hydra.sweeper.pruner.n_warmup_steps=x"], "hydra.sweeper.pruner.n_warmup_steps must be an integer"),
        ([LR, "hydra.sweeper.pruner.n_startup_trials=-3"], "hydra.sweeper.pruner (n_startup_trials=-3"),
        ([LR, "hydra.sweeper.sampler=3"], "hydra.sweeper.sampler must be keys with values, got 3"),
        ([LR, "hydra.sweeper.heartbeat=99999999999"], "heartbeat must be at most 86400"),
        ([LR, "hydra.sweeper.storage=/dev/null"], "hydra.sweeper.storage must be a file"),
        ([LR, "hydra.sweep.dir=x"], "hydra.sweep.dir has no effect: every run has its own directory"),
        ([LR, "hydra.sweeper.n_trials=null"], "n_trials=null needs hydra.sweeper.timeout, or"),
        (["seed=choice(-1,1)"], "seed must be at least 0, got -1"),
        (["model.depth=range(0,1e9)"], "model.depth must be between 0 and 10,000"),
        (["optimizer=momentum,adam", "optimizer.momentum=choice(0.5,0.9)"], "optimizer=adam has no key momentum"),
        (
            ["+sweep=lr_batch_depth", "dataset=digits"],
            "dataset.train_size must be at most the 1149 training samples, got",
        ),
        ([LR, "batch_size=choice(32,99999)"], "batch_size must be at most the "),
    ],
)
def test_what_is_wrong_is_one_line(sweep, called, words, said):
    trials = [] if any("n_trials" in word for word in words) else ["hydra.sweeper.n_trials=4"]
    done = called("bpx.train", *sweep.words(*words, *trials))
    assert done.code == 2
    assert said in done.err and done.err.count("\n") == 1
    assert done.made == []  # it is said before anything is begun


def test_a_point_that_was_tried_is_told_again(sweep, called):
    """Five trials of two points train two networks; a key of a swept option is looked for in the option chosen."""
    words = ["optimizer=momentum,nesterov", "optimizer.momentum=0.5", "max_steps=20", "progress=false"]
    done = called("bpx.train", *sweep.words(*words, "hydra.sweeper.n_trials=5"))
    assert (done.code, done.err) == (0, "")
    trials = sweep.study().trials
    first = {t.params["optimizer"]: t for t in reversed(trials)}
    assert len(trials) == 5 and set(trials[0].params) == {"optimizer"}
    assert all(t.values == first[t.params["optimizer"]].values for t in trials)
    assert len(list(sweep.home.glob("outputs/default-sweep/trial_*"))) == len(first)
    assert done.out.count("  as trial ") == 5 - len(first)


def test_what_hydras_own_sweeper_leaves_is_there(sweep, called):
    """The names of its samplers, and the keys of optimization_results.yaml."""
    words = sweep.words(LR, "epochs=1", "model.depth=1", "hydra.sweeper.n_trials=2", "hydra/sweeper/sampler=nsgaii")
    done = called("bpx.train", *words, "hydra.sweeper.enqueue=[{optimizer.lr: 0.25}]")
    assert done.code == 0, done.err
    table = rows(sweep.home)
    assert table[0]["optimizer.lr"] == "0.25"
    kept = yaml.safe_load((sweep.home / "outputs" / "default-sweep" / "optimization_results.yaml").read_text())
    best = min(table, key=lambda row: float(row["cost/val"]))
    assert kept == {
        "name": "optuna",
        "best_params": {"optimizer.lr": float(best["optimizer.lr"])},
        "best_value": float(best["cost/val"]),
    }


def test_any_number_of_trials_within_a_time(sweep, called):
    words = ["hydra.sweeper.n_trials=null", "hydra.sweeper.timeout=2", "max_steps=5", "probes=none"]
    done = called("bpx.train", *sweep.words(LR, *words))
    assert (done.code, done.err) == (0, "") and "any number of trials" in done.out
    assert sweep.study().trials and all(t.state.is_finished() for t in sweep.study().trials)


def test_after_the_timeout_no_trial_is_begun(sweep):
    done = sweep(LR, "epochs=3", "hydra.sweeper.n_trials=1000", "hydra.sweeper.timeout=0.5")
    trials = sweep.study().trials
    assert done.returncode == 0 and 1 <= len(trials) < 50 and all(t.state.is_finished() for t in trials)
    assert "best      trial" in done.stdout
    said = f"timeout=0.5 ended the search after {len(trials)} of 1,000 trials; the same command continues it"
    assert said in done.stdout and "0:00:00 left" in done.stdout


def test_a_changed_command_is_refused_in_one_line(sweep):
    assert sweep(LR, "epochs=2", "hydra.sweeper.n_trials=1").returncode == 0
    done = sweep(LR, "epochs=3", "hydra.sweeper.n_trials=2")
    assert done.returncode == 2 and "begun with epochs=2, not 3" in done.stderr and done.stderr.count("\n") == 1


SHIPPED = sorted(path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_sweep_runs_two_trials(sweep, command, name, mnist_dir):
    words = [f"+sweep={name}", "tracking=none", "hydra.sweeper.n_trials=2", "max_steps=20"]
    done = command("bpx.train", *words, cwd=sweep.home, env={"BPX_DATA_DIR": str(mnist_dir)})
    assert done.returncode == 0, done.stderr
    assert len(rows(sweep.home, f"default-{name}")) == 2


def test_what_has_no_answer_by_design_is_no_failure(sweep, called):
    """Zeros have no gradient, and critical no stable edge for some activations: the search goes on over most of it."""
    words = ["initializer=zeros,critical,he_normal", "activation=tanh,gelu,silu,softplus", "max_steps=2"]
    words += [
        "hydra.sweeper.objective=gradient_flow/abs_slope",
        *GRID,
        "progress=false",
        "hydra.sweeper.max_failure_rate=0",
    ]
    done = called("bpx.train", *sweep.words(*words))
    assert (done.code, done.err) == (0, "")
    ended = {(row["initializer"], row["activation"]): row["outcome"] for row in rows(sweep.home)}
    assert len(ended) == 12 and set(ended.values()) == {"finished", "undefined", "diverged"}
    assert {outcome for (name, _), outcome in ended.items() if name == "zeros"} == {"diverged"}  # no slope: no value
    assert ended["critical", "tanh"] == "finished" and ended["critical", "softplus"] == "undefined"
    assert {outcome for (name, _), outcome in ended.items() if name == "he_normal"} == {"finished"}
    assert "undefined" in done.out and "failed" not in done.out


def test_a_search_without_any_value_draws_nothing_and_ends_with_1(sweep, planted, called, monkeypatch):
    monkeypatch.syspath_prepend(sweep.home)
    words = ["activation._target_=choice(planted.Broken,planted.Worse)", "max_steps=2", *GRID]
    done = called("bpx.train", *sweep.words(*words, "hydra.sweeper.max_failure_rate=1"))
    assert (
        done.code == 1 and done.err == "error: every trial of the study failed; the last one: RuntimeError: planted\n"
    )
    assert len(rows(sweep.home)) == 2 and not list(sweep.home.glob("outputs/*/figures"))
