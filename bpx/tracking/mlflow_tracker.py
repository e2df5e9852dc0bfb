"""MLflow: the run as its parameters, metrics, artifacts and model, sent by a thread in the background."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bpx.engine.features import raw_cells
from bpx.records import Outcome
from bpx.system.files import replaced
from bpx.system.text import masked
from bpx.tracking import library, liveness, store
from bpx.tracking.delivery import Delivery
from bpx.tracking.errors import TrackingError
from bpx.tracking.library import quietly
from bpx.tracking.spool import Spool
from bpx.tracking.system_metrics import SystemMetrics
from bpx.tracking.tracker import Child, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
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
IDENTITY = "mlflow_run_id"  # the file that holds the run's id
LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 8000, 500


@dataclass
class MLflowTracker(Tracker):
    """Keep the local record and send the run to MLflow.

    After ``start`` nothing waits for the store: everything goes to the run's spool, from which a thread sends it. The
    thread imports nothing: while MLflow is imported beside scikit-learn, either finds the other's libraries in
    ``sys.modules`` partly imported (``connect`` imports all of it, in the caller's thread).

    Attributes
    ----------
    uri
        The store; None is MLFLOW_TRACKING_URI, else MLflow's default in this directory.
    experiment
        The experiment in MLflow; None is MLFLOW_EXPERIMENT_NAME, else bpx.
    system_metrics
        Whether a run of more than ten seconds logs the load of the machine.
    register
        The registered model that the run's model becomes a version of.
    """

    uri: str | None = None
    experiment: str | None = None
    system_metrics: bool = True
    register: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experiment is not None and not 0 < len(self.experiment.strip()) <= LONGEST_NAME:
            raise ValueError(f"tracking.experiment must be a name of 1 to {LONGEST_NAME} letters")
        if self.register is not None and not (self.register.strip() and set(self.register).isdisjoint("/:'")):
            raise ValueError(f"tracking.register must be a name without / : and ', got {self.register!r}")
        if self.register is not None and not self.model:
            raise ValueError("tracking.register needs tracking.model=true, which searches and studies do without")
        self.experiment = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "bpx"
        self._default = store.default(Path.cwd())
        self._uri = store.resolve(self.uri, Path.cwd())
        store.check_address(self._uri)
        self._run_id = self._experiment_id = ""
        self._client: Any = None
        self._spool: Spool | None = None
        self._delivery: Delivery | None = None
        self._unsent = ""
        self._concluded = False
        self._system: SystemMetrics | None = None

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
        return self._page(f"runs/{self._run_id}?") if self._run_id else ""

    @property
    def table(self) -> str:
        """The page of the experiment's runs, with the columns that tell them apart."""
        return self._page(f"runs?viewStateShareKey={library.VIEW}&") if self._run_id else ""

    def _page(self, place: str) -> str:
        base = masked(self._uri) if store.is_server(self._uri) else "http://127.0.0.1:5000"
        return f"{base.rstrip('/')}/#/experiments/{self._experiment_id}/{place}workflowType=machine_learning"

    @property
    def ui_command(self) -> str:
        """The command that starts MLflow's interface for this store, empty where a server runs already."""
        if store.is_server(self._uri):
            return ""
        where = "" if self._uri == self._default else f" --backend-store-uri {shlex.quote(masked(self._uri))}"
        return f"mlflow ui{where}"

    @property
    def to_make(self) -> str:
        """The name of the database that ``connect`` will make; empty where it is there, or a server has it.

        Raises TrackingError where it cannot be made.
        """
        if store.exists(self._uri):
            return ""
        store.check(self._uri)
        return Path(masked(self._uri).partition("?")[0]).name

    def connect(self, address: str = "") -> None:
        """Import MLflow and open the store, the one at ``address`` if there is one; raises TrackingError."""
        self._uri = address or self._uri
        with self._reported():
            self._client = self._open()

    def start(
        self, name: str, params: Mapping[str, object], tags: dict[str, str], data: Dataset | None, directory: Path
    ) -> None:
        """Open the run with its parameters, tags and dataset; raises TrackingError.

        In a directory that was claimed, an earlier process may have died while it opened the run: that run is
        looked for, and given what it lacks.
        """
        before = self._lock is not None
        super().start(name, params, tags, data, directory)
        if self.parent is not None:
            tags = tags | {"mlflow.parentRunId": self.parent}
        with self._reported(), quietly():
            run = self._run_of(directory) if before else None
            if run is None:
                run = self._create_run(self._unused(name), tags | liveness.liveness_tags(directory), directory)
            else:
                self._mark_running(run.info.run_id, directory)
            self._run_id = run.info.run_id
            self._log_params({key: value for key, value in params.items() if key not in run.data.params})
            if data is not None and not (run.inputs and run.inputs.dataset_inputs):
                self._log_dataset(data)
        with replaced(directory / IDENTITY) as file:
            file.write(f"{self._run_id}\n".encode())
        target = {"uri": self._uri, "experiment": self._experiment_id, "run": self._run_id}
        self._begin_to_send(Spool(directory, target))

    def reopen(self, run_id: str, directory: Path) -> None:
        """Go on with a run that has ended, RUNNING again; raises TrackingError."""
        super().reopen(run_id, directory)
        try:
            spool = Spool.load(directory)
        except ValueError:  # then all is sent again, which changes nothing
            spool = Spool(directory, {"uri": self._uri, "experiment": self._experiment_id, "run": run_id})
        spool.todo = [job for job in spool.todo if job[0] != "end"]
        with self._reported(), quietly():
            self._mark_running(run_id, directory)
        self._run_id = run_id
        self._begin_to_send(spool)

    def knows(self, run_id: str) -> bool:
        """Return whether the store has this run; raises TrackingError."""
        with self._reported():
            return self._has(self._client, run_id)

    def children(self, running: bool = False) -> list[Child]:
        """Return the runs (or the ``running`` ones) whose parent this is, the oldest first; raises TrackingError."""
        runs: list[Run] = []
        token = None
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

    def end(self, child: Child, outcome: Outcome) -> None:
        """End a child whose own process cannot do it any more."""
        with self._reported(), quietly():
            self._client.set_tag(child.id, "bpx.outcome", outcome)
            self._client.set_terminated(child.id, STATUS[outcome])

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Keep the finite ones of ``metrics`` at a step, with the system's where they are due, and return them."""
        return super().log(step, epoch, metrics | (self._system.sample() if self._system else {}))

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        super().tag(key, value)
        self._add("tag", key, _tag_value(value))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file or a directory's files under ``folder``; what lies elsewhere is copied into the directory."""
        if self._spool is None:
            return
        home = self._spool.directory
        if not path.is_relative_to(home):
            place = home / path.name
            if path.is_dir():
                shutil.copytree(path, place, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, place)
            path = place
        self._add("artifact", str(path.relative_to(home)), folder)

    @property
    def takes_images(self) -> bool:
        """MLflow shows them, with a slider over the steps."""
        return True

    def image(self, path: Path, key: str, step: int) -> None:
        """Log a picture of the run's directory under ``key`` at ``step``."""
        super().image(path, key, step)
        if self._spool is not None:
            place = str(path.relative_to(self._spool.directory))
            self._add("image", place, key, step, int(time.time() * 1000))

    def save_model(self, directory: Path, data: Dataset) -> None:
        """Log a pyfunc model that takes raw features and gives the network's outputs."""
        example = data.scaler.inverse((data.x_test if len(data.x_test) else data.x_train)[:3])
        digits = (5 - np.floor(np.log10(np.abs(data.scaler.scale)))).astype(int).tolist()  # what float32 knows of them
        rounded = [[round(value, n) for value, n in zip(row, digits, strict=True)] for row in example.tolist()]
        self._add("model", raw_cells(data.columns, np.array(rounded)) if data.columns else rounded)
        if self.register is not None:
            self._add("register", self.register)

    def detach(self) -> None:
        """Send what waits and let the run go on: others work on it still."""
        if self._delivery is not None:
            self._delivery.finish(None)
            self._unsent = self._delivery.failure
            self._delivery = None
        super().detach()

    def conclude(self, outcome: Outcome) -> None:
        """Put the run's end, the status of its outcome, into the spool: the first outcome told is the one."""
        if self._delivery is None or self._concluded:
            return
        if self.non_finite:
            self._add("tag", "bpx.nonfinite_metrics", str(self.non_finite))
        self._add("tag", "bpx.outcome", outcome)
        self._add("end", STATUS[outcome], int(time.time() * 1000))
        self._concluded = True

    def finish(self, outcome: Outcome, within: float | None = None) -> None:
        """Conclude the run unless that has been done, and send what waits; what cannot be sent stays in the spool."""
        if self._delivery is not None:
            with suppress(OSError):  # a full disk has been said by then, and must not hide what else there is
                self.conclude(outcome)
            self._delivery.finish(within)
            self._unsent = self._delivery.failure
            self._delivery = None
        elif self._run_id and self._spool is None:
            with suppress(TrackingError), self._reported(), quietly():  # it never began, which has been said
                self._client.set_terminated(self._run_id, STATUS[outcome])
        super().finish(outcome, within)

    @property
    def unsent(self) -> str:
        """Why something could not be sent, in one line; empty where all has arrived."""
        return self._unsent

    def _add(self, *job: object) -> None:
        if self._spool is not None:
            self._spool.add(*job)

    def _begin_to_send(self, spool: Spool) -> None:
        spool.save()
        self._spool = spool
        self._system = SystemMetrics() if self.system_metrics else None
        self._delivery = Delivery(self._client, spool, masked(self._uri))

    def _run_of(self, directory: Path) -> Run | None:
        """Return the run that was opened for a directory, None if there is none."""
        place = liveness.liveness_tags(directory)["bpx.run_directory"]
        if "'" in place:
            return None  # MLflow's filters have no way to write it
        found = self._client.search_runs([self._experiment_id], f"tags.`bpx.run_directory` = '{place}'", max_results=1)
        return found[0] if found else None

    def _unused(self, name: str) -> str:
        """Return ``name``, with a counter where a run of the experiment, or of the same parent, has it already."""
        if "'" in name:
            return name  # MLflow's filters have no way to write it
        beside = f" and tags.`mlflow.parentRunId` = '{self.parent}'" if self.parent else ""

        def counted(n: int) -> str:
            return name if n == 1 else f"{name} {n}"

        def used(n: int) -> bool:
            wanted = f"attributes.run_name = '{counted(n)}'{beside}"
            return bool(self._client.search_runs([self._experiment_id], wanted, max_results=1))

        last, free = 0, 1
        while used(free):
            last, free = free, 2 * free
        while free - last > 1:
            middle = (last + free) // 2
            last, free = (middle, free) if used(middle) else (last, middle)
        return counted(free)

    def _create_run(self, name: str, tags: dict[str, str], directory: Path) -> Run:
        """Return a new run; where the answer was lost, the one that was made."""
        short = {key: _tag_value(value) for key, value in tags.items()}
        run: Run | None
        try:
            run = self._client.create_run(self._experiment_id, run_name=name, tags=short)
        except Exception:
            run = self._run_of(directory)
            if run is None:
                raise
        return run

    def _mark_running(self, run_id: str, directory: Path) -> None:
        self._client.update_run(run_id, status="RUNNING")
        for key, value in liveness.liveness_tags(directory).items():
            self._client.set_tag(run_id, key, _tag_value(value))

    def _log_params(self, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        pairs = [Param(key, masked(str(value))[:LONGEST_PARAM]) for key, value in params.items()]
        for i in range(0, len(pairs), PARAMS_A_BATCH):
            self._client.log_batch(self._run_id, params=pairs[i : i + PARAMS_A_BATCH])

    def _log_dataset(self, data: Dataset) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        source = json.dumps({"uri": data.source})
        profile = json.dumps({"training samples": len(data.x_train), "test samples": len(data.x_test)})
        dataset = Dataset(data.name[:LONGEST_NAME], data.sha256[:32], "local", source, profile=profile)
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        try:
            self._client.log_inputs(self._run_id, inputs)
        except MlflowException:  # a server that is told of a dataset by two runs at once refuses one: it knows it then
            self._client.log_inputs(self._run_id, inputs)

    def _open(self) -> MlflowClient:
        with store.one_at_a_time(self._uri):
            store.check(self._uri)
            store.answers(self._uri)
            store.make(self._uri)
            client = library.open_client(self._uri)
            with quietly():
                self._experiment_id = self._find_experiment(client)
                self.abandoned = self._end_abandoned(client)
                if self.parent is not None and not self._has(client, self.parent):
                    raise TrackingError(f"tracking.parent: {masked(self._uri)} has no run {self.parent}")
        return client

    @staticmethod
    def _has(client: MlflowClient, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _find_experiment(self, client: MlflowClient) -> str:
        from mlflow.exceptions import MlflowException

        name = str(self.experiment)
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
            raise TrackingError(
                f"the experiment {name} has been deleted: give another tracking.experiment, or `{again}`"
            )
        self.notes += store.moved(self._uri, known.artifact_location)
        library.set_columns(client, known)
        return str(known.experiment_id)

    def _end_abandoned(self, client: MlflowClient) -> list[str]:
        """End the runs that processes of this machine left RUNNING when they died, and return their names."""
        host = liveness.HOST.replace("'", "")
        wanted = f"attributes.status = 'RUNNING' and tags.`bpx.host` = '{host}'"
        ended = []
        for run in client.search_runs([self._experiment_id], wanted, max_results=RUNS_A_PAGE):
            gone = liveness.is_process_dead(
                run.data.tags.get("bpx.run_directory", ""), run.data.tags.get("bpx.pid", "")
            )
            # a run that has ended since it was listed has given its lock back, too
            if gone and client.get_run(run.info.run_id).info.status == "RUNNING":
                client.set_tag(run.info.run_id, "bpx.outcome", Outcome.INTERRUPTED)
                client.set_terminated(run.info.run_id, STATUS[Outcome.INTERRUPTED])
                folder = Path(run.data.tags.get("bpx.run_directory", "")).name
                ended.append(f"{run.info.run_name} {folder}".strip())
        return ended

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Ask first whether the store answers, and report what goes wrong with it."""
        with store.failures_reported(self._uri):
            if self._client is not None:
                store.answers(self._uri)
            yield


def _tag_value(value: str) -> str:
    return masked(value)[:LONGEST_TAG]
