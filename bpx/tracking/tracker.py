"""Tracker: metrics of a run, stored in its directory and, by subclasses, in a tracking store."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, BinaryIO, Self

from bpx.records import Outcome
from bpx.system.files import cut_torn_line, naming
from bpx.system.run_files import METRICS
from bpx.system.text import one_line
from bpx.tracking import liveness
from bpx.tracking.beside import TrackerBeside
from bpx.tracking.errors import TrackingError
from bpx.tracking.spool import metric_line

if TYPE_CHECKING:
    from bpx.data.dataset import Dataset

log = logging.getLogger("bpx")


@dataclass(frozen=True)
class Child:
    """A run as read from the store, with its last metrics."""

    id: str
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


@dataclass
class Tracker:
    """Store the metrics of a run in its directory, one JSON line per record (``metrics.jsonl``).

    Non-finite values are counted, not stored.

    Attributes
    ----------
    per_layer
        Quantities that are logged for every layer.
    figures
        Whether figures are drawn, or their format.
    model
        Whether the model is logged.
    parent
        Id of the parent run.
    also
        Additional trackers by name (``bpx.tracking.beside``).
    run_id
        Id of the run in the store, None without a store.
    address
        Absolute URI of the store; empty without a store.
    unsent
        Why something could not be sent, in one line; empty if everything has arrived.
    """

    per_layer: list[str] = field(default_factory=list)
    figures: bool | str = True
    model: bool = True
    parent: str | None = None
    also: dict[str, object] = field(default_factory=dict)  # read where subclasses are defined: built-in names alone

    def __post_init__(self) -> None:
        self.run_id: str | None = None
        self.address = self.unsent = ""
        self.non_finite = 0
        self.differing = 0  # metrics of a resumed run that are not what they were before
        self.abandoned: list[str] = []  # names of runs whose processes died
        self.notes: list[str] = []  # printed before the run
        self._beside: dict[str, TrackerBeside] = {}  # those of ``also`` that are open
        self._file: BinaryIO | None = None
        self._lock: IO[str] | None = None
        self._started = 0.0
        self._logged: dict[tuple[int, str], float] = {}

    @property
    def figure_format(self) -> str:
        """Format of the figures, png, pdf or svg; empty if none are drawn."""
        return "png" if self.figures is True else str(self.figures or "")

    @property
    def directions(self) -> list[str]:
        """Lines for the terminal that say how to inspect the run."""
        return []

    @property
    def to_make(self) -> str:
        """Name of the store that ``connect`` will create, which takes seconds; empty if it exists."""
        return ""

    def connect(self, address: str = "") -> None:
        """Connect to the store, at ``address`` if given; raises TrackingError."""

    def claim(self, directory: Path) -> None:
        """Lock ``directory`` until the run ends; raises TrackingError if another process holds it."""
        self._lock = liveness.lock_run_directory(directory, alone=True)

    def start(
        self, name: str, params: Mapping[str, object], tags: dict[str, str], data: Dataset | None, directory: Path
    ) -> None:
        """Open the run, ``data`` being its dataset or None; raises TrackingError."""
        self._open_files(directory)
        self._begin_beside(directory, name, params)
        for key, value in tags.items():
            self._tell_beside("tag", key, value)

    def begin_study(
        self, name: str, params: Mapping[str, object], tags: dict[str, str], directory: Path, run_id: str | None = None
    ) -> Self:
        """Open the parent run of a study, or reopen ``run_id`` if the store has it; raises TrackingError.

        The context ends the run as finished, interrupted or crashed.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.connect()
        if run_id is not None and self.knows(run_id):
            self.reopen(run_id, directory)
        else:
            self.start(name, params, tags, None, directory)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(Outcome.of_context(kind))

    def reopen(self, run_id: str, directory: Path) -> None:
        """Reopen a run that has ended; raises TrackingError."""
        self._open_files(directory)
        self._begin_beside(directory, "", {})

    def compare(self, position: int) -> None:
        """Compare metrics with those already in ``metrics.jsonl``, instead of logging them again, from ``position`` on.

        A run that was resumed before, from an earlier step, has lines of later steps before ``position`` as well.
        Raises ValueError if the file is shorter than ``position``.
        """
        self._logged = logged(self._path, position)

    @property
    def position(self) -> int:
        """Number of bytes of ``metrics.jsonl``, all synced to the disk."""
        if self._file is None:
            return 0
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def knows(self, run_id: str) -> bool:
        """Return whether the store has this run."""
        return False

    def children(self, running: bool = False) -> list[Child]:
        """Return the child runs, or only ``running`` ones, the oldest first; none without a store."""
        return []

    def end(self, child: Child, outcome: Outcome) -> None:
        """End a child run whose process has died."""

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Log the finite metrics at a step and return them."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        self.non_finite += len(metrics) - len(finite)
        new = {key: value for key, value in finite.items() if not self._known(step, key, value)}
        if self._file is not None and new:
            seconds = round(time.perf_counter() - self._started, 4)
            now = int(time.time() * 1000)
            line = {"step": step, "epoch": round(epoch, 6), "time": seconds, "at": now, "metrics": new}
            with naming(self._path):
                text = json.dumps(line).encode() + b"\n"
                while text:
                    text = text[self._file.write(text) :]
            self._tell_beside("log", step, new)
        return finite

    def _known(self, step: int, key: str, value: float) -> bool:
        """Return whether a metric was logged before the interruption; count it if its value differed."""
        before = self._logged.get((step, key))
        self.differing += before is not None and before != value and not key.startswith(("time/", "system/"))
        return before is not None

    def together(self) -> AbstractContextManager[None]:
        """Return a context at whose end everything logged inside is written at once."""
        return nullcontext()

    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""
        self._tell_beside("tag", key, value)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Upload a file, or the files of a directory, to ``folder``."""

    @property
    def takes_images(self) -> bool:
        """Whether the store shows images by step."""
        return bool(self.also)

    def image(self, path: Path, key: str, step: int) -> None:
        """Log an image in the run directory under ``key`` at ``step``."""
        self._tell_beside("image", path, key, step)

    def save_model(self, directory: Path, data: Dataset) -> None:
        """Log the model saved in ``directory``."""

    def detach(self) -> None:
        """Send the rest and leave the run open for other processes."""
        self._end_beside(None)
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None

    def conclude(self, outcome: Outcome) -> None:
        """Log the outcome, after everything else, without waiting for its delivery."""

    def finish(self, outcome: Outcome, within: float | None = None) -> None:
        """Close the run with its outcome; a second call does nothing.

        ``within`` limits the time of the delivery, in seconds.
        """
        self._end_beside(outcome)
        Tracker.detach(self)

    def _begin_beside(self, directory: Path, name: str, params: Mapping[str, object]) -> None:
        for key, tracker in self.also.items():
            assert isinstance(tracker, TrackerBeside)
            try:
                tracker.begin(directory, name, params)
            except Exception as error:
                raise TrackingError(f"tracking.also.{key}: {one_line(error)}") from error
            self._beside[key] = tracker

    def _tell_beside(self, what: str, *words: object) -> None:
        """Notify the additional trackers; one that fails is dropped, with a warning in the log."""
        for key, tracker in list(self._beside.items()):
            try:
                getattr(tracker, what)(*words)
            except Exception as error:
                del self._beside[key]
                log.warning("tracking.also.%s failed and is left out from here on: %s", key, one_line(error))

    def _end_beside(self, outcome: Outcome | None) -> None:
        self._tell_beside("end", outcome)
        self._beside.clear()

    def _open_files(self, directory: Path) -> None:
        if self._lock is None:
            self._lock = liveness.lock_run_directory(directory, alone=False)
        self._path = directory / METRICS
        with naming(self._path):
            self._file = self._path.open("a+b", buffering=0)
            cut_torn_line(self._file)  # which its process did not live to complete
        self._started = time.perf_counter()


def logged(path: Path, least: int) -> dict[tuple[int, str], float]:
    """Return the metrics of the complete lines of ``metrics.jsonl``, by step and name.

    Raises ValueError, naming the file and the line, if a line is damaged or the file has fewer than ``least`` bytes.
    """
    found: dict[tuple[int, str], float] = {}
    try:
        with path.open("rb") as file:
            if (size := file.seek(0, os.SEEK_END)) < least:
                raise ValueError(f"expected at least {least:,} bytes, got {size:,}")
            file.seek(0)
            for number, text in enumerate(file, 1):
                if not text.endswith(b"\n"):
                    break  # cut off when its process died
                try:
                    line = metric_line(text)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error
                found |= {(line["step"], key): value for key, value in line["metrics"].items()}
        return found
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
