"""When a step is probed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Due:
    """The sparse schedule: steps 0, 1, 2, 4, 8, ... of the first epoch, then the first step after an evaluation.

    ``every`` adds all its multiples (None: nothing); what it adds goes to the local record alone.
    """

    steps_per_epoch: int
    evaluate_every: int  # epochs
    every: int | None = None

    def sparse(self, step: int) -> bool:
        """Return whether the sparse schedule has this step."""
        if step < self.steps_per_epoch:
            return step & (step - 1) == 0  # 0 and the powers of two
        return step % (self.steps_per_epoch * self.evaluate_every) == 0

    def __call__(self, step: int) -> bool:
        """Return whether this step is probed."""
        return (self.every is not None and step % self.every == 0) or self.sparse(step)
