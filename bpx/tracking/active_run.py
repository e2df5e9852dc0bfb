"""A tracker that logs to the active MLflow run of the process, which the user has started."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, final

from bpx.system.text import one_line
from bpx.tracking.errors import TrackingError
from bpx.tracking.tracker import Tracker

if TYPE_CHECKING:
    from bpx.data.dataset import Dataset

MAX_METRICS = 1000  # of a batch


def run_is_active() -> bool:
    """Return whether this process has imported MLflow and has a run open."""
    mlflow = sys.modules.get("mlflow")
    return mlflow is not None and mlflow.active_run() is not None


@final
class ActiveRun(Tracker):
    """Log to the active run and keep the local record; the user ends the run."""

    def start(
        self, name: str, params: Mapping[str, object], tags: dict[str, str], data: Dataset | None, directory: Path
    ) -> None:
        """Set tags and parameters (prefix ``bpx.``) of the active run; raises TrackingError."""
        import mlflow

        super().start(name, params, tags, data, directory)
        run = mlflow.active_run()
        if run is None:
            raise TrackingError("tracking: no run of MLflow is active in this process")
        self.run_id = self._id = str(run.info.run_id)
        self._client = mlflow.MlflowClient()
        for key, value in tags.items():
            self.tag(key, value)

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Log the finite metrics; raises TrackingError."""
        from mlflow.entities import Metric

        finite = super().log(step, epoch, metrics)
        now = int(time.time() * 1000)
        entries = [Metric(key, value, now, step) for key, value in finite.items()]
        for i in range(0, len(entries), MAX_METRICS):
            with _reported():
                self._client.log_batch(self._id, metrics=entries[i : i + MAX_METRICS])
        return finite

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run; raises TrackingError."""
        with _reported():
            self._client.set_tag(self._id, key, value)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file; raises TrackingError."""
        with _reported():
            self._client.log_artifact(self._id, str(path), folder or None)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the store raises
        raise TrackingError(f"the active run of MLflow cannot be written: {one_line(error)}") from error
