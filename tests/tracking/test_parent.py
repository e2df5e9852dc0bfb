"""A study's parent run against a real MLflow store, and without one."""

import pytest

from bpx.tracking import LocalTracker, MLflowTracker, TrackingError

# MLflow's own, when its pyfunc is first imported
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def child(uri, parent, directory, metrics, outcome):
    directory.mkdir()
    tracker = MLflowTracker(uri=uri, parent=parent)
    tracker.connect()
    tracker.start(directory.name, {"a": 1}, {}, None, directory)
    tracker.log(3, 0.5, metrics)
    tracker.finish(outcome)


def test_a_study_and_its_runs(uri, tmp_path):
    with MLflowTracker(uri=uri).begin_study("study", {"n": 2}, {"bpx.kind": "study"}, tmp_path / "study") as parent:
        child(uri, parent.run_id, tmp_path / "one", {"cost/val": 0.5}, "finished")
        child(uri, parent.run_id, tmp_path / "two", {"cost/val": 0.25}, "pruned")
        child(uri, None, tmp_path / "stranger", {"cost/val": 9.0}, "finished")
        found = parent.children()
        parent.log(0, 0.0, {"best/cost/val": 0.25})
        parent.log(1, 0.0, {"best/cost/val": 0.125})
        (tmp_path / "study" / "a.txt").write_text("a")
        parent.artifact(tmp_path / "study" / "a.txt", "figures")
        parent.tag("mlflow.note.content", "found")
    assert [(c.name, c.status, c.metrics, c.params) for c in found] == [
        ("one", "FINISHED", {"cost/val": 0.5}, {"a": "1"}),
        ("two", "KILLED", {"cost/val": 0.25}, {"a": "1"}),
    ]
    assert found[1].tags["bpx.outcome"] == "pruned"
    again = MLflowTracker(uri=uri).begin_study("study", {"n": 2}, {}, tmp_path / "study", run_id=parent.run_id)
    run = again._client.get_run(parent.run_id)
    assert run.info.status == "RUNNING" and run.data.metrics == {"best/cost/val": 0.125}
    assert run.data.tags["mlflow.note.content"] == "found" and len(again.children()) == 2
    assert again.run_id == parent.run_id
    again.finish("finished")
    run = again._client.get_run(parent.run_id)
    assert run.info.status == "FINISHED" and run.info.end_time is not None


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_a_study_that_breaks_is_not_left_running(uri, tmp_path, error, status):
    parent = MLflowTracker(uri=uri).begin_study("study", {}, {}, tmp_path / "study")
    with pytest.raises(error), parent:
        raise error
    assert parent._client.get_run(parent.run_id).info.status == status


def test_a_run_that_is_gone_is_begun_anew(uri, tmp_path):
    with MLflowTracker(uri=uri).begin_study("study", {}, {}, tmp_path / "study", run_id="0" * 32) as parent:
        assert parent.run_id not in (None, "0" * 32)


def test_a_run_left_behind_is_ended(uri, tmp_path):
    with MLflowTracker(uri=uri).begin_study("study", {}, {}, tmp_path / "study") as parent:
        child(uri, parent.run_id, tmp_path / "one", {}, "finished")
        left = MLflowTracker(uri=uri, parent=parent.run_id)
        left.connect()
        left.start("left", {}, {}, None, tmp_path)
        (found,) = parent.children(running=True)
        parent.end(found, "interrupted")
        assert [(c.name, c.status) for c in parent.children()] == [("one", "FINISHED"), ("left", "KILLED")]
        left.detach()


def test_without_a_store_it_stays_in_the_directory(tmp_path):
    with LocalTracker().begin_study("study", {}, {}, tmp_path / "deep" / "study") as parent:
        parent.log(0, 0.0, {"a": 1.0})
        parent.tag("a", "b")
        assert parent.run_id is None and parent.children() == []
    assert '"a": 1.0' in (tmp_path / "deep" / "study" / "metrics.jsonl").read_text()


def test_a_parent_that_is_not_there_is_said_before_the_run(uri, tmp_path):
    tracker = MLflowTracker(uri=uri, parent="nobody")
    with pytest.raises(TrackingError, match=r"tracking\.parent: sqlite.*has no run nobody"):
        tracker.connect()
