"""Checkpoints: the state of a run in files, from which it is resumed.

``checkpoints/`` in the run directory holds ``step-N.bpx`` (the state after N steps), ``rows-K.bpx`` (the rows added
to the record between two checkpoints) and ``best.bpx`` (the state with the best value of a metric).
"""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

from bpx.engine.arrays import Arrays, Values
from bpx.engine.memory import add_prefix, select_prefix
from bpx.engine.numbers import require
from bpx.records import Keys, RecordWriter
from bpx.system.files import Json
from bpx.training import checkpoint_file
from bpx.training.checkpoint_file import Damaged
from bpx.training.recorder import FlightRecorder
from bpx.training.state import State, Training

METRICS = ("cost/train", "cost/val", "accuracy/val")
OFTEN = 10.0  # seconds between two checkpoints where nothing else is asked for


@dataclass(frozen=True)
class CheckpointSettings:
    """When checkpoints are written, and how many are kept.

    Attributes
    ----------
    every, unit
        Interval of checkpoints in epochs or steps; None: one every ten seconds.
    keep
        Number of checkpoints kept, the newest; 0 writes none.
    best
        Metric by which the best checkpoint is kept as well; None: no best checkpoint.
    """

    every: int | None = None
    unit: str = "epochs"
    keep: int = 2
    best: str | None = None

    def __post_init__(self) -> None:
        require(self.every is None or self.every >= 1, "checkpoint.every", "at least 1", self.every)
        require(self.unit in ("epochs", "steps"), "checkpoint.unit", "epochs or steps", self.unit)
        require(self.keep >= 0, "checkpoint.keep", "at least 0", self.keep)
        require(self.best in (None, *METRICS), "checkpoint.best", f"null or one of {', '.join(METRICS)}", self.best)


def newest_facts(folder: Path) -> Json:
    """Return the facts of the newest undamaged checkpoint in a folder, empty without one."""
    for path in checkpoint_paths(folder):
        try:
            return checkpoint_file.read(path)[0]
        except Damaged:
            pass
    return {}


