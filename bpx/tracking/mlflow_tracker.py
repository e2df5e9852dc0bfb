"""MLflow: the run as its parameters, metrics, artifacts and model, sent by a thread in the background."""

from __future__ import annotations

import json
import logging
import os
import queue
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpx.tracking import store
from bpx.tracking.tracker import Child, Tracker, TrackingError

STATUS = {
    "finished": "FINISHED",
    "diverged": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "crashed": "FAILED",
}
METRICS_A_BATCH, PARAMS_A_BATCH, RUNS_A_PAGE = 1000, 100, 1000
LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 8000, 500
ANSWER_WITHIN = 4.0  # seconds; MLflow's own retries would take minutes
SEND_EVERY = 2.0  # seconds


@dataclass
class MLflowTracker(Tracker):
    """Send a run to MLflow: to ``uri``, else MLFLOW_TRACKING_URI, else MLflow's default in this directory.

    Reaching the store (the import, the schema) overlaps with whatever the caller does between ``connect`` and
    ``start``. Metrics wait in a queue and are sent in batches.
    """

    uri: str | None = None
    experiment: str = "bpx"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._default = store.default(Path.cwd())
        self._uri = store.resolve(self.uri, Path.cwd())
        self._run_id = self._experiment_id = ""
        self._queue: queue.SimpleQueue[tuple[int, int, dict[str, float]] | None] = queue.SimpleQueue()
        self._opened: Future[Any] = Future()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._ended = False

    @property
    def run_id(self) -> str | None:
        """The run's id in MLflow."""
        return self._run_id or None

    @property
    def address(self) -> str:
        """The store's URI, the same from wherever it is used."""
        return self._uri

    @property
    def link(self) -> str:
        """The run's page in MLflow's interface, in the view for training."""
        base = store.shown(self._uri) if store.is_server(self._uri) else "http://127.0.0.1:5000"
        page = f"experiments/{self._experiment_id}/runs/{self._run_id}?workflowType=machine_learning"
        return f"{base.rstrip('/')}/#/{page}" if self._run_id else ""

    @property
    def ui_command(self) -> str:
        """The command that starts MLflow's interface for this store, empty where a server runs already."""
        if store.is_server(self._uri):
            return ""
        where = "" if self._uri == self._default else f" --backend-store-uri {shlex.quote(self._uri)}"
        return f"mlflow ui{where}"

    def connect(self) -> None:
        """Begin to import MLflow and to open the store, in a thread."""
        threading.Thread(target=self._connect, daemon=True).start()

    def ready(self) -> None:
        """Wait until the store is reached; raises TrackingError."""
        self._client = self._opened.result()

    def start(self, name: str, params: dict[str, Any], tags: dict[str, str], data: Any, directory: Path) -> None:
        """Open the run with its parameters, tags and dataset; raises TrackingError."""
        from mlflow.entities import Param

        if self.parent is not None:
            tags = tags | {"mlflow.parentRunId": self.parent}
        with self._reported():
            short = {key: value[:LONGEST_TAG] for key, value in tags.items()}
            run = self._client.create_run(self._experiment_id, run_name=name, tags=short)
            self._run_id = run.info.run_id
            pairs = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in params.items()]
            for i in range(0, len(pairs), PARAMS_A_BATCH):
                self._client.log_batch(self._run_id, params=pairs[i : i + PARAMS_A_BATCH])
            if data is not None:
                self._log_dataset(data)
        super().start(name, params, tags, data, directory)
        (directory / "mlflow_run_id").write_text(self._run_id + "\n")
        self._begin_to_send()

    def reopen(self, run_id: str, directory: Path) -> None:
        """Go on with a run that has ended, RUNNING again; raises TrackingError."""
        with self._reported():
            self._client.update_run(run_id, status="RUNNING")
        self._run_id = run_id
        super().reopen(run_id, directory)
        self._begin_to_send()

    def knows(self, run_id: str) -> bool:
        """Return whether the store has this run; raises TrackingError."""
        with self._reported():
            return self._has(self._client, run_id)

    def children(self, running: bool = False) -> list[Child]:
        """Return the runs (or the ``running`` ones) whose parent this is, the oldest first; raises TrackingError."""
        runs, token = [], None
        only = " AND attributes.status = 'RUNNING'" if running else ""
        with self._reported():
            while True:
                page = self._client.search_runs(
                    [self._experiment_id],
                    f"tags.`mlflow.parentRunId` = '{self._run_id}'{only}",
                    max_results=RUNS_A_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
                runs += page
                token = page.token
                if not token:
                    break
        return [
            Child(r.info.run_id, r.info.run_name, r.info.status, r.data.params, r.data.metrics, r.data.tags)
            for r in runs
        ]

    def end(self, child: Child, outcome: str) -> None:
        """End a child whose own process cannot do it any more."""
        with self._reported(), _quietly():
            self._client.set_tag(child.id, "bpx.outcome", outcome)
            self._client.set_terminated(child.id, STATUS[outcome])

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Keep the metrics in the local record and queue them for MLflow."""
        finite = super().log(step, epoch, metrics)
        self._queue.put((step, int(time.time() * 1000), finite))
        return finite

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        with self._reported():
            self._client.set_tag(self._run_id, key, value[:LONGEST_TAG])

    def artifact(self, path: Path, folder: str) -> None:
        """Upload a file or a directory's files under ``folder``."""
        with self._reported():
            send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            send(self._run_id, str(path), folder or None)

    def save_model(self, directory: Path, data: Any) -> None:
        """Log a pyfunc model that takes raw features and gives the network's outputs."""
        import mlflow.pyfunc
        import numpy
        import scipy
        from mlflow.entities import LoggedModelOutput
        from mlflow.models import Model, infer_signature
        from mlflow.types import ColSpec, Schema

        from bpx.engine.model_files import load_model

        example = data.x_test[:3] * data.scaler.scale + data.scaler.shift
        example = example.astype(numpy.float64)
        # columns of doubles take every numeric type, a tensor would take its own alone
        signature = infer_signature(example, load_model(directory).predict(example))
        signature.inputs = Schema([ColSpec("double") for _ in range(example.shape[1])])
        package = Path(__file__).resolve().parent.parent
        with self._reported(), tempfile.TemporaryDirectory() as scratch:
            files = Path(scratch, "network")
            shutil.copytree(
                package / "engine",
                files / "code" / "bpx" / "engine",
                ignore=shutil.ignore_patterns("__pycache__"),
            )
            shutil.copy(package / "__init__.py", files / "code" / "bpx")
            for name in ("model.json", "model.npz"):
                shutil.copy(directory / name, files)
            # through the client alone: MLflow's own way would end the run, and share its state with our caller's
            params = self._client.get_run(self._run_id).data.params
            logged = self._client.create_logged_model(self._experiment_id, "model", self._run_id, params=params)
            self._client.log_outputs(self._run_id, [LoggedModelOutput(logged.model_id, step=0)])
            description = Model(
                artifact_path=logged.artifact_location,
                run_id=self._run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            )
            with _quietly():
                mlflow.pyfunc.save_model(
                    path=Path(scratch, "model"),
                    mlflow_model=description,
                    python_model=str(package / "tracking" / "pyfunc_model.py"),
                    artifacts={"network": str(files)},
                    signature=signature,
                    input_example=example,
                    pip_requirements=[f"numpy=={numpy.__version__}", f"scipy=={scipy.__version__}"],
                )
                self._client.log_model_artifacts(logged.model_id, str(Path(scratch, "model")))
            self._client.finalize_logged_model(logged.model_id, "READY")

    def leave(self) -> None:
        """Send what is queued and let the run go on: others work on it still."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def finish(self, outcome: str) -> None:
        """Send what is queued and end the run with the status of its outcome."""
        super().finish(outcome)
        if not self._run_id or self._ended:
            return
        self._ended = True
        self.leave()
        with self._reported():
            if self.non_finite:
                self._client.set_tag(self._run_id, "bpx.nonfinite_metrics", str(self.non_finite))
            self._client.set_tag(self._run_id, "bpx.outcome", outcome)
            with _quietly():
                self._client.set_terminated(self._run_id, STATUS[outcome])
            if self._failure is not None:
                raise self._failure

    def _begin_to_send(self) -> None:
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _log_dataset(self, data: Any) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": data.source})
        profile = json.dumps({"training samples": len(data.x_train), "test samples": len(data.x_test)})
        dataset = Dataset(data.name[:LONGEST_NAME], data.sha256[:32], "local", source, profile=profile)
        self._client.log_inputs(self._run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _connect(self) -> None:
        try:
            with self._reported():
                self._opened.set_result(self._open())
        except TrackingError as error:
            self._opened.set_exception(error)

    def _open(self) -> Any:
        with store.one_at_a_time(self._uri):
            store.check(self._uri)
            from mlflow import MlflowClient

            for name in ("mlflow", "alembic"):  # what they would say over a hundred lines, we say in one
                logging.getLogger(name).setLevel(logging.CRITICAL)
            self._answers()
            client = MlflowClient(tracking_uri=self._uri)
            self._experiment_id = self._find_experiment(client)
            if self.parent is not None and not self._has(client, self.parent):
                raise TrackingError(f"tracking.parent: {store.shown(self._uri)} has no run {self.parent}")
        return client

    @staticmethod
    def _has(client: Any, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _find_experiment(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        known = client.get_experiment_by_name(self.experiment)
        if known is None:
            try:
                return str(client.create_experiment(self.experiment))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            known = client.get_experiment_by_name(self.experiment)  # another machine was quicker
        if known.lifecycle_stage != "active":
            again = f"mlflow experiments restore --experiment-id {known.experiment_id}"
            raise TrackingError(
                f"the experiment {self.experiment} has been deleted: give another tracking.experiment, or `{again}`"
            )
        return str(known.experiment_id)

    def _answers(self) -> None:
        """Raise TrackingError where a server is silent: MLflow itself would go on asking for four minutes."""
        if not store.is_server(self._uri):
            return
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        try:
            answer = http_request(  # type: ignore[no-untyped-call]
                get_default_host_creds(self._uri),  # type: ignore[no-untyped-call]
                "/api/2.0/mlflow/experiments/get-by-name",
                "GET",
                params={"experiment_name": self.experiment},
                timeout=ANSWER_WITHIN,
                max_retries=0,
                raise_on_status=False,
            )
        except Exception as error:
            raise TrackingError(f"the tracking server {store.shown(self._uri)} does not answer") from error
        unknown = answer.status_code == 404 and "RESOURCE_DOES_NOT_EXIST" in answer.text
        if answer.status_code != 200 and not unknown:
            raise TrackingError(f"the tracking server {store.shown(self._uri)} answers {answer.status_code}")

    def _send(self) -> None:
        """Send the queue's metrics, in batches, until None ends it."""
        from mlflow.entities import Metric

        waiting: list[Metric] = []
        since, going = time.monotonic(), True
        while going:
            try:
                item = self._queue.get(timeout=SEND_EVERY)
                going = item is not None
                if item is not None:
                    step, now, metrics = item
                    waiting += [Metric(key, value, now, step) for key, value in metrics.items()]
            except queue.Empty:
                pass
            full = len(waiting) >= METRICS_A_BATCH and self._failure is None
            if not going or full or time.monotonic() - since > SEND_EVERY:
                try:
                    self._answers()
                    while waiting:
                        self._client.log_batch(self._run_id, metrics=waiting[:METRICS_A_BATCH])
                        del waiting[:METRICS_A_BATCH]
                    self._failure = None
                except Exception as error:
                    self._failure = error  # what is left waits for the next time
                since = time.monotonic()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            if self._opened.done():
                self._answers()
            yield
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(f"{store.shown(self._uri)} cannot be used: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[0].split()) if lines else type(error).__name__


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep MLflow from printing progress bars and links: the command has its own."""
    words = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
    before = {name: os.environ.get(name) for name in words}
    os.environ.update(words)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
