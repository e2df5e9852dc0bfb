"""Updates that come to nothing: lost to rounding, or zero to begin with."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.probes.probe import Probe, Subject, per_layer, places


@final
class Updates(Probe):
    """Measure the entries of W that a step leaves as they are.

    - lost_updates: share with a direction u that is not zero and yet W + factor * u == W, to the last bit
    - zero_gradients: share with dJ/dW exactly zero
    """

    name = "updates"

    def __init__(self, subject: Subject) -> None:
        self.optimizer, self.places = subject.optimizer, places(subject.net)
        self._declare(per_layer([p.name for p in self.places], ("lost_updates", "zero_gradients")))
        self.table = self.values.reshape(len(self.places), 2)

    def gradient(self, step: int) -> None:
        """Count the gradient's zeros."""
        for row, place in zip(self.table, self.places, strict=True):
            row[1] = 1 - np.count_nonzero(place.dense.W.grad) / place.dense.W.size

    def update(self) -> None:
        """Count the steps that rounding swallows."""
        u, factor, start = self.optimizer.u, self.optimizer.factor, 0
        for row, place in zip(self.table, self.places, strict=True):
            W = place.dense.W.value.reshape(-1)
            direction = u[start : start + W.size]
            row[0] = np.count_nonzero((W + factor * direction == W) & (direction != 0)) / W.size
            start += W.size
