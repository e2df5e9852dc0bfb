"""MLflow: parameters, metrics, artifacts and model of a run, sent by a background thread."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bpx.engine.features import raw_cells
from bpx.records import Outcome
from bpx.system.files import replaced
from bpx.system.run_files import RUN_ID
from bpx.system.text import masked
from bpx.tracking import library, store
from bpx.tracking.delivery import Delivery
from bpx.tracking.errors import TrackingError
from bpx.tracking.experiment import MAX_NAME, STATUS, Experiment, find_experiment, tag_value
from bpx.tracking.library import quietly
from bpx.tracking.spool import Spool
from bpx.tracking.system_metrics import SystemMetrics
from bpx.tracking.tracker import Child, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from bpx.data.dataset import Dataset

OPENED: dict[tuple[str, str, str], Experiment] = {}  # by store, experiment and parent: a parent's children share it


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
        if self.experiment is not None and not 0 < len(self.experiment.strip()) <= MAX_NAME:
            raise ValueError(f"tracking.experiment must be a name of 1 to {MAX_NAME} characters")
        if self.register is not None and not (self.register.strip() and set(self.register).isdisjoint("/:'")):
            raise ValueError(f"tracking.register must be a name without / : and ', got {self.register!r}")
        if self.register is not None and not self.model:
            raise ValueError("tracking.register needs tracking.model=true, which searches and studies do without")
        self.experiment = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "bpx"
        self._default = store.default(Path.cwd())
        self.address = store.resolve(self.uri, Path.cwd())
        store.check_address(self.address)
        self._client: Any = None
        self._spool: Spool | None = None
        self._delivery: Delivery | None = None
        self._concluded = False
        self._system: SystemMetrics | None = None

    @property
    def directions(self) -> list[str]:
        """How to start MLflow's interface, the run's page in it, and that of the experiment's runs in its columns."""
        if self.run_id is None:
            return []
        look = [f"look      {self.ui_command}"] if self.ui_command else []
        table = self._page(f"runs?viewStateShareKey={library.VIEW}&")
        return [*look, f"open      {self.link}", f"runs      {table}"]

    @property
    def link(self) -> str:
        """The run's page in MLflow's interface, in the view for training."""
        return self._page(f"runs/{self.run_id}?")

    def _page(self, place: str) -> str:
        base = masked(self.address) if library.is_server(self.address) else "http://127.0.0.1:5000"
        return f"{base.rstrip('/')}/#/experiments/{self._experiment.id}/{place}workflowType=machine_learning"

    @property
    def ui_command(self) -> str:
        """The command that starts MLflow's interface for this store, empty where a server runs already."""
        if library.is_server(self.address):
            return ""
        where = "" if self.address == self._default else f" --backend-store-uri {shlex.quote(masked(self.address))}"
        return f"mlflow ui{where}"

    @property
    def to_make(self) -> str:
        """The name of the database that ``connect`` will make; empty where it is there, or a server has it.

        Raises TrackingError where it cannot be made.
        """
        if store.exists(self.address):
            return ""
        store.check(self.address)
        return Path(masked(self.address).partition("?")[0]).name

    def connect(self, address: str = "") -> None:
        """Import MLflow and open the store, the one at ``address`` if there is one; raises TrackingError."""
        self.address = address or self.address
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
            runs = self._experiment
            run = runs.run_of(directory) if before else None
            if run is None:
                run = runs.create_run(runs.unused_name(name, self.parent), tags, directory)
            else:
                runs.mark_running(run.info.run_id, directory)
            self.run_id = run_id = str(run.info.run_id)
            runs.log_params(run_id, {key: value for key, value in params.items() if key not in run.data.params})
            if data is not None and not (run.inputs and run.inputs.dataset_inputs):
                runs.log_dataset(run_id, data)
        with replaced(directory / RUN_ID) as file:
            file.write(f"{run_id}\n".encode())
        target = {"uri": self.address, "experiment": self._experiment.id, "run": run_id}
        self._begin_to_send(Spool(directory, target))

    def reopen(self, run_id: str, directory: Path) -> None:
        """Reopen a run that has ended; raises TrackingError."""
        super().reopen(run_id, directory)
        try:
            spool = Spool.load(directory)
        except ValueError:  # then all is sent again, which changes nothing
            spool = Spool(directory, {"uri": self.address, "experiment": self._experiment.id, "run": run_id})
        spool.todo = [job for job in spool.todo if job[0] != "end"]
        with self._reported(), quietly():
            self._experiment.mark_running(run_id, directory)
        self.run_id = run_id
        self._begin_to_send(spool)

    def knows(self, run_id: str) -> bool:
        """Return whether the store has this run; raises TrackingError."""
        with self._reported():
            return self._experiment.has(run_id)

    def children(self, running: bool = False) -> list[Child]:
        """Return the runs (or the ``running`` ones) whose parent this is, the oldest first; raises TrackingError."""
        with self._reported():
            return self._experiment.children(str(self.run_id), running)

    def end(self, child: Child, outcome: Outcome) -> None:
        """End a child run whose process has died."""
        with self._reported(), quietly():
            self._client.set_tag(child.id, "bpx.outcome", outcome)
            self._client.set_terminated(child.id, STATUS[outcome])

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Log the finite metrics at a step, with system metrics if due, and return them."""
        return super().log(step, epoch, metrics | (self._system.sample() if self._system else {}))

    def together(self) -> AbstractContextManager[None]:
        """Return a context at whose end all jobs added inside are written at once."""
        return nullcontext() if self._spool is None else self._spool.together()

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        super().tag(key, value)
        self._add("tag", key, tag_value(value))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file, or the files of a directory, to ``folder``; files from elsewhere are copied first."""
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
        """Log an image in the run directory under ``key`` at ``step``."""
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
        """Send the spool and leave the run open for other processes."""
        if self._delivery is not None:
            self._delivery.finish(None)
            self.unsent = self._delivery.failure
            self._delivery = None
        super().detach()

    def conclude(self, outcome: Outcome) -> None:
        """Add the end of the run with its status to the spool; only the first outcome counts."""
        if self._delivery is None or self._concluded:
            return
        if self.non_finite:
            self._add("tag", "bpx.nonfinite_metrics", str(self.non_finite))
        self._add("tag", "bpx.outcome", outcome)
        self._add("end", STATUS[outcome], int(time.time() * 1000))
        self._concluded = True

    def finish(self, outcome: Outcome, within: float | None = None) -> None:
        """Conclude the run unless it is concluded, and send the spool; the rest stays there if sending fails."""
        if self._delivery is not None:
            with suppress(OSError):  # a full disk has been said by then, and must not hide what else there is
                self.conclude(outcome)
            self._delivery.finish(within)
            self.unsent = self._delivery.failure
            self._delivery = None
        elif self.run_id and self._spool is None:
            with suppress(TrackingError), self._reported(), quietly():  # it never began, which has been said
                self._client.set_terminated(self.run_id, STATUS[outcome])
        super().finish(outcome, within)

    def _add(self, *job: object) -> None:
        if self._spool is not None:
            self._spool.add(*job)

    def _begin_to_send(self, spool: Spool) -> None:
        spool.save()
        self._spool = spool
        self._system = SystemMetrics() if self.system_metrics else None
        self._delivery = Delivery(self._client, spool, masked(self.address))

    def _open(self) -> MlflowClient:
        """Open the store, once per process for all children of a parent."""
        key = (self.address, str(self.experiment), self.parent or "")
        if key in OPENED and store.exists(self.address):
            self._experiment = OPENED[key]
            return self._experiment.client
        with store.one_at_a_time(self.address):
            store.check(self.address)
            store.answers(self.address)
            store.make(self.address)
            client = library.open_client(self.address)
            with quietly():
                known = find_experiment(client, str(self.experiment))
                self.notes += store.moved(self.address, known.artifact_location)
                library.set_columns(client, known)
                self._experiment = Experiment(client, str(known.experiment_id))
                self.abandoned = self._experiment.end_abandoned()
                if self.parent is not None and not self._experiment.has(self.parent):
                    raise TrackingError(f"tracking.parent: {masked(self.address)} has no run {self.parent}")
        if self.parent is not None:
            OPENED[key] = self._experiment
        return client

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Check that the store answers, and turn its errors into TrackingError."""
        with store.failures_reported(self.address):
            if self._client is not None:
                store.answers(self.address)
            yield
