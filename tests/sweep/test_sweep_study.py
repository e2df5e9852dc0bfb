"""A study in a real journal: its budget, how its trials end, what it says of a changed command."""

import csv
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import DataError, OperationalError, PendingRollbackError
from test_space import GIVEN

from bpx.config.plan import make_plan
from bpx.runs.precheck import LoadedOnce
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.sweep.library import retry
from bpx.sweep.library import trial_of as trial_of_number
from bpx.sweep.objective import LOGGED, check_objectives
from bpx.sweep.options import parse_options
from bpx.sweep.progress import SweepProgress
from bpx.sweep.search import for_trials
from bpx.sweep.space import space
from bpx.sweep.storage import RETRIES, JournalStore, open_store, queue_again
from bpx.sweep.study import RESULT, WORKER, open_study, outcome_of
from bpx.sweep.trial import WORST, Trial
from bpx.system.errors import UserError
from bpx.system.locks import is_held, lock

SPACE = {"optimizer.lr": "tag(log, interval(1e-3,1))"}
TWO = {"objective": ["cost/val", "time/train_seconds"], "direction": ["minimize", "minimize"]}


@pytest.mark.parametrize(
    ("cause", "away"),
    [
        (OperationalError("SELECT 1", {}, Exception("server closed the connection")), True),
        (PendingRollbackError("Can't reconnect until invalid transaction is rolled back."), True),  # asked once more
        (DataError("INSERT", {}, Exception("value too long")), False),
    ],
)
def test_a_database_that_is_away_is_asked_again_and_one_that_refuses_is_not(cause, away, monkeypatch):
    monkeypatch.setattr("bpx.sweep.library.time.sleep", lambda seconds: None)
    asked = []

    def ask():
        asked.append(0)
        if len(asked) < 3:
            raise StorageInternalError("An exception is raised during the commit.") from cause
        return "answer"

    if away:
        assert retry(ask) == "answer" and len(asked) == 3
    else:
        with pytest.raises(StorageInternalError):
            retry(ask)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "optuna.journal")


STORES = []


@pytest.fixture(autouse=True)
def closed():
    yield
    while STORES:
        STORES.pop().close()


def opened(path, params=SPACE, config=(("epochs", 3),), **changes):
    opt = parse_options(GIVEN | {"storage": path, "study_name": "s"} | changes)
    STORES.append(JournalStore(Path(path)))
    return open_study(opt, "s", space(params, []), STORES[-1], dict(config))


def trial_of(study, path, asked, **changes):
    opt = parse_options(GIVEN | {"storage": path, "study_name": "s"} | changes)
    open_store.cache_clear()
    return Trial(opt, asked.number)


def test_the_budget_counts_what_has_ended_and_what_runs(path):
    study = opened(path)
    assert len(study.ask(3)) == 3 and len(study.ask(9)) == 2 and study.ask(1) == []


def test_each_trial_that_has_ended_is_looked_at_once(path, monkeypatch):
    study, looked = opened(path, n_trials=9), []
    monkeypatch.setattr("bpx.sweep.study.outcome_of", lambda trial: looked.append(trial.number) or outcome_of(trial))
    for trial in study.ask(4)[:2]:
        trial.set_user_attr(RESULT, {"outcome": "finished"})
        study.study.tell(trial, 0.5)
    assert study.counts() == {"finished": 2, "running": 2} and sorted(looked) == [0, 1, 2, 3]
    study.fail(trial_of_number(study.study, 3), "crashed", "why")
    study.ask(1)
    looked.clear()
    assert study.counts() == {"finished": 2, "running": 2, "crashed": 1} and sorted(looked) == [2, 3, 4]
    looked.clear()
    assert study.counts() == {"finished": 2, "running": 2, "crashed": 1} and sorted(looked) == [2, 4]


def test_given_points_come_first_and_conditions_hold(path):
    params = SPACE | {
        "optimizer": "choice(sgd,momentum)",
        "optimizer.momentum": {"space": "interval(0.5,0.9)", "when": {"optimizer": "momentum"}},
    }
    first = [{"optimizer": "momentum", "optimizer.lr": 0.5, "optimizer.momentum": 0.75}, {"optimizer.lr": 0.25}]
    study = opened(path, params, n_trials=8, enqueue=first)
    asked = [trial.params for trial in study.ask(8)]
    assert asked[0] == first[0] and asked[1]["optimizer.lr"] == 0.25 and len(asked) == 8
    assert {p["optimizer"] for p in asked} == {"sgd", "momentum"}
    assert all(("optimizer.momentum" in p) == (p["optimizer"] == "momentum") for p in asked)
    again = opened(path, params, n_trials=9, enqueue=first)
    assert again.ask(9)[0].params not in asked  # a study that goes on does not try them again
    assert again.study.metric_names == ["cost/val"]


