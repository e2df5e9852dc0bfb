"""Kill a run at every message of its closing: sent again, the store holds what an untouched run leaves."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from hydra import compose, initialize_config_dir
from sweeping import answers, ended, free_port

from bpx.runs.resume import find_run_to_resume
from bpx.runs.run import train_run
from bpx.system.tree import CONF
from bpx.tracking import MLflowTracker, TrackingError, delivery, library
from bpx.tracking.delivery import deliver, sync
from bpx.tracking.spool import Spool

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")]

WORDS = ["dataset=classification", "epochs=3", "tracking.figures=false", "progress=false", "checkpoint.every=1"]
OUTCOMES = {
    "finished": ("FINISHED", []),
    "diverged": ("FINISHED", ["optimizer.lr=1e30"]),
    "pruned": ("KILLED", []),
}
DATA = SimpleNamespace(name="toy", sha256="a" * 64, source="here", x_train=range(3), x_test=range(2))
OWN = {"bpx.run_directory", "bpx.pid", "bpx.host", "mlflow.runName"}  # of a run, not of what it found


class Killed(BaseException):
    """What no code of ours catches: the process is gone."""


class Pruner:
    """Follow a run and end it as pruned at the second record."""

    tags = property(lambda self: {})
    seen = 0

    def started(self, run_id, directory, dataset):
        pass

    def observed(self, metrics):
        self.seen += 1
        return self.seen == 2


class Dying:
    """A client whose process dies when its n-th call has taken effect, before anybody has noted that."""

    def __init__(self, client, n):
        self._client, self.left = client, n

    def __getattr__(self, name):
        call = getattr(self._client, name)

        def counted(*words, **more):
            answer = call(*words, **more)
            self.left -= 1
            if self.left == 0:
                raise Killed(name)
            return answer

        return counted


def train(home, uri, outcome, monkeypatch):
    monkeypatch.chdir(home)
    words = [*WORDS, *OUTCOMES[outcome][1], f"tracking.uri={uri}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=words)
    watcher = Pruner() if outcome == "pruned" else None
    done = train_run(config, "default", Path("outputs"), words, quiet=True, watcher=watcher)
    assert done.outcome == outcome
    return done.directory.absolute()


def refused(client, spool):
    raise ConnectionError("not now")


def unsent(home, uri, outcome):
    """A run that is over and of which the store has nothing but that it was opened."""
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "deliver", refused)
        return train(home, uri, outcome, patch)


def once_more(directory, client, n):
    """The same run as another one of the store, in a directory of its own."""
    copy = directory.with_name(f"{directory.name}-{n}")
    shutil.copytree(directory, copy)
    held = json.loads((copy / "delivery.json").read_text())
    held["target"]["run"] = client.create_run(held["target"]["experiment"]).info.run_id
    (copy / "delivery.json").write_text(json.dumps(held))
    return copy


def files(client, run_id, path=None):
    for artifact in client.list_artifacts(run_id, path):
        if artifact.is_dir:
            yield from files(client, run_id, artifact.path)
        else:
            yield artifact.path, artifact.file_size


def everything(client, run_id):
    """What the store holds of a run: status, tags, metrics, artifacts, its models and their files."""
    run = client.get_run(run_id)
    models = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    outputs = {output.model_id for output in run.outputs.model_outputs}
    assert outputs == {model.model_id for model in models} and len(run.outputs.model_outputs) == len(models)
    history = {(key, m.step, m.value) for key in run.data.metrics for m in client.get_metric_history(run_id, key)}
    counts = {key: len(client.get_metric_history(run_id, key)) for key in run.data.metrics}
    own = {key: value for key, value in run.data.tags.items() if key not in OWN and "log-model" not in key}
    found = {path for path, _ in files(client, run_id)}
    of_models = [sorted(a.path for a in client.list_logged_model_artifacts(m.model_id)) for m in models]
    statuses = [str(model.status) for model in models]
    return run.info.status, own, history, counts, found, statuses, of_models


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def server(tmp_path_factory, new_store):
    home, port = tmp_path_factory.mktemp("server"), free_port()
    new_store(f"sqlite:///{home}/mlflow.db")
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, cwd=home, start_new_session=True, **quiet)
    with ended(process):
        answers(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_killed_at_every_call_of_closing(outcome, sqlite, tmp_path):
    directory = unsent(tmp_path / "run", sqlite, outcome)
    client = library.import_mlflow().MlflowClient(sqlite)
    untouched = once_more(directory, client, 0)
    expected = everything(client, sync(untouched).run)
    status, tags, _, _, found, models, _ = expected
    assert (status, tags["bpx.outcome"], models) == (OUTCOMES[outcome][0], outcome, ["READY"])
    assert {"config/config.yaml", "train.log", "gradient_flow.parquet"} <= found
    assert ("nonfinite.json" in found) == (outcome == "diverged")
    kills = 0
    while True:
        copy = once_more(directory, client, kills + 1)
        try:
            deliver(Dying(client, kills + 1), Spool.load(copy))
        except Killed:
            kills += 1
        else:
            break
        assert everything(client, sync(copy).run) == expected, f"after {kills} calls"
        assert sync(copy).interrupted is False  # once more changes nothing
    print(f"killed after each of {kills} calls")
    assert kills > 12  # several tags are one call


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_answer_of_a_server_is_lost_once(outcome, server, tmp_path, monkeypatch):
    directory = unsent(tmp_path / "run", server, outcome)
    client = library.import_mlflow().MlflowClient(server)
    expected = everything(client, sync(once_more(directory, client, 0)).run)
    assert (expected[0], expected[1]["bpx.outcome"]) == (OUTCOMES[outcome][0], outcome)
    copy, send, lost = once_more(directory, client, 1), requests.Session.send, []
    left = [0]

    def without_answer(self, request, **more):
        answer = send(self, request, **more)
        left[0] -= 1
        if left[0] == 0:
            answer.close()  # nobody will read the rest
            lost.append(f"{request.method} {request.path_url}")
            raise Killed if len(lost) % 2 else requests.ConnectionError("the answer was lost")
        return answer

    monkeypatch.setattr(requests.Session, "send", without_answer)
    at = 0
    while True:
        at += 1
        left[0], before = at, len(lost)
        with suppress(Killed, TrackingError, Exception):
            deliver(client, Spool.load(copy))
        if len(lost) == before and Spool.load(copy).empty:
            break
        if Spool.load(copy).todo and len(lost) > 200:
            pytest.fail("it comes to no end")
    left[0] = 0
    print(f"{len(lost)} answers lost")
    assert len(lost) > 20 and any("logged-models" in request for request in lost)
    assert everything(client, sync(copy).run) == expected


def test_killed_at_every_call_of_opening(sqlite, tmp_path):
    def opened(home, n):
        tracker = MLflowTracker(uri=sqlite, experiment="opening")
        tracker.connect()
        tracker.claim(home)
        client = tracker._client
        tracker._client = dying = Dying(client, n)
        tracker._experiment = replace(tracker._experiment, client=dying)
        try:
            tracker.start("run", {"a": 1, "b": 2}, {"bpx.dataset": "toy"}, DATA, home)
        except Killed:
            tracker.detach()
            return None, client
        dying.left = 0  # from here on it lives
        tracker.finish("finished")
        return tracker.run_id, client

    for n in range(1, 20):
        home = tmp_path / str(n)
        home.mkdir()
        at_once, client = opened(home, n)
        run_id = at_once or opened(home, 0)[0]
        run = client.get_run(run_id)
        assert run.data.params == {"a": "1", "b": "2"} and run.info.status == "FINISHED"
        assert len(run.inputs.dataset_inputs) == 1 and (home / "mlflow_run_id").read_text().strip() == run_id
        assert len(client.search_runs([run.info.experiment_id])) == n
        if at_once:
            break
    assert n > 3


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_killed_before_all_is_in_the_spool_it_ends_as_if_untouched(outcome, sqlite, tmp_path, monkeypatch):
    for name in ("untouched", "killed"):
        (tmp_path / name).mkdir()
    untouched = train(tmp_path / "untouched", sqlite, outcome, monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MLflowTracker, "conclude", lambda self, how: (_ for _ in ()).throw(Killed()))
        patch.setattr(MLflowTracker, "finish", lambda self, how, within=None: self.detach())
        train(tmp_path / "killed", sqlite, outcome, patch)
    (killed,) = (tmp_path / "killed" / "outputs").iterdir()
    assert not (killed / "result.json").exists()
    monkeypatch.chdir(tmp_path)
    again = find_run_to_resume(str(killed), [f"resume={killed}"])
    assert again.outcome is None and again.address == sqlite
    assert train_run(again.config, "", killed.parent, [], resume_from=again, quiet=True).outcome == outcome
    client = library.import_mlflow().MlflowClient(sqlite)

    def timeless(directory):
        run_id = (directory / "mlflow_run_id").read_text().strip()
        status, tags, history, counts, *rest = everything(client, run_id)
        result = json.loads((directory / "result.json").read_text())
        result["metrics"].pop("time/train_seconds")
        return status, tags, {h for h in history if not h[0].startswith("time/")}, counts, rest, result

    assert timeless(killed) == timeless(untouched)
    assert (killed / "model.npz").read_bytes() == (untouched / "model.npz").read_bytes()
    frames = [
        (d / "nonfinite.json").exists() and json.loads((d / "nonfinite.json").read_text()) for d in (killed, untouched)
    ]
    assert frames[0] == frames[1]
