"""MLflow: the run as its parameters, metrics, artifacts and model, sent by a thread in the background."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import queue
import shlex
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpx.tracking.tracker import Tracker, TrackingError

STATUS = {
    "finished": "FINISHED",
    "diverged": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "crashed": "FAILED",
}
METRICS_A_BATCH, PARAMS_A_BATCH, LONGEST_PARAM = 1000, 100, 6000
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
        home = Path.cwd()
        self._default = f"sqlite:///{home / 'mlflow.db'}"
        self._uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or self._default
        if self._uri.startswith("sqlite:///") and not self._uri.startswith("sqlite:////"):
            self._uri = f"sqlite:///{home / self._uri.removeprefix('sqlite:///')}"
        self._run_id = self._experiment_id = ""
        self._queue: queue.SimpleQueue[tuple[int, int, dict[str, float]] | None] = queue.SimpleQueue()
        self._opened: Future[Any] = Future()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    @property
    def link(self) -> str:
        """The run's page in MLflow's interface, in the view for training."""
        base = self._uri if self._uri.startswith("http") else "http://127.0.0.1:5000"
        page = f"experiments/{self._experiment_id}/runs/{self._run_id}?workflowType=machine_learning"
        return f"{base.rstrip('/')}/#/{page}" if self._run_id else ""

    @property
    def ui_command(self) -> str:
        """The command that starts MLflow's interface for this store, empty where a server runs already."""
        if self._uri.startswith("http"):
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
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        with self._reported():
            run = self._client.create_run(self._experiment_id, run_name=name, tags=tags)
            self._run_id = run.info.run_id
            pairs = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in params.items()]
            for i in range(0, len(pairs), PARAMS_A_BATCH):
                self._client.log_batch(self._run_id, params=pairs[i : i + PARAMS_A_BATCH])
            profile = f'{{"training samples": {len(data.x_train)}, "test samples": {len(data.x_test)}}}'
            dataset = Dataset(data.name, data.sha256[:32], "local", f'{{"uri": "{data.source}"}}', profile=profile)
            self._client.log_inputs(
                self._run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
            )
        super().start(name, params, tags, data, directory)
        (directory / "mlflow_run_id").write_text(self._run_id + "\n")
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Keep the metrics in the local record and queue them for MLflow."""
        finite = super().log(step, epoch, metrics)
        self._queue.put((step, int(time.time() * 1000), finite))
        return finite

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        with self._reported():
            self._client.set_tag(self._run_id, key, value)

    def artifact(self, path: Path, folder: str) -> None:
        """Upload a file or a directory's files under ``folder``."""
        with self._reported():
            send = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            send(self._run_id, str(path), folder or None)

    def save_model(self, directory: Path, data: Any) -> None:
        """Log a pyfunc model that takes raw features and gives the network's outputs."""
        import mlflow
        import numpy
        import scipy
        from mlflow.models import infer_signature
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
            quiet = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_TRACKING_URI": self._uri}
            before = {key: os.environ.get(key) for key in quiet}
            os.environ.update(quiet)
            try:
                with mlflow.start_run(run_id=self._run_id):
                    mlflow.pyfunc.log_model(
                        name="model",
                        python_model=str(package / "tracking" / "pyfunc_model.py"),
                        artifacts={"network": str(files)},
                        signature=signature,
                        input_example=example,
                        pip_requirements=[f"numpy=={numpy.__version__}", f"scipy=={scipy.__version__}"],
                    )
            finally:
                for key, value in before.items():
                    os.environ.pop(key) if value is None else os.environ.update({key: value})

    def finish(self, outcome: str) -> None:
        """Send what is queued and end the run with the status of its outcome."""
        super().finish(outcome)
        if not self._run_id or self._thread is None:
            return
        self._queue.put(None)
        self._thread.join()
        self._thread = None
        with self._reported():
            if self._failure is not None:
                raise self._failure
            if self.non_finite:
                self._client.set_tag(self._run_id, "bpx.nonfinite_metrics", str(self.non_finite))
            self._client.set_tag(self._run_id, "bpx.outcome", outcome)
            self._client.set_terminated(self._run_id, STATUS[outcome])

    def _connect(self) -> None:
        try:
            self._opened.set_result(self._open())
        except TrackingError as error:
            self._opened.set_exception(error)
        except Exception as error:
            self._opened.set_exception(TrackingError(f"{self._uri} cannot be used: {_first_line(error)}"))

    def _open(self) -> Any:
        if self._uri.startswith(("http://", "https://")):
            _answers(self._uri)
        elif self._uri.startswith("sqlite:///"):
            _writable(Path(self._uri.removeprefix("sqlite:///")))
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with _one_at_a_time(self._uri):  # two processes that create the schema at once break each other
            client = MlflowClient(tracking_uri=self._uri)
            known = client.get_experiment_by_name(self.experiment)
            self._experiment_id = known.experiment_id if known else client.create_experiment(self.experiment)
        return client

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
            if not going or len(waiting) >= METRICS_A_BATCH or time.monotonic() - since > SEND_EVERY:
                try:
                    for i in range(0, len(waiting), METRICS_A_BATCH):
                        self._client.log_batch(self._run_id, metrics=waiting[i : i + METRICS_A_BATCH])
                except Exception as error:
                    self._failure = error
                waiting, since = [], time.monotonic()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(f"{self._uri}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[0].split()) if lines else type(error).__name__


def _answers(uri: str) -> None:
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_WITHIN) as answer:
            answer.read(64)
    except urllib.error.HTTPError:
        return  # it answers, whatever it thinks of the question
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(f"the tracking server {uri} does not answer: {reason}") from error


def _writable(path: Path) -> None:
    target = path if path.exists() else path.parent
    if not target.exists():
        raise TrackingError(f"{path.parent}, the folder of the tracking store, does not exist")
    try:
        probe = path.parent / f".{path.name}.{os.getpid()}"
        probe.touch()
        probe.unlink()
        if path.exists():
            path.open("r+b").close()
    except OSError as error:
        raise TrackingError(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    name = hashlib.sha256(uri.encode()).hexdigest()[:16]
    with Path(tempfile.gettempdir(), f"bpx-{os.getuid()}-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
