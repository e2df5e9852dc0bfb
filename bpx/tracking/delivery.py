"""Delivery: send the spool of a run to MLflow, in order, each entry once."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bpx.engine.model_files import class_labels
from bpx.records import Outcome
from bpx.system.files import inside, remove_temporaries
from bpx.system.run_files import CONFIG, DELIVERY, RESULT
from bpx.system.text import one_line
from bpx.tracking import library, liveness, store
from bpx.tracking.errors import TrackingError
from bpx.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

METRICS_A_BATCH = 1000
SEND_EVERY = 2.0  # seconds
ATTEMPTS = 2  # to send what is left when a run has ended
WIDE = 100  # columns without names, beyond which a model takes what is exactly a double, and no int64
STUCK_AFTER = 300.0  # seconds without a job done; a single request gives up long before
log = logging.getLogger("bpx")


class Delivery:
    """Send a run's spool in a thread, every two seconds and when the run ends; failed attempts are repeated."""

    def __init__(self, client: MlflowClient, spool: Spool, name: str) -> None:
        self.client, self.spool, self.name = client, spool, name
        self.failure = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self, within: float | None) -> None:
        """Send the rest and stop; give up if an attempt fails or makes no progress."""
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
        last = ATTEMPTS
        while last:
            last -= self._ending.wait(SEND_EVERY)
            try:
                deliver(self.client, self.spool)
                self.failure = ""
                if self._ending.is_set() and self.spool.empty:
                    return
            except Exception as error:
                self.failure = one_line(error)  # what is left waits for the next time


def deliver(client: MlflowClient, spool: Spool) -> None:
    """Send the whole spool and note what has arrived; errors of the store are raised as they are."""
    if spool.empty:
        return
    store.answers(spool.target["uri"])
    with library.quietly():
        try:
            _send_metrics(client, spool)
            while spool.todo:
                _send_jobs(client, spool)
                _send_metrics(client, spool)
        finally:  # what has arrived is noted once: if the process dies before, it is sent again, without harm
            spool.save()


def _send_jobs(client: MlflowClient, spool: Spool) -> None:
    """Send the next job, consecutive tags together."""
    tags = list(takewhile(lambda job: job[0] == "tag", spool.todo))
    if tags:
        _set_tags(client, spool, {key: value for _, key, value in tags})
    else:
        kind, *arguments = spool.todo[0]
        JOBS[kind](client, spool, *arguments)
    spool.done(len(tags) or 1)


def _send_metrics(client: MlflowClient, spool: Spool) -> None:
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


