"""Kill a run again and again, at any moment; it ends as if nobody had ever touched it.

BPX_TORTURE is the number of kills: 4 unless told otherwise, 30 for the whole torture.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bpx import records
from bpx.records.records import COLUMNS

KILLS = int(os.environ.get("BPX_TORTURE", "4"))
WORDS = [
    *("batch_size=8", "optimizer=adam", "schedule=plateau", "dropout=inverted", "dropout.rate=0.2", "dtype=float64"),
    *("normalization=batch", "probes=standard", "probes.every=7", "dataset.val_size=0.2", "progress=false"),
    *("tracking.figures=false", "checkpoint.every=3", "checkpoint.unit=steps", "checkpoint.best=cost/val"),
]


def begin(home, *words):
    command = [sys.executable, "-m", "bpx.train", *words]
    return subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def directories(home):
    return sorted(p.parent.parent for p in home.glob("outputs/*/*/config/config.yaml"))


def everything(home, directory):
    """What a run left: metrics (local and in MLflow), theta, the record."""
    from mlflow import MlflowClient

    local = {}
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name, value in record["metrics"].items():
            assert (name, record["step"]) not in local, f"{name} is logged twice at step {record['step']}"
            local[name, record["step"]] = value
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run((directory / "mlflow_run_id").read_text().strip())
    assert run.info.status == "FINISHED" and run.data.tags["bpx.outcome"] == "finished"
    sent = [
        ((m.key, m.step), m.value)
        for name in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, name)
    ]
    assert sorted(sent) == sorted(local.items()), "MLflow holds something else than the local record"
    model = np.load(directory / "model.npz")
    rows = records.read(directory / "gradient_flow.parquet")
    own = {key: value for key, value in local.items() if key[0] != "time/train_seconds"}
    columns = [getattr(rows, name).tolist() for name in COLUMNS[:-1]]
    return own, {name: model[name].tobytes() for name in model}, columns, rows.value.tobytes()


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_as_if_untouched(tmp_path):
    rng = random.Random(time.time_ns())
    words = [*WORDS, f"max_steps={150 + 150 * KILLS}", "epochs=100"]
    untouched = tmp_path / "untouched"
    untouched.mkdir()
    process = begin(untouched, *words)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    home = tmp_path / "tortured"
    home.mkdir()
    kills = []
    while True:
        known = directories(home)
        process = begin(home, f"resume={known[0]}") if known else begin(home, *words)
        if len(kills) < KILLS:
            delay = _moment(rng, home, known)
            number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            time.sleep(delay)
            process.send_signal(number)
            said = process.communicate(timeout=60)
            kills.append((number.name, round(delay, 2), process.returncode))
            assert process.returncode in (-number, 128 + number, 0), said
            if process.returncode == 0:  # it was quicker; killed behind its result, it has the rest to send
                break
        else:
            said = process.communicate(timeout=600)
            assert process.returncode == 0, said
            break
    (directory,) = directories(home)
    print("kills:", kills)
    assert everything(home, directory) == everything(untouched, directories(untouched)[0])


def _moment(rng, home, known):
    """Choose how long to wait: in one of four cases from the start, else from the first sign of training."""
    if rng.random() < 0.25:
        return rng.uniform(0.2, 4)
    before = _signs(home)
    for _ in range(400):
        if _signs(home) != before:
            break
        time.sleep(0.02)
    return rng.uniform(0, 1)


def _signs(home):
    """What changes when training goes on."""
    return sorted(p.name for p in home.glob("outputs/*/*/checkpoints/step-*"))


@pytest.mark.slow
def test_two_at_once_on_a_fresh_directory(tmp_path):
    from mlflow import MlflowClient

    for turn in range(max(2, KILLS // 3)):  # ten of the whole torture
        home = tmp_path / str(turn)
        home.mkdir()
        words = ["epochs=1", "tracking.figures=false", "tracking.model=false", "progress=false"]
        both = [begin(home, *words) for _ in range(2)]
        for process in both:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0 and errors == "", errors
        client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
        runs = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 2
        found = {(d / "mlflow_run_id").read_text().strip() for d in directories(home)}
        assert found == {run.info.run_id for run in runs}
        for directory in directories(home):
            everything(home, directory)
