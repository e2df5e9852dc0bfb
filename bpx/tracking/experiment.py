"""An experiment in MLflow: find, create and tag its runs, by synchronous requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from bpx.records import Outcome
from bpx.system.text import masked
from bpx.tracking import liveness
from bpx.tracking.errors import TrackingError
from bpx.tracking.tracker import Child

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment as MLflowExperiment
    from mlflow.entities import Run

    from bpx.data.dataset import Dataset

STATUS = {
    Outcome.FINISHED: "FINISHED",
    Outcome.DIVERGED: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.INTERRUPTED: "KILLED",
    Outcome.UNDEFINED: "KILLED",
    Outcome.FAILED: "FAILED",
    Outcome.CRASHED: "FAILED",
}
PARAMS_A_BATCH, RUNS_A_PAGE = 100, 1000
MAX_PARAM, MAX_TAG, MAX_NAME = 6000, 8000, 500


@final
@dataclass(frozen=True)
class Experiment:
    """The runs of one experiment; errors of the client are left to the caller."""

    client: MlflowClient
    id: str

    def run_of(self, directory: Path) -> Run | None:
        """Return the run of a run directory, None if there is none."""
        place = liveness.liveness_tags(directory)["bpx.run_directory"]
        if "'" in place:
            return None  # MLflow's filters have no way to write it
        found = self.client.search_runs([self.id], f"tags.`bpx.run_directory` = '{place}'", max_results=1)
        return found[0] if found else None

    def unused_name(self, name: str, parent: str | None) -> str:
        """Return ``name``, with a counter if a run of the experiment, or of the same parent, has that name."""
        if "'" in name:
            return name  # MLflow's filters have no way to write it
        beside = f" and tags.`mlflow.parentRunId` = '{parent}'" if parent else ""

        def counted(n: int) -> str:
            return name if n == 1 else f"{name} {n}"

        def used(n: int) -> bool:
            wanted = f"attributes.run_name = '{counted(n)}'{beside}"
            return bool(self.client.search_runs([self.id], wanted, max_results=1))

        last, free = 0, 1
        while used(free):
            last, free = free, 2 * free
        while free - last > 1:
            middle = (last + free) // 2
            last, free = (middle, free) if used(middle) else (last, middle)
        return counted(free)

    def create_run(self, name: str, tags: dict[str, str], directory: Path) -> Run:
        """Return a new run; if an earlier answer was lost, the run created then."""
        tags = tags | liveness.liveness_tags(directory)
        short = {key: tag_value(value) for key, value in tags.items()}
        run: Run | None
        try:
            run = self.client.create_run(self.id, run_name=name, tags=short)
        except Exception:
            run = self.run_of(directory)
            if run is None:
                raise
        return run

    def mark_running(self, run_id: str, directory: Path) -> None:
        """Set a run's status to RUNNING, in this process."""
        self.client.update_run(run_id, status="RUNNING")
        for key, value in liveness.liveness_tags(directory).items():
            self.client.set_tag(run_id, key, tag_value(value))

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Log the parameters of a run, in batches."""
        from mlflow.entities import Param

        pairs = [Param(key, masked(str(value))[:MAX_PARAM]) for key, value in params.items()]
        for i in range(0, len(pairs), PARAMS_A_BATCH):
            self.client.log_batch(run_id, params=pairs[i : i + PARAMS_A_BATCH])

    def log_dataset(self, run_id: str, data: Dataset) -> None:
        """Log the dataset of a run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        source = json.dumps({"uri": data.source})
        profile = json.dumps({"training samples": len(data.x_train), "test samples": len(data.x_test)})
        dataset = Dataset(data.name[:MAX_NAME], data.sha256[:32], "local", source, profile=profile)
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        try:
            self.client.log_inputs(run_id, inputs)
        except MlflowException:  # a server that is told of a dataset by two runs at once refuses one: it knows it then
            self.client.log_inputs(run_id, inputs)

    def has(self, run_id: str) -> bool:
        """Return whether the store has a run that has not been deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def end_abandoned(self) -> list[str]:
        """End runs left RUNNING by dead processes of this machine, and return their names."""
        host = liveness.HOST.replace("'", "")
        wanted = f"attributes.status = 'RUNNING' and tags.`bpx.host` = '{host}'"
        ended = []
        for run in self.client.search_runs([self.id], wanted, max_results=RUNS_A_PAGE):
            gone = liveness.is_process_dead(
                run.data.tags.get("bpx.run_directory", ""), run.data.tags.get("bpx.pid", "")
            )
            # a run that has ended since it was listed has given its lock back, too
            if gone and self.client.get_run(run.info.run_id).info.status == "RUNNING":
                self.client.set_tag(run.info.run_id, "bpx.outcome", Outcome.INTERRUPTED)
                self.client.set_terminated(run.info.run_id, STATUS[Outcome.INTERRUPTED])
                folder = Path(run.data.tags.get("bpx.run_directory", "")).name
                ended.append(f"{run.info.run_name} {folder}".strip())
        return ended

    def children(self, run_id: str, running: bool = False) -> list[Child]:
        """Return the runs (or the ``running`` ones) whose parent is ``run_id``, the oldest first."""
        runs: list[Run] = []
        token = None
        only = " AND attributes.status = 'RUNNING'" if running else ""
        while True:
            page = self.client.search_runs(
                [self.id],
                f"tags.`mlflow.parentRunId` = '{run_id}'{only}",
                max_results=RUNS_A_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token
            if not token:
                break
        return [child_of(run) for run in runs]


def child_of(run: Run) -> Child:
    """Return what a tracker says of a run."""
    info, data = run.info, run.data
    return Child(info.run_id, info.run_name, info.status, data.params, data.metrics, data.tags)


def find_experiment(client: MlflowClient, name: str) -> MLflowExperiment:
    """Return the experiment of a name, created if missing; raises TrackingError if it has been deleted."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            client.create_experiment(name)
        except MlflowException as error:  # another machine was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = client.get_experiment_by_name(name)
        assert known is not None
    if known.lifecycle_stage != "active":
        again = f"mlflow experiments restore --experiment-id {known.experiment_id}"
        raise TrackingError(f"the experiment {name} has been deleted: give another tracking.experiment, or `{again}`")
    return known


def tag_value(value: str) -> str:
    """Return a tag's value, passwords masked, cut to MLflow's limit."""
    return masked(value)[:MAX_TAG]
