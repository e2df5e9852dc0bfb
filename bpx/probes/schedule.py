"""When a step is measured: schedules of steps, which count from 0; every one of them has step 0."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final


class StepSchedule(ABC):
    """A set of steps."""

    @abstractmethod
    def __call__(self, step: int) -> bool:
        """Return whether ``step`` belongs to it."""


@final
@dataclass(frozen=True)
class Every(StepSchedule):
    """All multiples of ``steps``."""

    steps: int

    def __call__(self, step: int) -> bool:
        """Return whether ``steps`` divides it."""
        return step % self.steps == 0


@final
@dataclass(frozen=True)
class LogSpaced(StepSchedule):
    """0, 1, 2, 4, 8, ... to the end."""

    def __call__(self, step: int) -> bool:
        """Return whether it is 0 or a power of two."""
        return step & (step - 1) == 0


@final
@dataclass(frozen=True)
class ReportSchedule(StepSchedule):
    """Log-spaced in the first epoch, then the first step after each evaluation."""

    steps_per_epoch: int
    evaluate_every: int  # epochs

    def __call__(self, step: int) -> bool:
        """Return whether this step is a power of two in the first epoch, or follows an evaluation."""
        if step < self.steps_per_epoch:
            return step & (step - 1) == 0
        return step % (self.steps_per_epoch * self.evaluate_every) == 0


WORDS = ("sparse", "epoch", "log")


def parse_schedule(every: int | str, report: ReportSchedule) -> StepSchedule:
    """Return the schedule that a number of steps, or one of the words sparse, epoch and log, stands for.

    Raises ValueError for anything else.
    """
    if isinstance(every, int) and not isinstance(every, bool) and every >= 1:
        return Every(every)
    if every == "sparse":
        return report
    if every == "epoch":
        return Every(report.steps_per_epoch)
    if every == "log":
        return LogSpaced()
    raise ValueError(f"must be a number of steps of at least 1, or one of {', '.join(WORDS)}, got {every}")
