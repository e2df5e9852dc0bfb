"""How runs and trials end."""

from enum import StrEnum


class Outcome(StrEnum):
    """How a run or a trial has ended; running and waiting trials have not, lost ones are those of dead processes.

    An undefined trial has no answer by design: no such network exists, or it has no such metric.
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
