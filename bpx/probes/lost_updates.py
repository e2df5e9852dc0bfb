"""Updates lost to rounding, and zero gradients."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.optimizers import Optimizer
from bpx.probes.probe import Probe


@final
class LostUpdates(Probe):
    """Measure the entries of W that a step leaves as they are (Micikevicius et al. 2018, section 3.1).

    - lost_updates: share with a direction u that is not zero and yet W + factor * u == W, to the last bit
    - zero_gradients: share with dJ/dW exactly zero
    """

    name = "updates"
    layer_quantities = ("lost_updates", "zero_gradients")

    def on_gradient(self, step: int) -> None:
        """Count the gradient's zeros."""
        for row, layer in zip(self.table, self.layers, strict=True):
            row[1] = 1 - np.count_nonzero(layer.dense.W.grad) / layer.dense.W.size

    def on_update(self, optimizer: Optimizer) -> None:
        """Count the steps that rounding swallows."""
        u, factor = optimizer.u, optimizer.factor
        for row, layer in zip(self.table, self.layers, strict=True):
            W = layer.dense.W.value.reshape(-1)
            direction = u[layer.dense.W.part]
            row[0] = np.count_nonzero((W + factor * direction == W) & (direction != 0)) / W.size
