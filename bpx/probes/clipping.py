"""What clipping does to the gradient."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.blas import norm
from bpx.engine.optimizers import Optimizer
from bpx.engine.transforms import ClipNorm, ClipValue
from bpx.probes.probe import Probe, ProbeContext, per_layer, weight_layers


@final
class Clipping(Probe):
    """Measure the gradient after clipping; nothing where the optimizer does not clip.

    - grad_norm_clipped, grad_norm_bias_clipped: L2 norm of what clipping leaves of dJ/dW and dJ/db, by layer
    - clip_coefficient: min(1, limit / norm) of the whole gradient (Pascanu et al. 2013, algorithm 1), and
      clipped_steps, the share of the steps so far in which it was below 1
    - clipped_entries: share of the gradient's entries beyond the limit of values
    """

    name = "clipping"
    layer_quantities = ("grad_norm_clipped", "grad_norm_bias_clipped")
    other_quantities = ("clip_coefficient", "clipped_steps", "clipped_entries")

    def __init__(self, context: ProbeContext) -> None:
        self.net, self.layers = context.net, weight_layers(context.net)
        chain = context.optimizer.chain if context.optimizer is not None else []
        self.by_norm = next((t for t in chain if isinstance(t, ClipNorm)), None)
        self.by_value = next((t for t in chain if isinstance(t, ClipValue)), None)
        of_the_run = ["clip_coefficient", "clipped_steps"] if self.by_norm is not None else []
        of_the_run += ["clipped_entries"] if self.by_value is not None else []
        names = [p.name for p in self.layers] if of_the_run else []
        self.declare([*per_layer(names, self.layer_quantities), *(("", "", q, 0) for q in of_the_run)])
        self.table = self.values[: 2 * len(names)].reshape(len(names), 2)
        self.run = self.values[2 * len(names) :]
        self.step = 0

    def on_gradient(self, step: int) -> None:
        """Measure the gradient with its entries clipped, as the optimizer is about to clip them."""
        self.step = step
        limit = self.by_value.limit if self.by_value is not None else math.inf
        for row, layer in zip(self.table, self.layers, strict=False):
            for i, p in enumerate((layer.dense.W, layer.dense.b)):
                row[i] = math.nan if p is None else norm(_within(p.grad.reshape(-1), limit))
        if self.by_value is not None:
            grad = self.net.parameters.grad
            self.run[-1] = np.count_nonzero(np.abs(grad) > limit) / grad.size

    def on_update(self, optimizer: Optimizer) -> None:
        """Read what the norm's limit did."""
        if self.by_norm is not None:
            self.table *= self.by_norm.coefficient
            self.run[:2] = self.by_norm.coefficient, self.by_norm.n_clipped / (self.step + 1)


def _within(g: np.ndarray, limit: float) -> np.ndarray:
    return g if limit == math.inf else np.clip(g, -limit, limit)