def test_a_quasi_random_sequence_goes_on_and_its_choices_differ(path):
    sampler = {"_target_": "optuna.samplers.QMCSampler", "seed": 3, "scramble": True}
    params = {"optimizer.lr": "interval(0,1)", "batch_size": "choice(8,16,32)"}
    study = opened(path, params, n_trials=17, sampler=sampler)
    asked = []
    for i in range(17):
        (trial,) = opened(path, params, n_trials=17, sampler=sampler).ask(1)  # as of another process
        asked.append(trial.params)
        study.study.tell(trial.number, float(i))
    rates = np.sort([p["optimizer.lr"] for p in asked[1:]])
    assert (np.floor(rates * 16) == np.arange(16)).all()  # Sobol: one of sixteen points in each sixteenth
    assert len({p["batch_size"] for p in asked}) == 3


@pytest.mark.parametrize(
    ("how", "metrics", "state", "value"),
    [
        ("finished", {"cost/val": 0.5}, TrialState.COMPLETE, 0.5),
        ("finished", {"cost/val": float("nan")}, TrialState.PRUNED, None),
        ("finished", {"cost/val": float("inf")}, TrialState.PRUNED, None),
        ("diverged", {"cost/val": 0.5}, TrialState.PRUNED, None),
        ("pruned", {"cost/val": 0.5}, TrialState.PRUNED, None),
    ],
)
def test_how_a_run_ends_is_told(path, how, metrics, state, value):
    study = opened(path)
    (asked,) = study.ask(1)
    trial = trial_of(study, path, asked)
    trial.ended(how, metrics | {"grad_norm/layer_01": 1.0})
    (told,) = study.trials()
    assert told.state == state and told.value == value
    assert outcome_of(told) == ("diverged" if metrics["cost/val"] != 0.5 else how)
    assert "grad_norm/layer_01" not in told.user_attrs[RESULT]["metrics"]


def test_a_diverged_trial_of_several_objectives_is_worth_least(path):
    study = opened(path, **TWO)
    (asked,) = study.ask(1)
    trial_of(study, path, asked, **TWO).ended("diverged", {})
    assert study.trials()[0].values == [WORST, WORST] and study.best() == []


def test_an_objective_that_stopped_existing_has_no_final_value(path):
    study = opened(path, objective="gradient_flow/abs_slope")
    for _ in range(2):
        (asked,) = study.ask(1)
        trial = trial_of(study, path, asked, objective="gradient_flow/abs_slope")
        trial.observed({"gradient_flow/abs_slope": 0.02})
        trial.ended("finished", {"cost/train": 2.3}, "dead")
    assert [t.state for t in study.trials()] == [TrialState.PRUNED] * 2 and study.best() == []
    results = [t.user_attrs[RESULT] for t in study.trials()]
    assert {r["verdict_final"] for r in results} == {"dead"} and {r["outcome"] for r in results} == {"diverged"}
    assert "gradient_flow/abs_slope has no final value" in results[0]["error"]


def test_a_trial_that_dies_is_not_finished_with_the_value_before(sweep):
    words = ["optimizer.lr=0.01,5", "model.depth=3", "model.width=20", "epochs=1", "hydra/sweeper/sampler=grid"]
    done = sweep(*words, "hydra.sweeper.n_trials=null", "hydra.sweeper.objective=gradient_flow/abs_slope")
    assert done.returncode == 0, done.stderr
    with (sweep.home / "outputs" / "default-sweep" / "trials.csv").open(newline="") as file:
        alive, dead = sorted(csv.DictReader(file), key=lambda row: float(row["optimizer.lr"]))
    assert (alive["outcome"], alive["verdict_final"]) == ("finished", "healthy") and alive["gradient_flow/abs_slope"]
    assert (dead["outcome"], dead["verdict_final"]) == ("diverged", "dead") and not dead["gradient_flow/abs_slope"]


def test_an_objective_that_is_not_logged_is_said_with_what_is(path):
    study = opened(path)
    (asked,) = study.ask(1)
    with pytest.raises(UserError, match=r"this run logs no cost/val; it logs cost/train"):
        trial_of(study, path, asked).ended("finished", {"cost/train": 1.0, "lr": 0.1})


