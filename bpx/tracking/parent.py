"""Parent: the run of a study, whose children are the study's own runs."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bpx.records import Outcome
from bpx.tracking.tracker import Child, Tracker


class Parent:
    """Keep a study as one run; its runs belong to it through ``tracking.parent``.

    ``tracker`` is the one that the study's configuration describes, so that parent and children share a store; with
    ``tracking=none`` all of it stays in ``directory``. As a context it ends as finished, interrupted or crashed.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker

    def open(
        self,
        name: str,
        params: dict[str, Any],
        tags: dict[str, str],
        directory: Path,
        run_id: str | None = None,
    ) -> Self:
        """Begin the study's run, or go on with ``run_id`` if the store has it; raises TrackingError."""
        directory.mkdir(parents=True, exist_ok=True)
        self.tracker.connect()
        if run_id is not None and self.tracker.knows(run_id):
            self.tracker.reopen(run_id, directory)
        else:
            self.tracker.start(name, params, tags, None, directory)
        return self

    @property
    def id(self) -> str | None:
        """What a child's ``tracking.parent`` has to be: None where nothing is stored."""
        return self.tracker.run_id

    def log(self, metrics: dict[str, float], step: int = 0) -> None:
        """Keep metrics of the study itself: a parent whose children alone have some shows empty charts."""
        self.tracker.log(step, 0.0, metrics)

    def tag(self, key: str, value: str) -> None:
        """Attach a word to the study; ``mlflow.note.content`` is its description."""
        self.tracker.tag(key, value)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Hand over a file, or a directory's files, to stand under ``folder``."""
        self.tracker.artifact(path, folder)

    def children(self, running: bool = False) -> list[Child]:
        """Return the study's runs (or the ``running`` ones), the oldest first: none where nothing is stored."""
        return self.tracker.children(running)

    def end(self, child: Child, outcome: Outcome) -> None:
        """End a run of the study whose own process cannot do it any more."""
        self.tracker.end(child, outcome)

    def detach(self) -> None:
        """Let the study go on without this process."""
        self.tracker.detach()

    def finish(self, outcome: Outcome) -> None:
        """End the study as finished, interrupted or crashed; a second call does nothing."""
        self.tracker.finish(outcome)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        outcome = Outcome.FINISHED if kind is None else Outcome.INTERRUPTED if interrupted else Outcome.CRASHED
        self.finish(outcome)
