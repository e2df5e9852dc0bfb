"""The tracker against a real MLflow store."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from sweeping import ended

from bpx.engine import model_files
from bpx.engine.features import Scaler
from bpx.sweep.storage import open_store
from bpx.system.errors import UserError
from bpx.tracking import MLflowTracker, TrackingError, store
from bpx.tracking.delivery import SEND_EVERY
from bpx.tracking.experiment import STATUS, Experiment

# MLflow's own, when its pyfunc is first imported
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")

DATA = SimpleNamespace(name="toy", sha256="a" * 64, source="here", x_train=range(3), x_test=range(2))


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


def opened(uri, directory, data=DATA):
    tracker = MLflowTracker(uri=uri)
    tracker.connect()
    tracker.start("run", {"a.b": 1, "long": "x" * 9000}, {"bpx.dataset": "toy"}, data, directory)
    return tracker


def test_every_metric_arrives_once_and_in_order(uri, tmp_path):
    tracker = opened(uri, tmp_path)
    for step in range(1500):
        tracker.log(step, step / 10, {"m/a": step + 0.5, "m/b": -step, "bad": float("nan"), "worse": float("inf")})
    tracker.finish("finished")
    tracker.finish("finished")
    run = tracker._client.get_run(tracker.run_id)
    history = tracker._client.get_metric_history(tracker.run_id, "m/a")
    assert [(m.step, m.value) for m in history] == [(s, s + 0.5) for s in range(1500)]
    assert run.data.tags["bpx.nonfinite_metrics"] == "3000" and "bad" not in run.data.metrics
    assert run.data.params["a.b"] == "1" and len(run.data.params["long"]) == 6000
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1500
    assert tracker.run_id in tracker.link and "mlflow ui --backend-store-uri" in tracker.ui_command


@pytest.mark.parametrize("outcome", STATUS)
def test_outcomes_have_their_status(uri, tmp_path, outcome):
    tracker = opened(uri, tmp_path)
    tracker.finish(outcome)
    run = tracker._client.get_run(tracker.run_id)
    assert run.info.status == STATUS[outcome] and run.data.tags["bpx.outcome"] == outcome


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "sqlite:////nonexistent/a.db", "what://ever", "./mlruns"])
def test_a_store_that_cannot_be_used_is_one_line(address):
    tracker = MLflowTracker(uri=address)
    with pytest.raises(TrackingError) as error:
        tracker.connect()
    assert "\n" not in str(error.value)
    tracker.finish("crashed")


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says" * 100)
    tracker = MLflowTracker(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        tracker.connect()


def test_a_locked_database_is_said_before_training_and_outlived_during_it(uri, tmp_path, monkeypatch):
    tracker = opened(uri, tmp_path)
    monkeypatch.setattr(store, "FREE_WITHIN", 0.5)
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        late = MLflowTracker(uri=uri)
        with pytest.raises(TrackingError, match="locked"):
            late.connect()
        tracker.log(1, 0.1, {"m": 1.0})
        time.sleep(SEND_EVERY + 1.5)
        assert "mlflow.db cannot be used: database is locked" in tracker._delivery.failure
        other.execute("ROLLBACK")
    tracker.log(2, 0.2, {"m": 2.0})
    tracker.finish("finished")
    run = tracker._client.get_run(tracker.run_id)
    assert [m.step for m in tracker._client.get_metric_history(tracker.run_id, "m")] == [1, 2]
    assert run.info.status == "FINISHED"


KILLED_HALF_WAY = """
import os, signal, sys
from alembic.operations.batch import ApplyBatchImpl
make, made = ApplyBatchImpl._create, []
def half(self, *a, **k):
    made.append(0)
    if len(made) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return make(self, *a, **k)
