"""A multirun over seeds: its parent has the mean and the spread of its runs."""

import csv
import statistics

import mlflow
import pytest

from bpx.records import read_metrics

WORDS = ["-m", "seed=0,1,2", "epochs=2", "model.width=10", "dataset.val_size=0.2", "progress=false"]
SPARING = ["tracking.figures=false", "tracking.model=false", "probes=light", "checkpoint.keep=0"]


def rows(home):
    (path,) = home.glob("outputs/*/*/seeds.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return path.parent, list(csv.DictReader(file))


def test_mean_and_spread_stand_on_a_parent_run(called, tmp_path):
    done = called("bpx.train", *WORDS, *SPARING)
    assert (done.code, done.err) == (0, "")
    directory, found = rows(tmp_path)
    assert [row["seed"] for row in found] == ["0", "1", "2"] and len({row["cost/test"] for row in found}) == 3
    costs = [float(row["cost/val"]) for row in found]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 4 and parent.info.status == "FINISHED" and parent.data.params["seed"] == "0,1,2"
    assert parent.data.metrics["mean/cost/val"] == pytest.approx(statistics.mean(costs))
    assert parent.data.metrics["std/cost/val"] == pytest.approx(statistics.stdev(costs))
    histories = [read_metrics(path)["cost/val"] for path in directory.glob("runs/*/metrics.jsonl")]
    history = client.get_metric_history(parent.info.run_id, "mean/cost/val")
    assert [m.step for m in history] == histories[0][0].tolist()
    assert history[0].value == pytest.approx(statistics.mean(values[0] for _, values in histories))
    assert {a.path for a in client.list_artifacts(parent.info.run_id)} >= {"figures", "seeds.csv", "provenance.json"}
    assert parent.data.tags["mlflow.source.type"] == "LOCAL" and parent.data.tags["mlflow.user"]
    assert (directory / "figures" / "seeds.png").stat().st_size > 10_000
    assert f"cost/val {statistics.mean(costs):.4g} ± {statistics.stdev(costs):.2g}" in done.out


def test_runs_that_differ_in_more_than_the_seed_are_groups_of_their_own(called, tmp_path):
    done = called("bpx.train", *WORDS, "optimizer.lr=0.01,1e9", *SPARING, "tracking=none")
    assert (done.code, done.err) == (0, "")
    _, found = rows(tmp_path)
    assert [(row["runs"], row["seed"]) for row in found] == [
        (f"optimizer.lr={rate}", str(seed)) for rate in ("0.01", "1000000000.0") for seed in range(3)
    ]
    assert [row["outcome"] for row in found] == ["finished"] * 3 + ["diverged"] * 3
    assert "seeds     optimizer.lr=0.01 (3 seeds)" in done.out and "3 of 3 diverged" in done.out


def test_one_seed_is_a_multirun_as_any_other(called, tmp_path):
    done = called("bpx.train", "-m", "seed=3", "max_steps=5", "optimizer.lr=0.01,0.02", *SPARING, "tracking=none")
    assert done.code == 0 and "seeds" not in done.out


def test_a_seed_that_cannot_run_is_one_line(called):
    done = called("bpx.train", "-m", "seed=0,-1", "epochs=2", "tracking=none")
    assert done.code == 2 and done.err == "error: seed must be at least 0, got -1\n" and done.made == []
