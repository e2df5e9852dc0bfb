"""What clipping does to the gradient."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.blas import norm
from bpx.engine.clipping import ClipUnits, ClipZScore
from bpx.engine.optimizers import Optimizer
from bpx.engine.parameters import Parameter
from bpx.engine.transforms import ClipNorm, ClipValue
from bpx.probes.probe import Probe, ProbeContext, per_layer, weight_layers


@final
class Clipping(Probe):
    """Measure the gradient after clipping; nothing where the optimizer does not clip.

    - grad_norm_clipped, grad_norm_bias_clipped: L2 norm of what clipping leaves of dJ/dW and dJ/db, by layer
    - clip_coefficient: what the whole gradient is multiplied by, min(1, limit / norm) (Pascanu et al. 2013,
      algorithm 1) or what its z-score asks for (Kumar et al. 2025); and clipped_steps, the share of the steps so far
      in which it was below 1
    - clipped_entries: share of the gradient's entries beyond the limit of values
    - clipped_units: share of the units beyond the limit of units (Brock et al. 2021)
    """

    name = "clipping"
    layer_quantities = ("grad_norm_clipped", "grad_norm_bias_clipped")
    other_quantities = ("clip_coefficient", "clipped_steps", "clipped_entries", "clipped_units")

    def __init__(self, context: ProbeContext) -> None:
        self.net, self.layers = context.net, weight_layers(context.net)
        chain = context.optimizer.chain if context.optimizer is not None else []
        self.whole = next((t for t in chain if isinstance(t, (ClipNorm, ClipZScore))), None)
        self.by_value = next((t for t in chain if isinstance(t, ClipValue)), None)
        self.by_unit = next((t for t in chain if isinstance(t, ClipUnits)), None)
        of_the_run = ["clip_coefficient", "clipped_steps"] if self.whole is not None else []
        of_the_run += ["clipped_entries"] if self.by_value is not None else []
        of_the_run += ["clipped_units"] if self.by_unit is not None else []
        names = [p.name for p in self.layers] if of_the_run else []
        self.declare([*per_layer(names, self.layer_quantities), *(("", "", q, 0) for q in of_the_run)])
        self.table = self.values[: 2 * len(names)].reshape(len(names), 2)
        self.of_the_run = {name: 2 * len(names) + i for i, name in enumerate(of_the_run)}
        self.step = 0

    def on_gradient(self, step: int) -> None:
        """Measure the gradient with its entries and units clipped, as the optimizer is about to clip them."""
        self.step = step
        for row, layer in zip(self.table, self.layers, strict=False):
            for i, p in enumerate((layer.dense.W, layer.dense.b)):
                row[i] = math.nan if p is None else norm(self._clipped(p).reshape(-1))
        if self.by_value is not None:
            grad = self.net.parameters.grad
            share = np.count_nonzero(np.abs(grad) > self.by_value.limit) / grad.size
            self.values[self.of_the_run["clipped_entries"]] = share

    def on_update(self, optimizer: Optimizer) -> None:
        """Read what the limits of units and of the whole gradient did."""
        if self.by_unit is not None:
            self.values[self.of_the_run["clipped_units"]] = self.by_unit.clipped_share
        if self.whole is not None:
            self.table *= self.whole.coefficient
            self.values[self.of_the_run["clip_coefficient"]] = self.whole.coefficient
            self.values[self.of_the_run["clipped_steps"]] = self.whole.n_clipped / (self.step + 1)

    def _clipped(self, p: Parameter) -> Array:
        g = p.grad
        if self.by_value is not None:
            g = np.clip(g, -self.by_value.limit, self.by_value.limit)
        return g if self.by_unit is None else g * self.by_unit.coefficients(p, g)
