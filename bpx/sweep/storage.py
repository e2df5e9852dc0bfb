"""Storage of a study: Optuna's journal on one machine, a database for several.

Beyond Optuna's own storage it keeps two processes from creating the study at once, and detects trials whose process
has died.
"""

from __future__ import annotations

import os
import secrets
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError

from bpx.sweep import library
from bpx.sweep.journal import open_journal
from bpx.system.errors import UserError
from bpx.system.locks import is_held, lock, machine_lock
from bpx.system.text import masked, one_line
from bpx.tracking.store import connect_args

WORKER = "bpx.worker"  # the trial's attribute that names who runs it
RETRIES = 3  # of a trial whose process was lost: one that kills its process would come back for ever
STALE_AFTER = 3  # heartbeats
LOCK_KEY = 0x627078  # of PostgreSQL's advisory lock


class Store(ABC):
    """An Optuna storage, with the liveness of its workers."""

    def __init__(self, storage: BaseStorage) -> None:
        self.storage = storage
        self.note = ""  # what is to be said of it
        self.worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    @abstractmethod
    def exclusively(self) -> AbstractContextManager[object]:
        """Return a context that only one process can be in."""

    @abstractmethod
    def beat(self, trial_ids: Iterable[int]) -> None:
        """Record that these trials are alive."""

    @abstractmethod
    def _orphaned(self, study: optuna.Study) -> list[FrozenTrial]:
        """Fail and queue again the running trials whose process has shown itself once and is gone."""

    def lost(self, study: optuna.Study) -> list[FrozenTrial]:
        """Fail and requeue the running trials of dead processes, and return them.

        A trial is asked for and marked by one process at a time: one without a mark has lost the process that asked.
        """
        found = self._orphaned(study)
        if _unmarked(study):
            with self.exclusively():  # a process that is asking has marked its trials by then
                for trial in _unmarked(study):
                    found += self._requeue(study, trial)
        return found

    def _requeue(self, study: optuna.Study, trial: FrozenTrial) -> list[FrozenTrial]:
        try:
            self.storage.set_trial_state_values(library.id_of(trial), TrialState.FAIL)
        except UpdateFinishedTrialError:
            return []  # another worker saw it as well
        queue_again(study, trial, RETRIES)
        return [trial]

    @abstractmethod
    def close(self) -> None:
        """Leave the study."""


class JournalStore(Store):
    """Optuna's journal, a file. A worker is alive as long as it holds the lock of its file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage, journal = open_journal(path)
        super().__init__(storage)
        self.path = path
        if journal.cut:
            self.note = f"{path}: the last line was incomplete; {journal.cut} bytes were removed"
        with self.exclusively():  # a worker creates and locks its file under the same lock
            for left in path.parent.glob(f"{path.name}.worker-*"):
                if not is_held(left):
                    left.unlink(missing_ok=True)  # of a process that was killed
        self._pulse: IO[str] | None = None

    def exclusively(self) -> AbstractContextManager[object]:
        """Return a context that only one process can be in."""
        return lock(self.path.with_name(f"{self.path.name}.turn"), wait=True)

    def beat(self, trial_ids: Iterable[int]) -> None:
        """Lock the worker's file on the first call, and hold it."""
        if self._pulse is None:
            self._pulse = lock(self._file(self.worker), wait=True)  # another may be looking whether it is held

    def _orphaned(self, study: optuna.Study) -> list[FrozenTrial]:
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        gone = [t for t in running if not self._alive(t.user_attrs.get(WORKER, self.worker))]
        return [trial for t in gone for trial in self._requeue(study, t)]

    def close(self) -> None:
        """Release the worker's lock."""
        if self._pulse is not None:
            self._file(self.worker).unlink(missing_ok=True)
            self._pulse.close()
            self._pulse = None

    def _file(self, worker: str) -> Path:
        return self.path.with_name(f"{self.path.name}.worker-{worker}")

    def _alive(self, worker: str) -> bool:
        return worker == self.worker or is_held(self._file(worker))


class DatabaseStore(Store):
    """A database that Optuna reaches through SQLAlchemy; trials are alive as long as they send heartbeats."""

    def __init__(self, url: str, heartbeat: int) -> None:
        self.url = url
        try:
            self._engine = create_engine(url, pool_pre_ping=True, connect_args=connect_args(url))
            self._engine.connect().close()  # at the start an unreachable database is an error
            with self.exclusively():
                super().__init__(
                    library.RetryingStorage(
                        url,
                        engine_kwargs={"pool_pre_ping": True, "connect_args": connect_args(url)},
                        heartbeat_interval=heartbeat,
                        grace_period=STALE_AFTER * heartbeat,
                        heartbeat_stale_trial_callback=self._stale,
                    )
                )
        except (ImportError, SQLAlchemyError, StorageInternalError, ValueError) as error:
            cause = error.__cause__ or error
            text = one_line(cause)
            if isinstance(error, ImportError):
                text += "; pip install 'bpx[distributed]' brings the driver of PostgreSQL"
            raise UserError(f"hydra.sweeper.storage: {masked(url)} cannot be used: {text}") from error

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Exclude all other processes, on any machine."""
        if self._engine.dialect.name != "postgresql":
            with lock(machine_lock(self.url), wait=True):
                yield
            return
        connection = library.retry(self._lock)
        try:
            yield
        finally:
            connection.invalidate()  # the end of the connection gives the lock back, whatever its state
            connection.close()

    def _lock(self) -> Connection:
        connection = self._engine.connect()
        try:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({LOCK_KEY})")
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def beat(self, trial_ids: Iterable[int]) -> None:
        """Record a heartbeat of each trial."""
        assert isinstance(self.storage, RDBStorage)
        for trial_id in trial_ids:
            self.storage.record_heartbeat(trial_id)

    def close(self) -> None:
        """Leave the study: its heartbeats stop."""

    def _orphaned(self, study: optuna.Study) -> list[FrozenTrial]:
        self._stopped: list[FrozenTrial] = []
        optuna.storages.fail_stale_trials(study)
        return self._stopped

    def _stale(self, study: optuna.Study, trial: FrozenTrial) -> None:
        queue_again(study, trial, RETRIES)
        self._stopped.append(trial)


def _unmarked(study: optuna.Study) -> list[FrozenTrial]:
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if WORKER not in trial.user_attrs]


def queue_again(study: optuna.Study, trial: FrozenTrial, most: int | None = None) -> None:
    """Requeue a trial's parameters, at most ``most`` times.

    Attributes are not copied: with the mark of the dead worker, the new trial would count as lost until its own worker
    has marked it.
    """
    history = [*trial.system_attrs.get("retry_history", []), trial.number]
    if most is not None and len(history) > most:
        return
    again = {"failed_trial": trial.number} | trial.system_attrs | {"retry_history": history}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING, params=trial.params, distributions=trial.distributions, system_attrs=again
        )
    )


@lru_cache(maxsize=4)
def open_store(storage: str, heartbeat: int) -> Store:
    """Return the storage at a URL (a database) or a path (a journal), opened once per process."""
    library.keep_quiet()
    if "://" in storage:
        return DatabaseStore(storage, heartbeat)
    try:
        return JournalStore(Path(storage))
    except OSError as error:
        raise UserError(f"hydra.sweeper.storage: {storage} cannot be written: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"hydra.sweeper.storage: {error}") from error