@pytest.mark.parametrize(
    ("words", "validates"),
    [
        ("dataset=moons", False),
        ("dataset=moons dataset.val_size=0", False),
        ("dataset=moons dataset.val_size=0.2", True),
        ("dataset=digits dataset.val_size=7", True),
        ("dataset=mnist", True),
        ("dataset=mnist dataset.subset=100", False),
        ("dataset=mnist dataset.val_size=0", False),
    ],
)
def test_a_dataset_without_a_validation_part_is_known_without_loading_it(words, validates, monkeypatch):
    monkeypatch.setattr("bpx.data.images._OpenMLImages.load", lambda *_: pytest.fail("the data are loaded"))
    sample = make_plan(compose(*words.split(), "tracking=none"))
    check_objectives(parse_options(GIVEN | {"objective": "cost/test"}), sample)
    opt = parse_options(GIVEN | {"objective": ["time/train_seconds", "accuracy/val"], "direction": ["minimize"] * 2})
    if validates:
        return check_objectives(opt, sample)
    with pytest.raises(UserError, match=r"no accuracy/val, for dataset=\w+ has no validation part"):
        check_objectives(opt, sample)


def test_every_metric_that_a_run_logs_may_be_searched_and_no_other(tmp_path):
    config = compose("dataset.val_size=0.2", "tracking=none", "max_steps=40", "tracking.figures=false")
    done = train_run(config, "", tmp_path, [], quiet=True)
    words = ["dataset=gaussian", "dataset.val_size=0.2", "tracking=none", "max_steps=40", "tracking.figures=false"]
    numbers = compose(*words)
    assert set(LOGGED) <= set(done.metrics) | set(train_run(numbers, "", tmp_path, [], quiet=True).metrics)
    for name in done.metrics:
        check_objectives(parse_options(GIVEN | {"objective": name}), make_plan(config))
    for name in ("cost/vall", "gradient_flow/abs_slop", "grad_norm/layer_1", "delta_rms/layer_01", "grad_norm"):
        with pytest.raises(UserError, match=f"this run logs no {name}; it logs .*cost/val.*grad_norm/layer_01"):
            check_objectives(parse_options(GIVEN | {"objective": name}), make_plan(config))


@pytest.mark.parametrize(
    ("timeout", "left"), [(None, ["0:06:40 left"]), (110, ["0:00:10 left"]), (90, ["0:00:00 left"])]
)
def test_the_time_left_ends_with_the_timeout(path, timeout, left, monkeypatch):
    progress = SweepProgress(opened(path), parse_options(GIVEN | {"timeout": timeout}))
    monkeypatch.setattr("bpx.sweep.progress.time.monotonic", lambda: progress.began + 100)
    assert progress._left(1) == left and progress._left(0) == progress._left(5) == []


def test_a_bad_trial_is_pruned_at_its_evaluation(path):
    pruner = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2, "n_warmup_steps": 1}
    study = opened(path, pruner=pruner)
    for value, expected in ((0.1, False), (0.2, False), (9.0, True)):
        (asked,) = study.ask(1)
        trial = trial_of(study, path, asked, pruner=pruner)
        assert not trial.observed({"cost/train": 1.0}) and not trial.observed({"cost/val": float("nan")})
        assert [trial.observed({"cost/val": value}) for _ in range(3)] == [False, expected, expected]
        trial.ended("pruned" if expected else "finished", {"cost/val": value})
    assert list(study.trials()[0].intermediate_values) == [0, 1, 2]


def test_what_was_interrupted_comes_back_with_the_same_parameters(path):
    study = opened(path)
    (asked,) = study.ask(1)
    study.fail(asked, "interrupted")
    assert study.used() == 0
    (again,) = study.ask(1)
    assert again.params == asked.params and again.number == 1
    study.fail(again, "crashed", "boom")
    assert study.used() == 1 and [outcome_of(t) for t in study.trials()] == ["interrupted", "crashed"]


def _die(path, pipe):
    (asked,) = opened(path).ask(1)
    pipe.send(asked.params)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_trial_of_a_killed_process_is_queued_again_and_a_living_ones_is_not(path):
    mine = opened(path)
    (alive,) = mine.ask(1)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_die, args=(path, there))
    process.start()
    params = here.recv()
    process.join()
    (lost,) = mine.store.lost(mine.study)
    assert lost.number == 1 and mine.store.lost(mine.study) == []
    assert [outcome_of(t) for t in mine.trials()] == ["running", "lost", "waiting"]
    (again,) = mine.ask(1)
    assert again.params == params and alive.params != params


