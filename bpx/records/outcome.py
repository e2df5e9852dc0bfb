"""Outcomes of runs and trials."""

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
