"""Kill -9 a run while it closes, before and after every file and every message; it ends as if nobody had touched it.

BPX_TORTURE is the number of kills for each outcome and store: 2 unless told otherwise, every moment from 30 on.
"""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import call
from hydra import compose, initialize_config_dir
from test_closing import OUTCOMES, WORDS, Pruner, everything, server, sqlite

from bpx.runs.execution import Execution
from bpx.runs.run import train_run
from bpx.system.tree import CONF
from bpx.tracking import MLflowTracker, library

__all__ = ["server", "sqlite"]  # fixtures

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")]

KILLS = int(os.environ.get("BPX_TORTURE", "2"))
EVERY = 30  # kills, from which on every moment is tried
PROCESSES = multiprocessing.get_context("forkserver")  # forked from a process that has no store open
PROCESSES.set_forkserver_preload(["mlflow.pyfunc", "test_killed_in_closing"])


class Moments:
    """Count the moments of a closing, and kill this process at the n-th."""

    def __init__(self, n):
        self.n, self.passed, self.closing = n, 0, False

    def __call__(self):
        if self.closing:
            if self.passed == self.n:
                os.kill(os.getpid(), signal.SIGKILL)
            self.passed += 1

    def around(self, function):
        def watched(*words, **more):
            self()
            answer = function(*words, **more)
            self()
            return answer

        return watched


class Watched:
    """A client each of whose calls is two moments."""

    def __init__(self, client, moments):
        self._client, self._moments = client, moments

    def __getattr__(self, name):
        return self._moments.around(getattr(self._client, name))


def train(home, uri, outcome, n):
    """Train a run, in a process of its own, and kill it at the n-th moment of its closing; leave their number."""
    os.chdir(home)
    moments = Moments(n)
    close, connect = Execution._close, MLflowTracker.connect

    def closing(self, event):
        moments.closing = True
        return close(self, event)

    def connected(self, address=""):
        connect(self, address)
        self._client = Watched(self._client, moments)

    Execution._close, MLflowTracker.connect = closing, connected
    Path.replace = moments.around(Path.replace)
    words = [*WORDS, *OUTCOMES[outcome][1], f"tracking.uri={uri}"]
    if outcome == "pruned":
        words.append("checkpoint.keep=0")  # as in a sweep
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=words)
    watcher = Pruner() if outcome == "pruned" else None
    train_run(config, "default", Path("outputs"), words, quiet=True, watcher=watcher)
    Path("moments").write_text(str(moments.passed))


def trained(home, uri, outcome, n):
    """Return the run's directory and whether it was killed."""
    home.mkdir()
    process = PROCESSES.Process(target=train, args=(home, uri, outcome, n))
    process.start()
    process.join(300)
    assert process.exitcode in (0, -signal.SIGKILL)
    (directory,) = (home / "outputs").iterdir()
    return directory, process.exitcode != 0


def left(client, directory):
    """What a run leaves in its directory and in the store, but for times and names of its own."""
    run_id = (directory / "mlflow_run_id").read_text().strip()
    status, tags, history, counts, *rest = everything(client, run_id)
    result = json.loads((directory / "result.json").read_text())
    result["metrics"].pop("time/train_seconds")
    nonfinite = directory / "nonfinite.json"
    frames = json.loads(nonfinite.read_text()) if nonfinite.exists() else None
    with np.load(directory / "model.npz") as model:
        weights = {name: model[name].tobytes() for name in model}
    timeless = {point for point in history if not point[0].startswith("time/")}
    files = sorted(path.name for path in directory.iterdir() if path.name != "checkpoints")
    return status, tags, timeless, counts, rest, result, frames, weights, files


@pytest.mark.parametrize("store", ["sqlite", "server"])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_killed_while_it_closes_it_ends_as_if_untouched(outcome, store, request, tmp_path):
    uri = request.getfixturevalue(store)
    client = library.import_mlflow().MlflowClient(uri)
    untouched, killed = trained(tmp_path / "untouched", uri, outcome, -1)
    expected = left(client, untouched)
    assert not killed and expected[0] == OUTCOMES[outcome][0] and expected[1]["bpx.outcome"] == outcome
    assert expected[4][1] == ["READY"]  # exactly one model
    moments = int((tmp_path / "untouched" / "moments").read_text())
    assert moments > 30
    chosen, seed = list(range(moments - 1)), time.time_ns()
    print(f"{moments} moments, seed {seed}")
    if KILLS < EVERY:
        chosen = sorted(random.Random(seed).sample(chosen, KILLS))
    n_killed = 0
    for n in chosen:
        directory, killed = trained(tmp_path / str(n), uri, outcome, n)
        n_killed += killed  # how many messages a thread sends while it closes varies by a few
        if killed:
            done = call(tmp_path / str(n), "bpx.train", f"resume={directory}")
            assert (done.code, done.err) == (0, ""), (n, done)
        assert left(client, directory) == expected, f"killed at moment {n} of {moments}"
        assert call(tmp_path / str(n), "bpx.train", f"resume={directory}").code == 0  # once more changes nothing
        assert left(client, directory) == expected
    assert n_killed >= len(chosen) - 3
