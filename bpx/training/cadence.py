"""Cadence: length of the training, intervals of evaluations and of reported records."""

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
    """Length of the training, and intervals of evaluations and reported records.

    Attributes
    ----------
    epochs : int
        Largest number of passes over the training part.
    steps_per_epoch : int
        Optimizer steps per epoch.
    max_steps : int or None
        Largest number of steps; None: no limit.
    """

    epochs: int
    steps_per_epoch: int
    max_steps: int | None = None

    @property
    def total_steps(self) -> int:
        """Number of steps of the run."""
        return min(self.epochs * self.steps_per_epoch, self.max_steps or self.epochs * self.steps_per_epoch)

    @property
    def evaluate_every(self) -> int:
        """Number of epochs between two evaluations."""
        return evaluation_interval(math.ceil(self.total_steps / self.steps_per_epoch))

    @property
    def report_schedule(self) -> ReportSchedule:
        """Schedule of the records that are sent to the tracking server."""
        return ReportSchedule(self.steps_per_epoch, self.evaluate_every)