ApplyBatchImpl._create = half
from bpx.tracking import MLflowTracker
tracker = MLflowTracker(uri=sys.argv[1])
tracker.connect()
"""


def test_a_process_killed_while_it_makes_the_schema_leaves_none(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = subprocess.run([sys.executable, "-c", KILLED_HALF_WAY, uri], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "mlflow.db").exists() and list(tmp_path.glob(".mlflow.db.new*"))
    tracker = opened(uri, tmp_path)
    tracker.finish("finished")
    assert tracker.unsent == "" and not list(tmp_path.glob(".mlflow.db.new*"))


SECOND_WRITER = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None).execute("BEGIN IMMEDIATE")
"""


def test_looking_at_a_database_gives_none_of_its_locks_back(tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"
    monkeypatch.setattr(store, "FREE_WITHIN", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as writing:
        writing.execute("CREATE TABLE t (a)")
        writing.execute("BEGIN IMMEDIATE")
        writing.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(TrackingError, match="locked"):
            store.check(f"sqlite:///{path}")  # in the process that writes, as a sweep's next trial does
        other = subprocess.run([sys.executable, "-c", SECOND_WRITER, path], capture_output=True, text=True)
        assert "database is locked" in other.stderr
        writing.execute("COMMIT")


def test_a_run_that_ends_while_it_is_looked_at_stays_as_it_ended(uri, tmp_path, monkeypatch):
    tracker = opened(uri, tmp_path)

    def ends(directory, pid):
        if directory == str(tmp_path):
            tracker.finish("finished")  # its lock is free from now on
        return directory == str(tmp_path)

    monkeypatch.setattr("bpx.tracking.liveness.is_process_dead", ends)
    later = MLflowTracker(uri=uri)
    later.connect()
    run = later._client.get_run(tracker.run_id)
    assert later.abandoned == [] and run.info.status == "FINISHED" and run.data.tags["bpx.outcome"] == "finished"


def test_a_run_that_could_not_start_is_not_left_running(uri, tmp_path):
    tracker = MLflowTracker(uri=uri)
    tracker.connect()
    bad = SimpleNamespace(**{**vars(DATA), "source": "x" * 70_000})
    with pytest.raises(TrackingError):
        tracker.start("run", {"a": 1}, {}, bad, tmp_path)
    tracker.finish("crashed")
    assert tracker._client.get_run(tracker.run_id).info.status == "FAILED"


def test_any_words_of_the_dataset_and_of_a_tag_arrive(uri, tmp_path):
    words = {"name": "n" * 600, "source": 'C:\\data "mine"\nhere'}
    tracker = opened(uri, tmp_path, SimpleNamespace(**{**vars(DATA), **words}))
    tracker.tag("mlflow.note.content", "word " * 3000)
    tracker.finish("finished")
    run = tracker._client.get_run(tracker.run_id)
    dataset = run.inputs.dataset_inputs[0].dataset
    assert json.loads(dataset.source)["uri"] == words["source"] and dataset.name == "n" * 500
    assert run.data.tags["mlflow.note.content"] == ("word " * 3000)[:8000]


def test_a_deleted_experiment_is_said_before_training(uri):
    tracker = MLflowTracker(uri=uri, experiment="gone")
    tracker.connect()
    tracker._client.delete_experiment(tracker._experiment.id)
    again = MLflowTracker(uri=uri, experiment="gone")
    with pytest.raises(TrackingError, match="experiments restore"):
        again.connect()


def network(tmp_path):
    """Model files and a dataset as the training leaves them: 4 raw features, 3 classes."""
    from hydra import compose, initialize_config_dir

    from bpx.config.plan import make_plan
    from bpx.system.tree import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        plan = make_plan(compose("config", overrides=["model.depth=1", "model.width=5"]))
    rng = np.random.default_rng(0)
    net = plan.network(4, 3)
    net.initialize(plan.initializer, rng)
    scaler = Scaler(np.full(4, 7.0), np.full(4, 3.0))
    model_files.save_model(tmp_path, net, scaler, ("a", "b", "c"))
    x = rng.normal(size=(9, 4)).astype(np.float32)
    return SimpleNamespace(**{**vars(DATA), "x_train": x, "x_test": x, "scaler": scaler, "columns": ()}), net


def test_the_model_is_logged_beside_whatever_the_caller_does_with_mlflow(uri, tmp_path, monkeypatch):
    import mlflow
    import pandas as pd

    data, net = network(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'own.db'}")
    with mlflow.start_run():
        tracker = opened(uri, tmp_path, data)
        tracker.save_model(tmp_path, data)
        assert tracker._client.get_run(tracker.run_id).info.status == "RUNNING"
        tracker.finish("finished")
        assert mlflow.active_run() is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.pyfunc.load_model(f"runs:/{tracker.run_id}/model")
    logged = tracker._client.get_logged_model(model.metadata.model_id)
    assert logged.params["a.b"] == "1" and logged.source_run_id == tracker.run_id and str(logged.status) == "READY"
    raw = data.x_test * 3 + 7
    expected = net.predict((raw - 7) / 3)
    probabilities = {"output": "probabilities"}
    np.testing.assert_allclose(model.predict(raw, probabilities), expected, rtol=1e-4)
    np.testing.assert_allclose(model.predict(pd.DataFrame(raw), probabilities), expected, rtol=1e-4)
    assert set(model.predict(raw)) <= {"a", "b", "c"}
    for kind in (np.uint8, np.int64, np.float16):
        assert model.predict(np.ones((2, 4), kind)).shape == (2,)


@pytest.mark.parametrize(
    ("code", "hint"),
    [(401, ": set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"), (404, ""), (429, ""), (503, "")],
)
def test_a_server_that_is_no_tracking_server_is_not_waited_for(code, hint):
    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracker = MLflowTracker(uri=f"http://me:secret@127.0.0.1:{server.server_port}")
        start = time.monotonic()
        with pytest.raises(TrackingError, match=f"answers {code}{hint}") as error:
            tracker.connect()
        server.shutdown()
    assert time.monotonic() - start < 10 and "secret" not in str(error.value)


@pytest.mark.slow
def test_six_processes_on_a_fresh_directory_at_once(tmp_path):
    code = (
        "import pathlib, sys, types\n"
        "from bpx.tracking import MLflowTracker\n"
        "t = MLflowTracker(); t.connect()\n"
        "d = types.SimpleNamespace(name='d', sha256='a' * 64, source='s', x_train=[0], x_test=[0])\n"
        "home = pathlib.Path(sys.argv[1]); home.mkdir()\n"
        "t.start('r', {}, {}, d, home); t.log(0, 0.0, {'m': 1.0}); t.finish('finished'); print(t.ui_command)"
    )
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    all_of_them = [subprocess.Popen([*words, f"r{i}"], cwd=tmp_path, **more) for i in range(6)]
    with ended(*all_of_them):
        for process in all_of_them:
            assert process.communicate(timeout=240) == ("mlflow ui\n", "")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 6


@pytest.mark.parametrize("folder", ["with space", "per%20cent", "ha#sh", "qu?ery", "quo'te"])
def test_the_default_store_is_in_the_directory_whatever_its_name(tmp_path, monkeypatch, folder):
    home = tmp_path / folder
    home.mkdir()
    monkeypatch.chdir(home)
    uri = store.resolve(None, home)
    assert store._file(uri) == home / "mlflow.db"
    tracker = MLflowTracker()
    assert tracker.ui_command == "mlflow ui"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert store._file(store.resolve(None, home)) == home / "other.db"
    assert store.resolve("HTTP://x:1", home) == "http://x:1"


def test_a_name_that_needs_quoting_is_the_file_that_mlflow_opens(tmp_path, monkeypatch):
    home = tmp_path / "qu?ery 100%25"
    home.mkdir()
    monkeypatch.chdir(home)
    tracker = MLflowTracker()
    tracker.connect()
    assert (home / "mlflow.db").stat().st_size > 0


def test_a_password_is_printed_and_stored_nowhere(tmp_path, monkeypatch):
    tracker = MLflowTracker(uri="http://me:secret@host:5000/")
    tracker.run_id, tracker._experiment = "r", Experiment(None, "1")
    assert tracker.link == "http://host:5000/#/experiments/1/runs/r?workflowType=machine_learning"
    for uri in ("postgresql://me:secret@127.0.0.1:9/x", "what://me:secret@ever"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = MLflowTracker()
        assert "secret" not in tracker.ui_command
        with pytest.raises(TrackingError) as error:
            tracker.connect()
        assert "secret" not in str(error.value)


def test_a_password_goes_into_no_parameter_and_no_tag(uri, tmp_path):
    tracker = MLflowTracker(uri=uri)
    tracker.connect()
    address = "http://me:secret@host:5000"
    tracker.start("run", {"tracking.uri": address}, {"bpx.error": f"{address} is away"}, None, tmp_path)
    tracker.tag("said", address)
    tracker.finish("finished")
    run = tracker._client.get_run(tracker.run_id)
    assert run.data.params == {"tracking.uri": "http://host:5000"} and "secret" not in str(run.data.tags)


@pytest.mark.parametrize(
    ("own", "off"), [({}, True), pytest.param({"MLFLOW_DISABLE_TELEMETRY": "false"}, False, marks=pytest.mark.slow)]
)
def test_telemetry_is_off_unless_the_user_has_set_it(own, off):
    code = (
        "from bpx.tracking import library; library.import_mlflow()\n"
        "import mlflow.environment_variables as e; print(e.MLFLOW_DISABLE_TELEMETRY.get())"
    )
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_DISABLE_TELEMETRY"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, env=env | own, capture_output=True, text=True, check=True)
    assert done.stdout == f"{off}\n"


def test_a_database_server_that_never_answers_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql+psycopg://me:secret@127.0.0.1:{silent.getsockname()[1]}/db"
        start = time.monotonic()
        with pytest.raises(TrackingError, match=r"tracking\.uri: postgresql\+psycopg://127.* cannot be used"):
            store.check(address)
        with pytest.raises(UserError, match=r"hydra\.sweeper\.storage: postgresql\+psycopg://127.* cannot be used"):
            open_store(address, 20)
    assert time.monotonic() - start < 40


def test_the_experiment_is_the_key_else_the_environment_else_bpx(monkeypatch):
    assert MLflowTracker().experiment == "bpx"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the environment")
    assert MLflowTracker().experiment == "of the environment" and MLflowTracker(experiment="x").experiment == "x"


def test_a_store_that_was_moved_is_said(tmp_path):
    here, there = tmp_path / "new", tmp_path / "old" / "mlruns"
    uri = f"sqlite:///{here / 'mlflow.db'}"
    assert store.moved(uri, str(here / "mlruns" / "1")) == []
    (said,) = store.moved(uri, str(there / "1"))
    assert said.startswith("mlflow.db was moved") and str(there / "1") in said and str(here / "mlruns") in said
    for folder in (here / "mlruns", f"file:{here / 'mlruns'}", f"file://{here / 'mlruns'}"):
        (said,) = store.moved(str(folder), str(there / "1"))
        assert said.startswith("mlruns was moved") and said.endswith(f"has them in {here / 'mlruns'}")
        assert store.moved(str(folder), str(here / "mlruns" / "1")) == []
    there.mkdir(parents=True)
    assert store.moved(uri, str(there / "1")) == store.moved("http://h", str(tmp_path / "no" / "1")) == []


def test_an_address_that_is_none_is_refused_at_once():
    with pytest.raises(ValueError, match=r"tracking\.uri: .* is not a valid address"):
        MLflowTracker(uri="http://[::1")
