"""The weight matrices: spectral norm, stable rank, and how far they have come."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.blas import norm
from bpx.probes.probe import Probe, ProbeContext


@final
class Weights(Probe):
    """Measure every W, (n_in, n_out).

    - spectral_norm: its largest singular value s_1; stable_rank: |W|**2 / s_1**2, at most its rank
      (Rudelson & Vershynin 2007)
    - distance_from_init: |W - W_0| / |W_0|
    """

    name = "weights"
    layer_quantities = ("spectral_norm", "stable_rank", "distance_from_init")
    state_fields = ("initial",)

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self.initial = context.net.parameters.theta[: context.net.parameters.n_weights].copy()

    def on_gradient(self, step: int) -> None:
        """Decompose every W in float64."""
        for row, layer in zip(self.table, self.layers, strict=True):
            W = np.asarray(layer.dense.W.value, np.float64)
            W0 = self.initial[layer.dense.W.part]
            row[:] = math.nan
            if np.isfinite(W).all():
                row[0] = np.linalg.norm(W, 2)
                row[1] = (norm(W.reshape(-1)) / row[0]) ** 2 if row[0] > 0 else math.nan
                base = norm(np.asarray(W0, np.float64))
                row[2] = norm(W.reshape(-1) - W0) / base if base > 0 else math.nan
