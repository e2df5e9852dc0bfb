"""MLflow as a library: imported once, kept quiet, and what bpx needs of it beyond its public interface.

Tried with MLflow 3.17. Nothing else in bpx uses names that MLflow does not document; a test fails when they move.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

TRIED = ("3.17", "4")  # from this version on, below that
SETTINGS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def import_mlflow() -> Any:
    """Import all of MLflow that sending a run needs, so that the thread that sends it imports nothing."""
    _import_core()
    import mlflow.pyfunc

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


def ask_for_experiment(uri: str, name: str, within: float) -> Any:
    """Ask a tracking server for an experiment, once, and return the response; raises what the request raises."""
    _import_core()  # the rest of MLflow takes seconds, which a server that is away need not cost
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    return http_request(  # type: ignore[no-untyped-call]
        get_default_host_creds(uri),  # type: ignore[no-untyped-call]
        "/api/2.0/mlflow/experiments/get-by-name",
        "GET",
        params={"experiment_name": name},
        timeout=within,
        max_retries=0,
        raise_on_status=False,
    )


def _import_core() -> None:
    """Import MLflow itself, its loggers silent and its telemetry off unless the user has set it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported
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
