"""Spool: the queue on disk of what a run still has to send to its tracking server.

Metrics are queued in ``metrics.jsonl``, which is written anyway: ``sent`` is the number of its bytes that have arrived.
Everything else (tags, files, the model, the end) is queued in ``delivery.json`` as jobs, in order. Every job is
idempotent, so that a process may die between sending it and noting that.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bpx.system.files import Json, inside, write_json
from bpx.system.run_files import DELIVERY, METRICS
from bpx.tracking.errors import TrackingError

ARGUMENTS: dict[str, tuple[type | tuple[type, ...], ...]] = {  # of each kind of job
    "tag": (str, str),
    "artifact": (str, str),
    "image": (str, str, int, int),  # the file, key, step, time in ms
    "model": ((dict, list),),
    "register": (str,),
    "end": (str, int),
}
PIECE = 2**18  # bytes of metrics read at a time
PRIVATE = 0o600  # its owner alone may read it: the target's address may hold a password


class Spool:
    """The spool of one run directory; safe to use from two threads."""

    def __init__(self, directory: Path, target: dict[str, str], sent: int = 0) -> None:
        self.directory, self.target, self.sent = directory, target, sent
        self.todo: list[list[Any]] = []
        self.changed = time.monotonic()
        self._lock = threading.Lock()
        self._held = False

    @classmethod
    def load(cls, directory: Path) -> Spool:
        """Return the spool of a run directory.

        Raises ValueError if it is damaged, TrackingError for an unknown job or a file outside the directory.
        """
        try:
            held = json.loads((directory / DELIVERY).read_text(encoding="utf-8"))
            target, sent, todo = held["target"], held["sent"], held["todo"]
            words = held["format"] == 1 and all(isinstance(target[k], str) for k in ("uri", "experiment", "run"))
            jobs = isinstance(todo, list) and all(isinstance(job, list) and job for job in todo)
            if not words or not jobs or type(sent) is not int or sent < 0:
                raise ValueError("expected format 1 with target, sent and todo")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{directory / DELIVERY} is damaged: {' '.join(str(error).split())}") from error
        for job in todo:
            kind, arguments = job[0], job[1:]
            if kind not in tuple(ARGUMENTS):
                raise TrackingError(f"{directory / DELIVERY}: unknown job {kind!r}; known are {', '.join(ARGUMENTS)}")
            expected = ARGUMENTS[kind]
            if len(arguments) != len(expected) or not all(map(isinstance, arguments, expected)):
                raise ValueError(f"{directory / DELIVERY} is damaged: job {kind!r} has invalid arguments")
            if kind in ("artifact", "image"):  # an untrusted directory: nothing outside it is sent
                try:
                    inside(directory, arguments[0])
                except ValueError as error:
                    raise TrackingError(f"{directory / DELIVERY}: artifact {error}") from error
        spool = cls(directory, target, sent)
        spool.todo = todo
        return spool

    def add(self, *job: object) -> None:
        """Append a job: its kind and JSON arguments."""
        with self._lock:
            self.todo.append(list(job))
            if not self._held:
                self._save()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write the jobs added inside the context at once: every write waits for the disk twice."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self.save()

    def done(self, n: int) -> None:
        """Remove the first ``n`` jobs; ``save`` writes that."""
        with self._lock:
            del self.todo[:n]
            self.changed = time.monotonic()

    def arrived(self, sent: int) -> None:
        """Set the number of bytes of metrics that have arrived; ``save`` writes it."""
        with self._lock:
            self.sent = sent
            self.changed = time.monotonic()

    def next_lines(self) -> tuple[list[Json], int]:
        """Return lines of metrics that have not been sent, and the position after them.

        Raises TrackingError if a line is damaged.
        """
        path = self.directory / METRICS
        try:
            if path.stat().st_size <= self.sent:
                return [], self.sent
            with path.open("rb") as file:
                os.fsync(file.fileno())  # what a server has must not be lost here
                file.seek(self.sent)
                text = file.read(PIECE)
                if b"\n" not in text:
                    text += file.readline()
        except FileNotFoundError:
            return [], self.sent
        whole = text[: text.rfind(b"\n") + 1]
        try:
            return [metric_line(line) for line in whole.splitlines()], self.sent + len(whole)
        except ValueError as error:
            raise TrackingError(f"{path} is damaged after byte {self.sent:,}: {error}") from error

    @property
    def empty(self) -> bool:
        """Whether all has been sent."""
        return not self.todo and not self.next_lines()[0]

    def save(self) -> None:
        """Write the spool's file."""
        with self._lock:
            self._save()

    def _save(self) -> None:
        self.changed = time.monotonic()
        held = {"format": 1, "target": self.target, "sent": self.sent, "todo": self.todo}
        write_json(self.directory / DELIVERY, held, PRIVATE)


def metric_line(text: bytes) -> Json:
    """Return a line of ``metrics.jsonl`` as JSON; raises ValueError if it is invalid."""
    try:
        line = json.loads(text)
        step, at, metrics = line["step"], line["at"], line["metrics"]
        if type(step) is type(at) is int and all(type(value) in (int, float) for value in metrics.values()):
            return dict(line)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError(f"expected step, at and metrics as JSON, got {text[:40].decode(errors='replace')!r}")
