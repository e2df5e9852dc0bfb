"""The tracking store: its address, and checks that it can be used, before MLflow opens it."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bpx.system.errors import UserError, WriteError
from bpx.system.locks import lock, machine_lock
from bpx.system.text import masked, one_line
from bpx.tracking import library
from bpx.tracking.errors import TrackingError

FILE = "sqlite:///"
ALLOWED = "give a database that can be written (sqlite:///FILE) or a tracking server (http://HOST:PORT)"
FREE_WITHIN = 5.0  # seconds that a locked database is waited for
ANSWER_WITHIN = 4.0  # seconds


def default(home: Path) -> str:
    """Return the URI of the store that ``mlflow ui`` shows when it is started in ``home``."""
    return f"{FILE}{_quoted(home)}/mlflow.db"


def resolve(uri: str | None, home: Path) -> str:
    """Return ``uri``, else MLFLOW_TRACKING_URI, else the default in ``home``, as an absolute address."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or default(home)
    if uri.startswith(FILE) and not uri.startswith(f"{FILE}/"):
        return f"{FILE}{_quoted(home)}/{uri.removeprefix(FILE)}"
    scheme, colon, rest = uri.partition("://")
    return f"{scheme.lower()}{colon}{rest}" if colon else uri


def check_address(uri: str) -> None:
    """Raise ValueError if ``uri`` is not a valid address."""
    try:
        _ = urlsplit(uri).port
    except ValueError as error:
        raise ValueError(f"tracking.uri: {masked(uri)} is not a valid address ({error})") from error


def moved(uri: str, artifacts: str) -> list[str]:
    """Return a note if the artifacts of an experiment are not in the folder of its store any more.

    The store is a SQLite file, or a folder.
    """
    folder = Path(artifacts.removeprefix("file://"))
    if not (uri.startswith(FILE) or _is_folder(uri)) or not folder.is_absolute() or folder.parent.is_dir():
        return []
    store = _file(uri) if uri.startswith(FILE) else Path(uri.removeprefix("file:").removeprefix("//")).absolute()
    here = store if _is_folder(uri) else store.parent / "mlruns"
    if folder.parent == here:
        return []
    return [
        f"{store.name} was moved: the artifacts of this experiment go to {folder}; "
        f"another tracking.experiment has them in {here}"
    ]


def check(uri: str) -> None:
    """Raise TrackingError where a store is invalid or cannot be written; MLflow itself would retry for minutes."""
    if _is_folder(uri) and os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() not in ("true", "1"):
        raise TrackingError(f"tracking.uri {masked(uri)} is neither a database nor a server: {ALLOWED}")
    if not uri.startswith(FILE):
        _check_database(uri)
        return
    path = _file(uri)
    if not path.parent.is_dir():
        raise TrackingError(f"tracking.uri: the folder {path.parent} does not exist: {ALLOWED}")
    try:
        probe = path.parent / f".{path.name}.{os.getpid()}"
        probe.touch()
        probe.unlink()
        if not path.exists():
            return
        if not os.access(path, os.W_OK):  # to open and close the file would give back the locks that SQLite has on it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with closing(sqlite3.connect(path, timeout=FREE_WITHIN, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    except OSError as error:
        raise _unwritable(path, error) from error
    except sqlite3.Error as error:
        kind = WriteError if _is_full(error) else TrackingError
        raise kind(f"{path} cannot be used: {error}") from error


def connect_args(uri: str) -> dict[str, object]:
    """Return the arguments that limit how long a database driver waits for a server."""
    if not uri.startswith(("postgresql", "mysql")):
        return {}
    name = "timeout" if uri.startswith("postgresql+pg8000:") else "connect_timeout"
    return {name: int(ANSWER_WITHIN)}


def _check_database(uri: str) -> None:
    """Raise TrackingError where a database server does not answer: MLflow itself would try for minutes."""
    if not connect_args(uri):
        return
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        create_engine(uri, poolclass=NullPool, connect_args=connect_args(uri)).connect().close()
    except (ImportError, SQLAlchemyError, ValueError) as error:
        raise TrackingError(f"tracking.uri: {masked(uri)} cannot be used: {one_line(error)}") from error


def make(uri: str) -> None:
    """Make a SQLite store that is not there yet, schema and all, under another name first; hold ``one_at_a_time``.

    A partial schema of a process that was killed is replaced: MLflow itself would continue from it.
    """
    if not uri.startswith(FILE) or _file(uri).exists():
        return
    folder, _, name = uri.partition("?")[0].rpartition("/")
    new = f"{folder}/.{name}.new"
    path = _file(new)
    rest = [path, path.with_name(f"{path.name}-journal")]
    for left in rest:
        left.unlink(missing_ok=True)
    try:
        library.create_schema(new)
        if not _file(uri).exists():
            path.replace(_file(uri))
    finally:
        for left in rest:
            left.unlink(missing_ok=True)


def exists(uri: str) -> bool:
    """Return whether a store exists at ``uri``; MLflow itself would create a new database."""
    return not uri.startswith(FILE) or _file(uri).exists()


def answers(uri: str) -> None:
    """Raise TrackingError where a store does not answer: MLflow itself would retry for four minutes."""
    if not library.is_server(uri):
        check(uri)
        return
    try:
        status, text = library.ask_for_experiment(uri, "Default", ANSWER_WITHIN)
    except Exception as error:
        raise TrackingError(f"the tracking server {masked(uri)} does not answer") from error
    unknown = status == 404 and "RESOURCE_DOES_NOT_EXIST" in text
    if status != 200 and not unknown:
        hint = ": set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" if status == 401 else ""
        raise TrackingError(f"the tracking server {masked(uri)} answers {status}{hint}")


@contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Keep other processes from opening the same store: two processes that create its schema at once corrupt it."""
    beside = uri.startswith(FILE)  # the database, so that all who use it use one lock
    path = Path(f"{_file(uri)}.lock") if beside else machine_lock(uri)
    try:
        file = lock(path, wait=True)
    except OSError as error:
        raise _unwritable(path.with_suffix("") if beside else path, error) from error
    with file:
        yield


@contextmanager
def failures_reported(uri: str, what: str = "") -> Iterator[None]:
    """Turn errors of a store into a TrackingError of one line with the prefix ``what``.

    A full disk becomes a WriteError: the same attempt succeeds when there is space.
    """
    try:
        yield
    except (TrackingError, WriteError):
        raise
    except Exception as error:
        kind = WriteError if _is_full(error) else TrackingError
        raise kind(f"{what or f'{masked(uri)} cannot be used'}: {one_line(error)}") from error


def _unwritable(path: Path, error: OSError) -> UserError:
    kind = WriteError if _is_full(error) else TrackingError
    return kind(f"tracking.uri: {path} cannot be written ({error.strerror}): {ALLOWED}")


def _is_full(error: BaseException) -> bool:
    """Return whether an error, or its cause, is a full disk."""
    text = str(error)
    if "disk is full" in text or os.strerror(errno.ENOSPC) in text:  # SQLite's words; the system's, and PostgreSQL's
        return True
    cause = error.__cause__ or error.__context__
    return cause is not None and _is_full(cause)


def _is_folder(uri: str) -> bool:
    return uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks"))


def _file(uri: str) -> Path:
    return Path(unquote(uri.removeprefix(FILE).partition("?")[0]))


def _quoted(path: Path) -> str:
    # only what is necessary: MLflow also creates a folder named as the quoted path
    return str(path).replace("%", "%25").replace("?", "%3F")
