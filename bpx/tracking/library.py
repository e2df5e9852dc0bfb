"""MLflow as a library: imported once, kept quiet, and what bpx needs of it beyond its public interface.

Tried with MLflow 3.17. Nothing else in bpx uses names that MLflow does not document; a test fails when they move.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from bpx.system.deadline import within
from bpx.system.imports import importing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

ANSWER_WITHIN = 60.0  # seconds, of a server
FILES_WITHIN = 300.0  # seconds, where files are sent or fetched
MAX_FIRST_ANSWER, MAX_ANSWER, MAX_FILE = 2**16, 2**27, 2**32  # bytes
FILES = ("log_artifact", "log_artifacts", "log_model_artifacts", "download_artifacts", "log_image")
TRIED = ("3.17", "4")  # from this version on, below that
VIEW = "bpx"  # the key of the runs table with these columns, by which MLflow's interface finds it
COLUMNS = (
    *("tags.`bpx.verdict`", "tags.`bpx.verdict_final`", "metrics.`gradient_flow/factor`", "metrics.`accuracy/test`"),
    *("metrics.`cost/test`", "tags.`bpx.outcome`"),
)
SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def import_mlflow() -> ModuleType:
    """Import all of MLflow that sending a run needs, so that the thread that sends it imports nothing."""
    _import_core()
    import mlflow.pyfunc

    _bound_answers()
    return mlflow


def create_schema(uri: str) -> None:
    """Create the tables of a SQLite store."""
    import_mlflow()
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
    try:
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
    finally:
        engine.dispose()


def is_server(uri: str) -> bool:
    """Return whether ``uri`` is that of a tracking server, not of a database or a file."""
    return uri.startswith(("http://", "https://"))


def open_client(uri: str) -> MlflowClient:
    """Return MLflow's client of a store; one of a server waits for an answer for a limited time, and reads as much."""
    registry = os.environ.get("MLFLOW_REGISTRY_URI") or uri  # MLflow itself would take that of its default store
    with importing("mlflow.pyfunc"):  # and what the store needs
        client: MlflowClient = import_mlflow().MlflowClient(tracking_uri=uri, registry_uri=registry)
    return cast("MlflowClient", PatientClient(client)) if is_server(uri) else client


def set_columns(client: MlflowClient, experiment: Experiment) -> None:
    """Keep a view of the experiment's runs with ``COLUMNS``, as its interface keeps one that somebody shares.

    MLflow has no columns that are everybody's default: the link to the view has ``viewStateShareKey=VIEW``.
    """
    name, value = f"mlflow.sharedViewState.{VIEW}", json.dumps({"selectedColumns": COLUMNS})
    if experiment.tags.get(name) != value:
        client.set_experiment_tag(experiment.experiment_id, name, value)


class PatientClient:
    """A client of a server whose answers may drip or never end: MLflow's own timeout is that of a single read."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value):
            return value
        seconds = FILES_WITHIN if name in FILES else ANSWER_WITHIN
        return lambda *words, **more: within(seconds, lambda: value(*words, **more))


class BoundedBody:
    """The body of an answer, of which no more than ``limit`` bytes are read; the rest is as it was."""

    def __init__(self, body: Any, limit: int) -> None:
        self._body, self._limit = body, limit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def stream(self, *words: Any, **more: Any) -> Iterator[bytes]:
        """Yield the body in pieces; raises ValueError where it is too long.

        Unless it is read to its end the connection is closed: it cannot be used again.
        """
        left, whole = self._limit, False
        try:
            for piece in self._body.stream(*words, **more):
                left -= len(piece)
                if left < 0:
                    raise ValueError(f"an answer of more than {self._limit:,} bytes")
                yield piece
            whole = True
        finally:
            if not whole:
                self._body.close()


def _bound_answers() -> None:
    """Have every request of MLflow read a bounded answer: of a file, which goes to the disk, or into memory."""
    from mlflow.utils import request_utils

    session_of = request_utils._get_request_session
    if getattr(session_of, "bounded", False):
        return

    def bound(response: Any, *_: Any, stream: bool = False, **more: Any) -> None:
        response.raw = BoundedBody(response.raw, MAX_FILE if stream else MAX_ANSWER)

    def bounded(*words: Any, **more: Any) -> Any:
        session = session_of(*words, **more)  # type: ignore[no-untyped-call]
        session.hooks["response"] = [bound]
        return session

    bounded.bounded = True  # type: ignore[attr-defined]
    request_utils._get_request_session = bounded


def ask_for_experiment(uri: str, name: str, seconds: float) -> tuple[int, str]:
    """Ask a tracking server for an experiment, once, and return the status and the text of the answer.

    Raises what the request raises, TimeoutError where the answer takes longer, ValueError where it is too long.
    """
    _import_core()  # the rest of MLflow takes seconds, which a server that is away need not cost
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    def ask() -> tuple[int, str]:
        response = http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(uri),  # type: ignore[no-untyped-call]
            "/api/2.0/mlflow/experiments/get-by-name",
            "GET",
            params={"experiment_name": name},
            timeout=seconds,
            max_retries=0,
            raise_on_status=False,
            stream=True,
        )
        with response:
            text = next(response.iter_content(MAX_FIRST_ANSWER + 1), b"")
        if len(text) > MAX_FIRST_ANSWER:
            raise ValueError(f"an answer of more than {MAX_FIRST_ANSWER:,} bytes")
        return response.status_code, text.decode(errors="replace")

    return within(seconds, ask)


def _import_core() -> None:
    """Import MLflow itself, its loggers silent and its telemetry off unless the user has set it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported
    with importing("mlflow"):
        import mlflow  # noqa: F401

    for name in ("mlflow", "alembic"):  # what they log over a hundred lines, bpx reports in one
        logging.getLogger(name).setLevel(logging.CRITICAL)


@dataclass
class _Quiet:
    """How many threads keep MLflow quiet now, and the environment that the last of them restores."""

    users: int = 0
    before: dict[str, str | None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_QUIET = _Quiet()


@contextmanager
def quietly() -> Iterator[None]:
    """Keep MLflow from printing progress bars and links, and from sending again what is to be asked for first."""
    with _QUIET.lock:
        if not _QUIET.users:
            _QUIET.before = {name: os.environ.get(name) for name in SETTINGS}
            os.environ.update(SETTINGS)
        _QUIET.users += 1
    try:
        yield
    finally:
        with _QUIET.lock:
            _QUIET.users -= 1
            for name, value in _QUIET.before.items() if not _QUIET.users else ():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})
