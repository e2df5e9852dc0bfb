"""Cadence: how long a run trains, and how often it is evaluated and reported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from bpx.probes import ReportSchedule

MAX_EVALUATIONS = 200  # of a run: as many records, and those of the first epoch, go to the tracking server


def evaluation_interval(epochs: int) -> int:
    """Return the number of epochs between two evaluations of a run of ``epochs``."""
    return max(1, math.ceil(epochs / MAX_EVALUATIONS))


@final
@dataclass(frozen=True)
class Cadence:
    """How long a run trains, and how often it is evaluated and reported.

    Attributes
    ----------
    epochs : int
        Passes over the training part, at most.
    steps_per_epoch : int
        Optimizer steps in each.
    max_steps : int or None
        Steps after which training ends, wherever the epoch is.
    """

    epochs: int
    steps_per_epoch: int
    max_steps: int | None = None

    @property
    def total_steps(self) -> int:
        """The number of steps of the whole run."""
        return min(self.epochs * self.steps_per_epoch, self.max_steps or self.epochs * self.steps_per_epoch)

    @property
    def evaluate_every(self) -> int:
        """The number of epochs between two evaluations."""
        return evaluation_interval(math.ceil(self.total_steps / self.steps_per_epoch))

    @property
    def report_schedule(self) -> ReportSchedule:
        """The steps whose records go to the tracking server."""
        return ReportSchedule(self.steps_per_epoch, self.evaluate_every)