def _set_tags(client: MlflowClient, spool: Spool, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    client.log_batch(spool.target["run"], tags=[RunTag(key, value) for key, value in tags.items()])


def _artifact(client: MlflowClient, spool: Spool, path: str, folder: str) -> None:
    source = inside(spool.directory, path)
    if not source.exists():
        log.warning("%s is gone and cannot be sent", source)
        return
    send = client.log_artifacts if source.is_dir() else client.log_artifact
    send(spool.target["run"], str(source), folder or None)


def _image(client: MlflowClient, spool: Spool, path: str, key: str, step: int, when: int) -> None:
    """Log an image at a step; sending it again has no effect."""
    from PIL import Image

    source = inside(spool.directory, path)
    run_id = spool.target["run"]
    if not source.exists():
        log.warning("%s is gone and cannot be sent", source)
    elif not any(str(when) in artifact.path for artifact in client.list_artifacts(run_id, "images")):
        with Image.open(source) as image:
            client.log_image(run_id, image.convert("RGB"), key=key, step=step, timestamp=when, synchronous=True)


def _end(client: MlflowClient, spool: Spool, status: str, when: int) -> None:
    client.set_terminated(spool.target["run"], status, end_time=when)


def _model(client: MlflowClient, spool: Spool, example: dict[str, list[object]] | list[list[float]]) -> None:
    """Log a pyfunc model from raw features to classes or numbers; sending it again has no effect."""
    import mlflow.pyfunc
    import pandas as pd
    import scipy
    from mlflow.models import Model

    features: Any = pd.DataFrame(example) if isinstance(example, dict) else np.array(example)
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
        logged = _logged_model(client, spool)
        logged_as = Model(
            artifact_path=logged.artifact_location,
            run_id=run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        )
        mlflow.pyfunc.save_model(
            path=Path(scratch, "model"),
            mlflow_model=logged_as,
            python_model=str(package / "tracking" / "pyfunc_model.py"),
            artifacts={"network": str(files)},
            signature=_signature(spool.directory, features),
            input_example=features,
            model_config={"allow": []},  # only a key that is here can be set where the model is loaded
            pip_requirements=[f"numpy=={np.__version__}", f"scipy=={scipy.__version__}"],
        )
        client.log_model_artifacts(logged.model_id, str(Path(scratch, "model")))
        client.finalize_logged_model(logged.model_id, "READY")


def _signature(directory: Path, features: Any) -> ModelSignature:
    """Return what the model in a run's directory takes and gives, for ``features``, a data frame or an array.

    It is read from the files alone: the network may have parts of the user's own, which a delivery imports no module
    for.
    """
    from mlflow.models import infer_signature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    description = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    spec, classes = description["spec"], class_labels(description["class_names"])
    with np.load(directory / "model.npz", allow_pickle=False) as arrays:
        dtype = "float64" if "target_scale" in arrays else spec["dtype"]
    every_step = spec.get("settings", {}).get("loss_at") == "every"
    positions = tuple(spec["n_in"][:-1]) if every_step else ()
    if len(classes):
        answer = np.broadcast_to(classes[:1], (1, *positions))
        signature = infer_signature(features, answer, {"output": "classes"})  # or probabilities
    else:
        width = (spec["n_out"],) if spec["n_out"] > 1 else ()
        signature = infer_signature(features, np.zeros((1, *positions, *width), dtype))
    # MLflow refuses int64 where a column is double, and is slow where it may be anything: pixels are of smaller types
    unnamed = isinstance(features, np.ndarray)
    names = [None] * features.shape[1] if unnamed else list(features)
    kind: Any = "double" if unnamed and len(names) > WIDE else AnyType()  # type: ignore[no-untyped-call]
    signature.inputs = Schema([ColSpec(kind, name) for name in names])
    return signature


def _logged_model(client: MlflowClient, spool: Spool) -> LoggedModel:
    """Return the run's model in the store, created and added to its outputs if an earlier attempt has not."""
    from mlflow.entities import LoggedModelOutput

    run = client.get_run(spool.target["run"])
    experiment, run_id = run.info.experiment_id, run.info.run_id
    found = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    logged = found[0] if found else client.create_logged_model(experiment, "model", run_id, params=run.data.params)
    outputs = run.outputs.model_outputs if run.outputs else []
    if logged.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])  # refused where it is there already
    return logged


def _register(client: MlflowClient, spool: Spool, name: str) -> None:
    """Register the run's model as a version of ``name``; sending it again has no effect."""
    from mlflow.exceptions import MlflowException

    logged, run_id = _logged_model(client, spool), spool.target["run"]
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if not client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        client.create_model_version(name, logged.artifact_location, run_id, model_id=logged.model_id)


JOBS: dict[str, Callable[..., None]] = {
    "artifact": _artifact,
    "image": _image,
    "model": _model,
    "register": _register,
    "end": _end,
}


@dataclass(frozen=True)
class Sent:
    """Result of ``sync``: the run's id, and whether its process died before the run ended."""

    run: str
    interrupted: bool


def sync(directory: Path) -> Sent:
    """Send the rest of the run in ``directory``, and end it if its process died; raises TrackingError."""
    if not (directory / DELIVERY).is_file():
        raise TrackingError(f"{directory} is not the directory of a tracked run: it has no {DELIVERY}")
    try:
        inside(directory)
    except ValueError as error:
        raise TrackingError(str(error)) from error
    lock = liveness.lock_run_directory(directory, alone=True)
    try:
        remove_temporaries(directory)
        return _sync(directory)
    finally:
        lock.close()


def _sync(directory: Path) -> Sent:
    try:
        spool = Spool.load(directory)
    except ValueError as error:
        raise TrackingError(one_line(error)) from error
    uri, run_id = spool.target["uri"], spool.target["run"]
    with store.failures_reported(uri):
        store.answers(uri)
        client = library.open_client(uri)
        deliver(client, spool)
        interrupted = (directory / CONFIG).is_file() and not (directory / RESULT).is_file()
        with library.quietly():
            if interrupted and client.get_run(run_id).info.status == "RUNNING":
                client.set_tag(run_id, "bpx.outcome", Outcome.INTERRUPTED)
                client.set_terminated(run_id, "KILLED")
    return Sent(run_id, interrupted)
