"""Outcomes of runs and trials."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Outcome of a run or a trial.

    A lost trial is one whose process died. An undefined trial has no value by design: no such network exists, or it
    has no such metric. Running and waiting trials have not ended.
    """

    FINISHED = "finished"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    CRASHED = "crashed"
    UNDEFINED = "undefined"
    LOST = "lost"
    RUNNING = "running"
    WAITING = "waiting"

    @classmethod
    def of_context(cls, error: type[BaseException] | None) -> Outcome:
        """Return the outcome of a context that an exception of this class has left, or none."""
        if error is None:
            return cls.FINISHED
        return cls.INTERRUPTED if issubclass(error, KeyboardInterrupt) else cls.CRASHED
