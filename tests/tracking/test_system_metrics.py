"""The machine's load beside a run's metrics."""

import pytest

from bpx.tracking import system_metrics
from bpx.tracking.mlflow_tracker import MLflowTracker
from bpx.tracking.system_metrics import EVERY, SystemMetrics

pytest.importorskip("psutil")


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(system_metrics.time, "monotonic", lambda: now[0])
    return now


def test_they_are_sampled_every_ten_seconds(clock):
    metrics = SystemMetrics()
    assert metrics.sample() == {}
    clock[0] = EVERY
    found = metrics.sample()
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert found["system/system_memory_usage_megabytes"] > 0
    assert metrics.sample() == {}


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_of_more_than_ten_seconds_has_them_if_it_wants_them(tmp_path, clock, wanted):
    tracker = MLflowTracker(uri=f"sqlite:///{tmp_path}/mlflow.db", system_metrics=wanted)
    tracker.connect()
    tracker.start("a", {}, {}, None, tmp_path)
    tracker.log(1, 0.1, {"cost/train": 1.0})
    clock[0] += EVERY
    tracker.log(2, 0.2, {"cost/train": 0.5})
    tracker.finish("finished")
    stored = tracker._client.get_run(tracker.run_id).data.metrics
    assert stored["cost/train"] == 0.5 and ("system/cpu_utilization_percentage" in stored) == wanted
    history = tracker._client.get_metric_history(tracker.run_id, "system/cpu_utilization_percentage")
    assert [metric.step for metric in history] == [2] * wanted
