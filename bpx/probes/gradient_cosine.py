"""Whether one gradient points where the one before it did."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.blas import norm
from bpx.probes.probe import Probe, ProbeContext


@final
class GradientCosine(Probe):
    """Measure gradient_cosine = <g, g'> / (|g| |g'|), g' being dJ/dW of the step before; none at step 0."""

    name = "direction"
    layer_quantities = ("gradient_cosine",)
    lookback = 1
    state_fields = ("before", "at")

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self.net = context.net
        self.before = np.zeros(context.net.parameters.n_weights, context.net.dtype)
        self.at = -1

    def on_gradient(self, step: int) -> None:
        """Compare with the gradient kept, if it is the last step's, and keep this one."""
        grad = self.net.parameters.grad
        for i, layer in enumerate(self.layers):
            part = layer.dense.W.part
            self.values[i] = cosine(grad[part], self.before[part]) if self.at == step - 1 >= 0 else math.nan
        np.copyto(self.before, grad[: len(self.before)])
        self.at = step


def cosine(u: Array, v: Array) -> float:
    """Return <u, v> / (|u| |v|) of two flat vectors, NaN where one is zero."""
    a, b = norm(u), norm(v)
    if not (0 < a < math.inf and 0 < b < math.inf):
        return math.nan
    return float(np.dot(np.asarray(u, np.float64) / a, np.asarray(v, np.float64) / b))
