"""The tracker against a real MLflow store."""

from types import SimpleNamespace

import pytest

from bpx.tracking import MLflowTracker, TrackingError
from bpx.tracking.mlflow_tracker import STATUS

DATA = SimpleNamespace(name="toy", sha256="a" * 64, source="here", x_train=range(3), x_test=range(2))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


def opened(store, directory):
    tracker = MLflowTracker(uri=store)
    tracker.connect()
    tracker.ready()
    tracker.start("run", {"a.b": 1, "long": "x" * 9000}, {"bpx.dataset": "toy"}, DATA, directory)
    return tracker


def test_every_metric_arrives_once_and_in_order(store, tmp_path):
    tracker = opened(store, tmp_path)
    for step in range(1500):
        tracker.log(step, step / 10, {"m/a": step + 0.5, "m/b": -step, "bad": float("nan"), "worse": float("inf")})
    tracker.finish("finished")
    tracker.finish("finished")
    run = tracker._client.get_run(tracker._run_id)
    history = tracker._client.get_metric_history(tracker._run_id, "m/a")
    assert [(m.step, m.value) for m in history] == [(s, s + 0.5) for s in range(1500)]
    assert run.data.tags["bpx.nonfinite_metrics"] == "3000" and "bad" not in run.data.metrics
    assert run.data.params["a.b"] == "1" and len(run.data.params["long"]) == 6000
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1500
    assert tracker._run_id in tracker.link and "mlflow ui --backend-store-uri" in tracker.ui_command


@pytest.mark.parametrize("outcome", STATUS)
def test_outcomes_have_their_status(store, tmp_path, outcome):
    tracker = opened(store, tmp_path)
    tracker.finish(outcome)
    run = tracker._client.get_run(tracker._run_id)
    assert run.info.status == STATUS[outcome] and run.data.tags["bpx.outcome"] == outcome


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "sqlite:////nonexistent/a.db", "what://ever", "./mlruns"])
def test_a_store_that_cannot_be_used_is_one_line(uri, tmp_path):
    tracker = MLflowTracker(uri=uri)
    tracker.connect()
    with pytest.raises(TrackingError) as error:
        tracker.ready()
    assert "\n" not in str(error.value)
    tracker.finish("crashed")


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says" * 100)
    tracker = MLflowTracker(uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracker.connect()
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        tracker.ready()
