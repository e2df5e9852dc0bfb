"""Optuna as a library: kept quiet, and what bpx needs of it beyond its public interface.

Tried with Optuna 5.0. Nothing else in bpx uses names that Optuna does not document; a test fails when they move.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, SQLAlchemyError

P = ParamSpec("P")
T = TypeVar("T")
TRIED = ("5.0", "6")  # from this version on, below that
RETURNS_WITHIN = 120.0  # seconds that a database may be away


def keep_quiet() -> None:
    """Silence Optuna's logs and warnings about what bpx reports itself."""
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used with")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.logging.disable_default_handler()


def id_of(trial: optuna.Trial | FrozenTrial) -> int:
    """Return the id of a trial in the storage."""
    return trial._trial_id


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    """Return the trial of a number in a study, in a process other than the one that asked for it."""
    return optuna.Trial(study, study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number))


def retry(call: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
    """Repeat the call while the database is unavailable: it may be restarting."""
    deadline, pause = time.monotonic() + RETURNS_WITHIN, 0.2
    while True:
        try:
            return call(*arguments, **more)
        except (StorageInternalError, SQLAlchemyError) as error:
            if time.monotonic() > deadline or not _away(error):
                raise
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def _away(error: BaseException) -> bool:
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    if isinstance(cause, PendingRollbackError):
        return True  # Optuna has asked once more in the transaction whose connection was lost
    return isinstance(cause, DBAPIError) and (
        isinstance(cause, (OperationalError, InterfaceError)) or cause.connection_invalidated
    )


class RetryingStorage(RDBStorage):
    """Optuna's RDBStorage with every transaction repeated while the database is unavailable."""

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute; methods in TRANSACTIONS with retries."""
        value = super().__getattribute__(name)
        return partial(retry, value) if name in TRANSACTIONS else value


# methods that open a session, and call no other that does
TRANSACTIONS = {
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_trial_id_from_study_id_trial_number",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "get_trial",
    "record_heartbeat",
    "_create_new_trial",
    "_set_trial_param",
    "_get_trials",
    "_get_best_trial_id",
    "_get_stale_trial_ids",
}
