"""Download and search runs of the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bpx.system.run_files import CONFIG, PROVENANCE, RECORD
from bpx.system.text import masked
from bpx.tracking import library, store
from bpx.tracking.errors import TrackingError
from bpx.tracking.experiment import child_of
from bpx.tracking.tracker import Child

if TYPE_CHECKING:
    from mlflow import MlflowClient

WANTED = (CONFIG.parent.name, RECORD, PROVENANCE)


def download(run_id: str, folder: Path) -> Child | None:
    """Download a run's configuration, record and provenance into ``folder``, and return the run; None if unknown.

    The store is MLFLOW_TRACKING_URI, else MLflow's default in this directory. Raises TrackingError if it cannot be
    used.
    """
    uri = store.resolve(None, Path.cwd())
    if not store.exists(uri):
        return None
    with _client(uri) as client:
        from mlflow.exceptions import MlflowException

        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        there = {artifact.path for artifact in client.list_artifacts(run_id)}
        folder.mkdir(parents=True, exist_ok=True)
        for path in there.intersection(WANTED):
            client.download_artifacts(run_id, path, str(folder))
    return child_of(run)


@contextmanager
def _client(uri: str, what: str = "") -> Iterator[MlflowClient]:
    """Yield a client of a store; errors become TrackingError with the prefix ``what``."""
    with store.failures_reported(uri, what):
        store.answers(uri)
        with store.one_at_a_time(uri), library.quietly():
            yield library.open_client(uri)


def search(words: str) -> list[str]:
    """Return the ids of the runs that match an MLflow filter, in all experiments, the oldest first.

    Raises TrackingError if there is no store, or the filter is invalid.
    """
    uri = store.resolve(None, Path.cwd())
    if not store.exists(uri):
        raise TrackingError(f"{masked(uri)} does not exist: there is nothing to search with {words}")
    with _client(uri, words) as client:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        found = client.search_runs(experiments, words, order_by=["attributes.start_time"])
        return [run.info.run_id for run in found]