def test_a_trial_whose_process_died_while_it_asked_is_not_waited_for(path):
    study = opened(path)
    (mine,) = study.ask(1)
    asked = study.study.ask(study.space.distributions)
    (lost,) = study.store.lost(study.study)
    assert lost.number == asked.number != mine.number and study.trials()[-1].params == asked.params


def test_a_trial_that_is_being_asked_for_is_not_lost(path):
    study, other = opened(path), opened(path)
    with ThreadPoolExecutor(1) as pool:
        with study.store.exclusively():
            asked = study.study.ask(study.space.distributions)
            looking = pool.submit(other.store.lost, other.study)
            time.sleep(0.3)
            assert not looking.done()
            study.store.beat([asked._trial_id])
            asked.set_user_attr(WORKER, study.store.worker)
        assert looking.result(10) == []


def test_the_same_command_continues_and_a_changed_one_says_what_changed(path):
    study = opened(path)
    (asked,) = study.ask(1)
    study.study.tell(asked, 0.5)
    assert len(opened(path).trials()) == 1 and opened(path, n_trials=9).used() == 1
    assert opened(path, {"optimizer.lr": "tag(log,interval( 1e-3,1 ))"}).used() == 1
    assert opened(path, config=[("epochs", 3), ("tracking.uri", "elsewhere"), ("progress", True)]).used() == 1
    for changes, words in (
        ({"direction": "maximize"}, "with objective cost/val (minimize), not cost/val (maximize): undo"),
        ({"objective": "accuracy/val"}, "with objective cost/val (minimize), not accuracy/val (minimize): undo"),
        (TWO, "with objective cost/val (minimize), not cost/val (minimize) and time/train_seconds (minimize): undo"),
        ({"params": SPACE | {"model.depth": "range(1,3)"}}, "begun without model.depth: undo"),
        ({"config": [("epochs", 3), ("model.depth", 3)]}, "begun without model.depth: undo"),
        ({"config": []}, "begun with epochs=3: undo"),
        ({"config": [("epochs", None)]}, "begun with epochs=3: undo"),
        (
            {"params": {"optimizer.lr": "interval(0,1)"}},
            "with optimizer.lr=tag(log,interval(1e-3,1)), not interval(0,1)",
        ),
        ({"config": [("epochs", 4)]}, "with epochs=3, not 4: undo"),
    ):
        with pytest.raises(UserError, match=r"study s was begun with(out)? ") as error:
            opened(path, **changes)
        assert words in str(error.value) and "study_name" in str(error.value)
    assert study.study.user_attrs["bpx.definition"]["config"]["epochs"] == "3"


def test_a_study_in_which_nothing_has_ended_may_be_changed(path):
    study = opened(path)
    (asked,) = study.ask(1)
    study.fail(asked, "crashed")
    assert opened(path, objective="accuracy/val").trials() == []


def test_a_grid_is_its_own_budget(path):
    grid = {"_target_": "optuna.samplers.BruteForceSampler"}
    study = opened(path, {"a": "choice(1,2)", "b": "range(0,3)"}, sampler=grid, n_trials=None)
    asked = study.ask(99)
    assert len({tuple(t.params.items()) for t in asked}) == 6 and study.ask(1) == []
    with pytest.raises(UserError, match="n_trials=null needs"):
        opened(path + "2", sampler=grid, n_trials=None)


def test_a_storage_that_cannot_be_used_is_one_line(tmp_path):
    for place in ("postgresql+psycopg://user:secret@127.0.0.1:9/none", "nosuch://x", str(tmp_path / "file" / "j")):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match=r"hydra\.sweeper\.storage") as error:
            open_store(place, 20)
        assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_a_worker_that_starts_takes_no_file_from_one_that_is_about_to_lock_it(path):
    first = JournalStore(Path(path))
    STORES.append(first)
    mark = Path(f"{path}.worker-other")
    held = mark.open("a")
    with first.exclusively():
        starting = threading.Thread(target=lambda: STORES.append(JournalStore(Path(path))))
        starting.start()
        starting.join(0.5)
        fcntl.flock(held, fcntl.LOCK_EX)
    starting.join()
    assert len(STORES) == 2 and is_held(mark)
    held.close()
    STORES.append(JournalStore(Path(path)))
    assert not mark.exists()


