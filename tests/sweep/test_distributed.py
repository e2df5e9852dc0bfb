"""Several workers on one study: a real PostgreSQL, a real MLflow server, a journal that four processes share."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT
from optuna.trial import TrialState
from sweeping import answers, ended, free_port

from bpx.sweep.storage import open_store
from bpx.sweep.study import outcome_of

pytestmark = pytest.mark.slow

LR = "optimizer.lr=tag(log, interval(1e-3,1))"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def directories(home):
    return [p for p in home.glob("outputs/*/trial_*/*") if p.is_dir()]


@pytest.fixture
def opened(database):
    """Open the study's database; what the fixture opened is closed again."""
    stores = []

    def storage():
        if not stores:
            stores.append(open_store(database, 1))
        return stores[0].storage

    yield storage
    for store in stores:
        store.storage.remove_session()
        store.storage.engine.dispose()
        store._engine.dispose()
    open_store.cache_clear()


def on(database, *more):
    return [LR, f"hydra.sweeper.storage='{database}'", "hydra.sweeper.heartbeat=1", *more]


def test_three_workers_at_once_on_an_empty_database(sweep, database, opened):
    words = on(database, "epochs=4", "hydra.sweeper.n_trials=12")
    workers = [sweep.start(*words) for _ in range(3)]
    with ended(*workers):
        said = [w.communicate(timeout=300)[0] for w in workers]
        assert [w.returncode for w in workers] == [0, 0, 0], said
    trials = sweep.study(storage=opened()).trials
    assert len(trials) == 12 and all(t.state in DONE for t in trials)
    assert len({t.user_attrs["bpx.worker"] for t in trials}) > 1
    assert len(directories(sweep.home)) == 12
    assert {t.user_attrs["bpx.run"]["directory"] for t in trials} == {str(p) for p in directories(sweep.home)}


def test_the_trial_of_a_killed_worker_is_finished_by_another(sweep, database, opened):
    words = on(database, "epochs=1500", "hydra.sweeper.n_trials=2", "hydra/sweeper/pruner=none")
    first = sweep.start(*words)
    with ended(first):
        trials = sweep.wait(lambda ts: ts and "bpx.run" in ts[0].user_attrs, storage=opened())
        os.killpg(first.pid, signal.SIGKILL)
        done = sweep(*words)
    assert done.returncode == 0, done.stderr
    lost, *others = sweep.study(storage=opened()).trials
    assert outcome_of(lost) == "lost" and lost.params == trials[0].params
    assert sum(t.params == lost.params and t.state == TrialState.COMPLETE for t in others) == 1
    assert sum(t.state in DONE for t in others) == 2


def test_a_trial_is_pruned_by_what_other_workers_have_seen(sweep, database, opened):
    poor = [f"{n}e-6" for n in range(1, 20)]  # a point that has been tried is told again, not trained
    sgd = f"optimizer.lr=choice(0.1,{','.join(poor)})"
    best = "hydra/sweeper/pruner=percentile"  # a median prunes nothing where most trials are the poor ones
    words = on(database, sgd, best, "epochs=6", "hydra.sweeper.n_trials=24", "hydra/sweeper/sampler=random")[1:]
    workers = [sweep.start(*words) for _ in range(2)]
    with ended(*workers):
        for worker in workers:
            worker.communicate(timeout=300)
    trials = sweep.study(storage=opened()).trials
    pruned = [t for t in trials if outcome_of(t) == "pruned"]
    assert pruned and {t.params["optimizer.lr"] for t in pruned} <= {float(lr) for lr in poor}
    assert len({t.user_attrs["bpx.worker"] for t in trials}) == 2


def test_the_database_restarts_in_mid_study(sweep, postgres_server, database, opened):
    words = on(database, "epochs=300", "hydra.sweeper.n_trials=6", "hydra/sweeper/pruner=none")
    worker = sweep.start(*words)
    with ended(worker):
        sweep.wait(lambda ts: sum(t.state in DONE for t in ts) >= 1, storage=opened())
        postgres_server.stop()
        time.sleep(3)
        postgres_server.start()
        said = worker.communicate(timeout=300)[0]
    assert worker.returncode == 0, said
    trials = sweep.study(storage=opened()).trials
    assert sum(t.state in DONE for t in trials) == 6 and not any(outcome_of(t) == "crashed" for t in trials)


def test_the_commands_for_many_machines_as_they_are_printed(sweep, postgres_server):
    page = (ROOT / "docs" / "distributed.md").read_text().partition("## Many machines")[2]
    port = free_port()
    printed = "".join(re.findall(r"```\n(.*?)```", page, re.DOTALL)[:2])
    printed = printed.replace("5432", str(postgres_server.port)).replace("5000", str(port))
    createdb, server, export, train = printed.splitlines()
    places = f"{postgres_server.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": places, "PGPORT": str(postgres_server.port)}
    subprocess.run(createdb, shell=True, env=env, check=True, cwd=sweep.home)
    serving = subprocess.Popen(
        shlex.split(server), env=env, cwd=sweep.home, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with ended(serving):
        answers(f"http://127.0.0.1:{port}")
        done = subprocess.run(
            f"{export}\n{train} max_steps=30 hydra.sweeper.n_trials=2",
            shell=True, env=env, cwd=sweep.home, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
        runs = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    assert sum("mlflow.parentRunId" in run.data.tags for run in runs) == 6 and len(runs) == 7  # three seeds a trial


def test_four_processes_share_a_journal(sweep):
    words = [LR, "epochs=4", "hydra.sweeper.n_trials=20"]
    workers = [sweep.start(*words) for _ in range(4)]
    with ended(*workers):
        said = [w.communicate(timeout=300)[0] for w in workers]
        assert [w.returncode for w in workers] == [0, 0, 0, 0], said
    trials = sweep.study().trials
    assert len(trials) == 20 and all(t.state in DONE for t in trials)
    assert len({t.user_attrs["bpx.worker"] for t in trials}) > 1
    assert len(directories(sweep.home)) == 20


def test_an_mlflow_server_gets_one_parent_and_its_children_from_several_processes(sweep, mlflow_server):
    words = [LR, "tracking=mlflow", f"tracking.uri={mlflow_server}", "epochs=4", "hydra.sweeper.n_trials=6"]
    workers = [sweep.start(*words) for _ in range(2)]
    with ended(*workers):
        said = [w.communicate(timeout=300)[0] for w in workers]
        assert [w.returncode for w in workers] == [0, 0], said
    client = mlflow.MlflowClient(mlflow_server)
    (experiment,) = [e for e in client.search_experiments() if e.name == "bpx"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 6 and {c.data.tags["bpx.trial"] for c in children} == set("012345")
    assert {c.info.status for c in children} <= {"FINISHED", "KILLED"}, said
    assert parent.info.status == "FINISHED"
    best = min(c.data.metrics["cost/val"] for c in children if c.info.status == "FINISHED")
    assert parent.data.metrics["best/cost/val"] == pytest.approx(best)
    assert "trials.csv" in {a.path for a in client.list_artifacts(parent.info.run_id)}
    assert float(parent.data.tags["best.optimizer.lr"]) > 0
