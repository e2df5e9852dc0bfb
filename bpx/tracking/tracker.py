"""Tracker: what a run tells of itself, kept in its directory and, by a subclass, elsewhere."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO


class TrackingError(RuntimeError):
    """A tracking server or store that cannot be used; the text is one line."""


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

    ``per_layer`` names the quantities that become a metric for every layer, ``figures`` and ``model`` tell
    whether they are made, ``parent`` is the id of the run that this one belongs to. Non-finite values are not
    kept as metrics but counted.
    """

    per_layer: list[str] = field(default_factory=list)
    figures: bool = True
    model: bool = True
    parent: str | None = None

    def __post_init__(self) -> None:
        self.non_finite = 0
        self._file: TextIO | None = None
        self._started = 0.0

    @property
    def run_id(self) -> str | None:
        """The id of the run in the store, None where there is none."""
        return None

    @property
    def address(self) -> str:
        """The store's URI, the same from wherever it is used; empty where there is none."""
        return ""

    @property
    def link(self) -> str:
        """The address at which the run can be seen, empty where there is none."""
        return ""

    @property
    def ui_command(self) -> str:
        """The command that shows the run at ``link``."""
        return ""

    def connect(self) -> None:
        """Begin to reach the store, without waiting for it."""

    def ready(self) -> None:
        """Wait until the store is reached; raises TrackingError."""

    def start(self, name: str, params: dict[str, Any], tags: dict[str, str], data: Any, directory: Path) -> None:
        """Open the run, ``data`` being its dataset or None; raises TrackingError."""
        self._file = (directory / "metrics.jsonl").open("a", encoding="utf-8")
        self._started = time.perf_counter()

    def reopen(self, run_id: str, directory: Path) -> None:
        """Go on with a run that has ended; raises TrackingError."""
        self._file = (directory / "metrics.jsonl").open("a", encoding="utf-8")
        self._started = time.perf_counter()

    def knows(self, run_id: str) -> bool:
        """Return whether the store has this run."""
        return False

    def children(self, running: bool = False) -> list[Child]:
        """Return the runs (or the ``running`` ones) whose parent this is, the oldest first: none without a store."""
        return []

    def end(self, child: Child, outcome: str) -> None:
        """End a child whose own process cannot do it any more."""

    def log(self, step: int, epoch: float, metrics: dict[str, float]) -> dict[str, float]:
        """Keep the finite ones of ``metrics`` at a step and return them."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        self.non_finite += len(metrics) - len(finite)
        if self._file is not None:
            seconds = round(time.perf_counter() - self._started, 4)
            line = {"step": step, "epoch": round(epoch, 6), "time": seconds, "metrics": finite}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        return finite

    def tag(self, key: str, value: str) -> None:
        """Attach a word to the run."""

    def artifact(self, path: Path, folder: str) -> None:
        """Hand over a file, or a directory's files, to stand under ``folder``."""

    def save_model(self, directory: Path, data: Any) -> None:
        """Hand over the model files of ``directory``."""

    def leave(self) -> None:
        """Send what is queued and let the run go on: others work on it still."""

    def finish(self, outcome: str) -> None:
        """Close the run as finished, diverged, pruned, interrupted or crashed; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None


class LocalTracker(Tracker):
    """The local record alone: ``tracking=none``."""