class Checkpoints:
    """The checkpoints of one run: written on schedule, the newest few kept, and the best.

    ``facts`` returns the caller's own state as JSON, which is written into every checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        settings: CheckpointSettings,
        training: Training,
        record: RecordWriter,
        recorder: FlightRecorder,
        facts: Callable[[], Json],
    ) -> None:
        self.folder, self.settings, self.training, self.record = folder, settings, training, record
        self.recorder, self.facts = recorder, facts
        self._parts = 0
        self._value: float | None = None
        self._best: State | None = None
        self._written = time.monotonic()
        self._at = -1
        self._resumed_at: int | None = None
        steps = {"epochs": len(training.batches), "steps": 1}[settings.unit]
        self._every = None if settings.every is None else settings.every * steps

    @property
    def due(self) -> bool:
        """Whether the schedule asks for a checkpoint now."""
        if self._every is None:
            return time.monotonic() - self._written >= OFTEN
        return self.training.progress.step % self._every == 0

    def observe(self, metrics: dict[str, float]) -> None:
        """Copy the state if its metric is the best so far; it is written with the next checkpoint."""
        value = metrics.get(self.settings.best or "", math.nan)
        sign = -1 if self.settings.best == "accuracy/val" else 1
        if self.settings.keep and (sign * value < sign * self._value if self._value is not None else value == value):
            self._value = value
            facts = {"metric": self.settings.best, "value": value, "step": self.training.progress.step}
            state = self.training.capture()
            self._best = State(state.arrays, state.facts | facts)

    def write(self, final: bool = False) -> Path | None:
        """Write a checkpoint between two steps; an OSError names the file.

        A checkpoint already written at this step is not written again, unless this is the ``final`` one, which is
        written even if none are kept, until ``discard`` removes it. Checkpoints later than the step at which a run
        was resumed are damaged or belong to a discarded continuation: they are removed.
        """
        step = self.training.progress.step
        if not (self.settings.keep or final):
            return None
        path = self._state(step)
        if step == self._at and not final:
            return path
        self.folder.mkdir(exist_ok=True)
        if self._resumed_at is not None:
            for later in (p for p in checkpoint_paths(self.folder) if p > self._state(self._resumed_at)):
                later.unlink(missing_ok=True)
            self._resumed_at = None
        self._write_rows()
        if self._best is not None:
            checkpoint_file.write(self.folder / "best.bpx", self._best.facts, self._best.arrays)
            self._best = None
        state, past = self.training.capture(), self.recorder.past()
        own = {
            "numerics_fingerprint": numerics_fingerprint(),
            "parts": self._parts,
            "best": self._value,
            "past": past.facts,
        }
        arrays = state.arrays | add_prefix("past", past.arrays)
        checkpoint_file.write(path, state.facts | self.facts() | own, arrays)
        self._written, self._at = time.monotonic(), step
        for old in checkpoint_paths(self.folder)[max(1, self.settings.keep) :]:
            old.unlink(missing_ok=True)
        return path

    def discard(self) -> None:
        """Remove the checkpoints of a run that has ended and keeps none."""
        if not self.settings.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def resume(self, check: Callable[[Json], None]) -> tuple[Json, list[str]]:
        """Restore the newest undamaged checkpoint; return its facts, and messages about newer, damaged ones.

        ``check`` raises ValueError if the facts do not fit the run. Without a checkpoint the facts are empty, and
        the state is unchanged.
        """
        start, wrong = self.training.capture(), list[str]()
        for path in checkpoint_paths(self.folder):
            try:
                facts = self._restore(path, check)
            except ValueError as error:
                wrong.append(str(error))
            else:
                self._resumed_at = self._at
                return facts, wrong
        self.training.restore(start)
        self.recorder.restart()
        self._resumed_at = self._at = -1
        return {}, wrong

    def _restore(self, path: Path, check: Callable[[Json], None]) -> Json:
        facts, arrays = checkpoint_file.read(path)
        try:
            rows = [row for part in range(1, int(facts["parts"]) + 1) for row in self._read_rows(part)]
            check(facts)
            self.training.restore(State(arrays, facts))
            self.recorder.recall(State(select_prefix("past", arrays), facts["past"]))
            self._parts, self._value, self._at = int(facts["parts"]), facts["best"], self.training.progress.step
        except Damaged:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{path} does not fit this run: {error}") from error
        for row in rows:
            self.record.append(*row)
        self.record.news()  # they are on the disk already
        return facts

    def _write_rows(self) -> None:
        news = self.record.news()
        if news:
            self._parts += 1
            arrays: Arrays = {}
            for i, (_, steps, epochs, values) in enumerate(news):
                arrays |= {f"{i}/step": steps, f"{i}/epoch": epochs, f"{i}/value": values}
            keys = [[list(key) for key in group[0]] for group in news]
            checkpoint_file.write(self._rows(self._parts), {"keys": keys}, arrays)

    def _read_rows(self, part: int) -> Iterator[tuple[int, float, Keys, Values]]:
        facts, arrays = checkpoint_file.read(self._rows(part))
        for i, group in enumerate(facts["keys"]):
            keys: Keys = tuple((str(a), str(b), str(c), int(d)) for a, b, c, d in group)
            steps, epochs, values = (arrays[f"{i}/{name}"] for name in ("step", "epoch", "value"))
            for step, epoch, row in zip(steps.tolist(), epochs.tolist(), values, strict=True):
                yield step, epoch, keys, row

    def _state(self, step: int) -> Path:
        return self.folder / f"step-{step:010d}.bpx"

    def _rows(self, part: int) -> Path:
        return self.folder / f"rows-{part:06d}.bpx"


def checkpoint_paths(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the newest first."""
    return sorted(folder.glob("step-" + 10 * "[0-9]" + ".bpx"), reverse=True)


def numerics_fingerprint() -> dict[str, str]:
    """Return what the last bits of results depend on: BLAS and its threads, NumPy, the processor."""
    blas = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    none: Json = {}
    library = min(blas, key=lambda lib: "numpy" not in lib["filepath"], default=none)  # SciPy brings one of its own
    return {
        "BLAS": " ".join(str(library.get(key)) for key in ("internal_api", "version", "architecture")),
        "threads": str(library.get("num_threads")),
        "NumPy": np.__version__,
        "machine": platform.machine(),
    }