def test_a_worker_waits_where_another_looks_whether_it_lives(path):
    store = JournalStore(Path(path))
    STORES.append(store)
    looking = lock(Path(f"{path}.worker-{store.worker}"))
    threading.Timer(0.3, looking.close).start()
    store.beat([1])
    assert is_held(Path(f"{path}.worker-{store.worker}"))


def test_unknown_states_are_named():
    assert outcome_of(SimpleNamespace(state=TrialState.WAITING)) == "waiting"


def test_a_trial_that_is_queued_again_carries_no_mark_of_its_dead_worker(path):
    study = opened(path)
    (asked,) = study.ask(1)
    asked.set_user_attr(RESULT, {"outcome": "interrupted", "metrics": {}, "error": ""})
    for worker in list(Path(path).parent.glob("*.worker-*")):
        worker.unlink()
    other = opened(path)
    assert len(other.store.lost(other.study)) == 1
    waiting = other.trials(TrialState.WAITING)[0]
    assert waiting.params == asked.params and waiting.user_attrs == {}


def test_a_trial_is_queued_again_so_many_times(path):
    study = opened(path)
    for turn in range(RETRIES + 1):
        (asked,) = study.ask(1)
        study.store.storage.set_trial_state_values(asked._trial_id, TrialState.FAIL)
        queue_again(study.study, study.trials()[-1], RETRIES)
        assert len(study.trials(TrialState.WAITING)) == (turn < RETRIES)


def test_a_torn_last_line_is_cut_off_and_the_study_goes_on(path):
    study = opened(path)
    study.ask(1)
    whole = Path(path).read_bytes()
    with Path(path).open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x","study')
    assert len(study.trials()) == 1
    again = opened(path)
    assert again.store.note == f"{path}: the last line was incomplete; 35 bytes were removed"
    with Path(path).open("ab") as file:
        file.write(b'{"op')  # torn while others work on it
    assert len(again.ask(1)) == 1 and len(study.trials()) == 2
    assert Path(path).read_bytes().startswith(whole) and all(map(json.loads, Path(path).read_bytes().splitlines()))


@pytest.mark.parametrize("damage", [b"{}", b"[]", b"null", b"{", b"\xff\xfe", b'{"op_code": 99}', b'{"op_code": 4}'])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_damaged_journal_is_one_line_that_names_it(damage, place, path):
    opened(path).ask(2)
    lines = Path(path).read_bytes().splitlines()
    lines[place] = damage
    Path(path).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(UserError, match=r"optuna\.journal") as error:
        open_store(path, 20)
        study = opened(path)
        study.trials()
        raise UserError("optuna.journal: whatever Optuna makes of it")
    assert "\n" not in str(error.value)


def test_reports_wait_for_no_disk_and_how_a_trial_ends_does(path, monkeypatch):
    study = opened(path)
    (asked,) = study.ask(1)
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(number) or fsync(number))
    for step in range(5):
        asked.report(1.0 - 0.1 * step, step)
    assert not synced and opened(path).trials()[0].intermediate_values[4] == pytest.approx(0.6)
    study.study.tell(asked, 0.5)
    assert synced


def test_trials_in_a_row_share_their_data(monkeypatch):
    load, plans = (
        LoadedOnce(),
        [make_plan(compose("dataset=gaussian", *w)) for w in ([], ["seed=3"], ["dtype=float64"])],
    )
    first = load(plans[0])
    assert load(plans[1]) is first
    assert load(plans[2]).x_train.dtype == np.float64


@pytest.mark.parametrize(
    "objective, sent", [("cost/val", "[]"), ("grad_norm/layer_01", "[grad_norm]"), ("[a/layer_01,a/layer_02]", "[a]")]
)
def test_a_trial_sends_of_single_layers_what_is_searched(objective, sent):
    options = SimpleNamespace(objectives=objective.strip("[]").split(","))
    assert for_trials(options)["tracking.per_layer"] == sent


def test_what_finds_no_space_leaves_the_journal_as_it_was(path):
    study = opened(path)
    (asked,) = study.ask(1)
    before = Path(path).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            asked.set_user_attr("long", "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert error.value.filename == path and Path(path).read_bytes() == before
    asked.set_user_attr("long", "x" * 100)
    assert opened(path).trials()[0].user_attrs["long"] == "x" * 100
