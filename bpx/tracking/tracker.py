"""Tracker: what a run tells of itself, kept in its directory and, by a subclass, elsewhere."""

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
    """A run of a study as the store has it, its metrics the last ones."""

    id: str
    name: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]


@dataclass
class Tracker:
    """Keep the metrics of a run in its directory, one JSON line a record (``metrics.jsonl``).

    Non-finite values are not kept as metrics but counted.

    Attributes
    ----------
    per_layer
        The quantities that become a metric for every layer.
    figures
        Whether figures are drawn, or their format.
    model
        Whether the model is logged.
    parent
        The id of the run that this one belongs to.
    also
        Further trackers by name (``bpx.tracking.beside``), which are told the same.
    run_id
        The id of the run in the store, None where there is none.
    address
        The store's URI, the same from wherever it is used; empty where there is none.
    unsent
        Why something could not be sent, in one line; empty where all has arrived.
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
        """The format of the figures, png, pdf or svg; empty where none are drawn."""
        return "png" if self.figures is True else str(self.figures or "")

    @property
    def directions(self) -> list[str]:
        """How the run can be looked at, line by line, for the terminal."""
        return []

    @property
    def to_make(self) -> str:
        """The store that ``connect`` will make, which takes seconds; empty where it is there."""
        return ""

    def connect(self, address: str = "") -> None:
        """Reach the store, the one at ``address`` if there is one; raises TrackingError."""

    def claim(self, directory: Path) -> None:
        """Keep every other process out of ``directory`` until the run ends; raises TrackingError."""
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
        """Open a study's run, the parent of others, or go on with ``run_id`` if the store has it.

        As a context it ends the run as finished, interrupted or crashed; raises TrackingError.
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
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.finish(Outcome.FINISHED if kind is None else Outcome.INTERRUPTED if interrupted else Outcome.CRASHED)

    def reopen(self, run_id: str, directory: Path) -> None:
        """Go on with a run that has ended; raises TrackingError."""
        self._open_files(directory)
        self._begin_beside(directory, "", {})

    def compare(self, position: int) -> None:
        """Do not log again, but compare, what ``metrics.jsonl`` holds: the run goes on from where it had ``position``.

        A run that went on before, from an earlier step, has lines of later steps in front of the position, too.
        Raises ValueError where the file is shorter than that.
        """
        self._logged = logged(self._path, position)

    @property
    def position(self) -> int:
        """The number of bytes of ``metrics.jsonl``, all on the disk."""
        if self._file is None:
            return 0
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def knows(self, run_id: str) -> bool:
        """Return whether the store has this run."""
        return False

    def children(self, running: bool = False) -> list[Child]:
        """Return the runs (or the ``running`` ones) whose parent this is, the oldest first: none without a store."""
        return []

    def end(self, child: Child, outcome: Outcome) -> None:
        """End a child whose own process cannot do it any more."""

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Keep the finite ones of ``metrics`` at a step and return them."""
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
        """Return whether the metric was logged before the run was interrupted, and count it if it was another."""
        before = self._logged.get((step, key))
        self.differing += before is not None and before != value and not key.startswith(("time/", "system/"))
        return before is not None

    def together(self) -> AbstractContextManager[None]:
        """Return a context in which what is told goes to the disk at its end, at once."""
        return nullcontext()

    def tag(self, key: str, value: str) -> None:
        """Attach a word to the run."""
        self._tell_beside("tag", key, value)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Hand over a file, or a directory's files, to stand under ``folder``."""

    @property
    def takes_images(self) -> bool:
        """Whether there is a store that shows images by step."""
        return bool(self.also)

    def image(self, path: Path, key: str, step: int) -> None:
        """Hand over a picture of the run's directory, to be seen under ``key`` at ``step``."""
        self._tell_beside("image", path, key, step)

    def save_model(self, directory: Path, data: Dataset) -> None:
        """Hand over the model files of ``directory``."""

    def detach(self) -> None:
        """Send what waits and let the run go on: others work on it still."""
        self._end_beside(None)
        for file in (self._file, self._lock):
            if file is not None:
                file.close()
        self._file = self._lock = None

    def conclude(self, outcome: Outcome) -> None:
        """Tell, as the last thing, how the run has ended, without waiting until it has arrived."""

    def finish(self, outcome: Outcome, within: float | None = None) -> None:
        """Close the run as finished, diverged, pruned, interrupted or crashed; a second call does nothing.

        ``within`` bounds the seconds that may pass.
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
        """Tell the trackers beside; one that fails is told no more, which the log says."""
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
    """Return what the whole lines of ``metrics.jsonl`` hold, by step and name.

    Raises ValueError, naming the file and the line, where one is damaged or the file has not ``least`` bytes.
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
