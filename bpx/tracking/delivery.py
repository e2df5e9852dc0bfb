"""Delivery: what waits in a run's spool is sent to MLflow, in order, each thing once."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bpx.tracking import alive, store
from bpx.tracking.errors import TrackingError
from bpx.tracking.spool import FILE, Spool

METRICS_A_BATCH = 1000
SEND_EVERY = 2.0  # seconds
STUCK_AFTER = 300.0  # seconds without a job done; a single request gives up long before
log = logging.getLogger("bpx")


class Delivery:
    """Send a run's spool in a thread, every two seconds and when the run ends; what fails is tried again."""

    def __init__(self, client: Any, spool: Spool, name: str) -> None:
        self.client, self.spool, self.name = client, spool, name
        self.failure = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self, within: float | None) -> None:
        """Send what is left and stop; give up when an attempt fails, or nothing arrives any more."""
        self._ending.set()
        start = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.05)
            waited = time.monotonic() - start
            stuck = time.monotonic() - max(self.spool.changed, start) > STUCK_AFTER
            if stuck or (within is not None and waited > within):
                self.failure = self.failure or f"the tracking store {self.name} takes too long"
                break

    def _run(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(SEND_EVERY)
            try:
                deliver(self.client, self.spool)
                self.failure = ""
            except Exception as error:
                self.failure = one_line(error)  # what is left waits for the next time


def deliver(client: Any, spool: Spool) -> None:
    """Send all that waits; raises whatever a store that cannot be used raises, what has arrived being noted."""
    if spool.empty:
        return
    store.answers(spool.target["uri"])
    with quietly():
        while True:
            _send_metrics(client, spool)
            if not spool.todo:
                return
            kind, *arguments = spool.todo[0]
            JOBS[kind](client, spool, *arguments)
            spool.done()


def _send_metrics(client: Any, spool: Spool) -> None:
    from mlflow.entities import Metric

    lines, end = spool.next_lines()
    while lines:
        points = [
            Metric(key, value, line["at"], line["step"]) for line in lines for key, value in line["metrics"].items()
        ]
        for i in range(0, len(points), METRICS_A_BATCH):  # the same point, sent twice, is one point
            client.log_batch(spool.target["run"], metrics=points[i : i + METRICS_A_BATCH])
        spool.arrived(end)
        lines, end = spool.next_lines()


def _tag(client: Any, spool: Spool, key: str, value: str) -> None:
    client.set_tag(spool.target["run"], key, value)


def _artifact(client: Any, spool: Spool, path: str, folder: str) -> None:
    source = spool.directory / path
    if not source.exists():
        log.warning("%s is gone and cannot be sent", source)
        return
    send = client.log_artifacts if source.is_dir() else client.log_artifact
    send(spool.target["run"], str(source), folder or None)


def _end(client: Any, spool: Spool, status: str, when: int) -> None:
    client.set_terminated(spool.target["run"], status, end_time=when)


def _model(client: Any, spool: Spool, example: list[list[float]], model_id: str = "") -> None:
    """Log a pyfunc model that takes raw features and gives the network's outputs."""
    import mlflow.pyfunc
    import scipy
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model, infer_signature
    from mlflow.types import ColSpec, Schema

    from bpx.engine.model_files import load_model

    features = np.array(example)
    # columns of doubles take every numeric type, a tensor would take its own alone
    with np.errstate(all="ignore"):  # a thread does not inherit what training ignores, and the run may have diverged
        signature = infer_signature(features, load_model(spool.directory).predict(features))
    signature.inputs = Schema([ColSpec("double") for _ in range(features.shape[1])])
    package, run_id = Path(__file__).resolve().parent.parent, spool.target["run"]
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch, "network")
        shutil.copytree(
            package / "engine", files / "code" / "bpx" / "engine", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(package / "__init__.py", files / "code" / "bpx")
        for name in ("model.json", "model.npz"):
            shutil.copy(spool.directory / name, files)
        # through the client alone: MLflow's own way would end the run, and share its state with our caller's
        if model_id:
            logged = client.get_logged_model(model_id)  # an earlier attempt ended before all of it was there
        else:
            params = client.get_run(run_id).data.params
            logged = client.create_logged_model(spool.target["experiment"], "model", run_id, params=params)
            spool.replace("model", example, logged.model_id)
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        description = Model(
            artifact_path=logged.artifact_location,
            run_id=run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        )
        mlflow.pyfunc.save_model(
            path=Path(scratch, "model"),
            mlflow_model=description,
            python_model=str(package / "tracking" / "pyfunc_model.py"),
            artifacts={"network": str(files)},
            signature=signature,
            input_example=features,
            pip_requirements=[f"numpy=={np.__version__}", f"scipy=={scipy.__version__}"],
        )
        client.log_model_artifacts(logged.model_id, str(Path(scratch, "model")))
        client.finalize_logged_model(logged.model_id, "READY")


JOBS: dict[str, Callable[..., None]] = {"tag": _tag, "artifact": _artifact, "model": _model, "end": _end}


def one_line(error: BaseException) -> str:
    """Return the first line of what an error says."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[0].split()) if lines else type(error).__name__


@contextmanager
def quietly() -> Iterator[None]:
    """Keep MLflow from printing progress bars and links, and from trying for minutes to reach a dead server."""
    words = {
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    }
    before = {name: os.environ.get(name) for name in words}
    os.environ.update(words)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def sync(directory: Path) -> str:
    """Send what the run in ``directory`` could not, and return its MLflow id; raises TrackingError."""
    if not (directory / FILE).is_file():
        raise TrackingError(f"{directory} is no directory of a run that is tracked: it has no {FILE}")
    lock = alive.hold(directory, alone=True)
    try:
        return _sync(directory)
    finally:
        lock.close()


def _sync(directory: Path) -> str:
    try:
        spool = Spool.load(directory)
        for kind, *arguments in spool.todo:  # the directory may be anybody's: no file from outside it is sent
            inside = directory.resolve()
            if kind not in JOBS or (
                kind == "artifact" and not (inside / arguments[0]).resolve().is_relative_to(inside)
            ):
                raise ValueError(f"{directory / FILE} asks for what is not sent: {kind} {arguments[:1]}")
    except (ValueError, TypeError, IndexError) as error:
        raise TrackingError(one_line(error)) from error
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        store.answers(spool.target["uri"])
        deliver(MlflowClient(tracking_uri=spool.target["uri"]), spool)
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(f"{store.shown(spool.target['uri'])} cannot be used: {one_line(error)}") from error
    return spool.target["run"]
