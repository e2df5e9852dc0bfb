"""Seeds in a search: what a trial's repeats are worth, and what the sampler draws from its seed."""

import csv
import math
import statistics

import pytest
from sweeping import ended
from test_space import GIVEN
from test_sweep_study import SPACE, closed, opened, path, trial_of  # noqa: F401 (fixtures)

from bpx.records import Outcome
from bpx.sweep.options import parse_options
from bpx.sweep.repeats import Repeat, Repeats
from bpx.sweep.study import SEEDS, SPREAD, outcome_of

LR = "optimizer.lr=tag(log, interval(1e-3,1))"
SEEDED = {"sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 7, "n_startup_trials": 2}, "n_trials": 100}
WHERE = ("run_id", "directory", "time/train_seconds")  # of a row of trials.csv: what two runs cannot share


def repeats(costs, **given):
    """Return repeats of these costs, None for a seed that diverged."""
    found = Repeats(parse_options(GIVEN | {"repeats": len(costs)} | given))
    for seed, cost in enumerate(costs):
        how, metrics = ("diverged", {}) if cost is None else ("finished", {"cost/val": cost, "cost/test": 2 * cost})
        found.ended.append(Repeat(seed, Outcome(how), "", metrics, "healthy"))
    return found


def test_a_trial_is_the_mean_of_its_seeds_with_their_standard_deviation():
    found = repeats([1.0, 2.0, 6.0])
    assert found.metrics == {"cost/val": 3.0, "cost/test": 6.0} and found.outcome == "finished"
    assert found.spread == {"cost/val": pytest.approx(statistics.stdev([1.0, 2.0, 6.0]))}
    assert repeats([1.0, 2.0, 6.0], aggregate="median").metrics == {"cost/val": 2.0, "cost/test": 4.0}


@pytest.mark.parametrize(
    ("aggregate", "costs", "value"),
    [
        ("mean", [1.0, None, 3.0], None),
        ("median", [1.0, None, 3.0], 3.0),  # the diverged one is worth least
        ("median", [1.0, None, None], None),
        ("median", [1.0, None], None),
    ],
)
def test_a_seed_that_diverges(aggregate, costs, value):
    found = repeats(costs, aggregate=aggregate)
    assert found.outcome == ("diverged" if value is None else "finished")
    assert value is None or found.metrics["cost/val"] == value


def test_no_further_seed_is_trained_where_it_would_change_nothing():
    found = repeats([1.0, None, 3.0])
    del found.ended[2:]
    assert found.over
    found = repeats([1.0, None, 3.0], aggregate="median")
    del found.ended[2:]
    assert not found.over


def test_what_is_reported_is_the_mean_over_the_seeds_that_came_as_far(path):  # noqa: F811
    study = opened(path, repeats=2)
    (asked,) = study.ask(1)
    trial = trial_of(study, path, asked, repeats=2)
    assert trial.next_seed(4) == 4
    for cost in (1.0, 0.5):
        trial.observed({"cost/val": cost})
    trial.ended("finished", {"cost/val": 0.5})
    assert study.under_way(asked) and trial.next_seed(4) == 5
    for cost in (2.0, 1.5, 1.25):  # the other seed has no third value
        trial.observed({"cost/val": cost})
    trial.ended("finished", {"cost/val": 1.5})
    (told,) = study.trials()
    assert list(told.intermediate_values.values()) == [1.0, 0.5, 1.5, 1.0]
    assert told.value == 1.0 and told.user_attrs[SEEDS] == {"4": "finished", "5": "finished"}
    assert told.user_attrs[SPREAD] == {"cost/val": pytest.approx(math.sqrt(0.5))}


def drawn(study, n):
    """Ask for trials, tell each a cost that its learning rate decides, and return the rates."""
    rates = []
    for _ in range(n):
        (trial,) = study.ask(1)
        rates.append(trial.params["optimizer.lr"])
        study.study.tell(trial, abs(math.log10(rates[-1]) + 2))
    return rates


@pytest.mark.parametrize("name", ["RandomSampler", "TPESampler"])
def test_a_seeded_study_goes_on_with_new_points(tmp_path, name):
    sampler = {"sampler": SEEDED["sampler"] | {"_target_": f"optuna.samplers.{name}"}, "n_trials": 100}
    if name == "RandomSampler":
        del sampler["sampler"]["n_startup_trials"]
    whole = drawn(opened(str(tmp_path / "a" / "journal"), **sampler), 8)
    assert len(set(whole)) == 8
    parts = [drawn(opened(str(tmp_path / "b" / "journal"), **sampler), n) for n in (3, 3, 2)]  # a process each
    assert [rate for part in parts for rate in part] == whole
    other = sampler | {"sampler": sampler["sampler"] | {"seed": 8}}
    assert not set(drawn(opened(str(tmp_path / "c" / "journal"), **other), 3)) & set(whole)


def table(home):
    with (home / "outputs" / "default-sweep" / "trials.csv").open(newline="") as file:
        return [{key: text for key, text in row.items() if key not in WHERE} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_search_with_one_worker_is_reproducible_to_the_last_bit(sweep, tmp_path):
    """Twice the same command, once in one go and once in two, and another seed: TPE, pruning and repeats included."""
    words = [LR, "activation=relu,tanh", "epochs=3", "hydra.sweeper.sampler.n_startup_trials=3", "progress=false"]
    words += ["hydra.sweeper.repeats=2", "hydra.sweeper.pruner.n_startup_trials=2"]
    found = []
    for name, seed, budgets in (("a", 0, (8,)), ("b", 0, (3, 8)), ("c", 1, (8,))):
        sweep.home = tmp_path / name
        sweep.home.mkdir()
        for n in budgets:
            done = sweep(*words, f"seed={seed}", f"hydra.sweeper.n_trials={n}")
            assert done.returncode == 0, done.stderr
        found.append(table(sweep.home))
    assert found[0] == found[1] and len(found[0]) == 8
    rates = [{row["optimizer.lr"] for row in rows} for rows in found]
    assert len(rates[0]) == 8 and not rates[0] & rates[2]
    assert all(float(row["std/cost/val"]) > 0 for row in found[0] if row["outcome"] == "finished")


@pytest.mark.slow
def test_two_workers_with_one_seed_try_different_points(sweep):
    words = [LR, "epochs=2", "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.seed=3", "progress=false"]
    workers = [sweep.start(*words) for _ in range(2)]
    with ended(*workers):
        for worker in workers:
            assert worker.wait(120) == 0
    trials = sweep.study().trials
    assert len({t.params["optimizer.lr"] for t in trials}) == len(trials) == 6
    assert {outcome_of(t) for t in trials} <= {"finished", "pruned", "diverged"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=range(0,3)", "hydra.sweeper.repeats=2"], "seed cannot be searched with hydra.sweeper.repeats=2"),
        ([LR, "hydra.sweeper.repeats=0"], "hydra.sweeper.repeats must be at least 1, got 0"),
        ([LR, "hydra.sweeper.aggregate=mode"], "hydra.sweeper.aggregate must be mean or median, got mode"),
    ],
)
def test_what_is_wrong_is_one_line(sweep, called, words, said):
    done = called("bpx.train", *sweep.words(*words, "hydra.sweeper.n_trials=2"))
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1 and done.made == []
