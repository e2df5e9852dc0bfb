"""Whether the samples of a batch agree: coherence of delta, and the gradient's signal-to-noise ratio."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.blas import norm
from bpx.engine.layer import rows
from bpx.probes.probe import Probe, ProbeContext, per_layer, weight_layers


@final
class Coherence(Probe):
    """Measure delta_coherence = |mean over the samples of delta_i| / sqrt(mean |delta_i|**2), from 0 to 1.

    Tells vanished from cancelled: a small mean of large deltas has a coherence near 0.
    """

    name = "coherence"
    layer_quantities = ("delta_coherence",)

    def on_gradient(self, step: int) -> None:
        """Compare the mean delta with the mean size."""
        for i, layer in enumerate(self.layers):
            delta = np.asarray(layer.next.dx, np.float64)  # delta / n
            spread = norm(delta.reshape(-1)) * math.sqrt(len(delta))
            self.values[i] = norm(delta.sum(axis=0)) / spread if spread > 0 else math.nan


@final
class SignalToNoise(Probe):
    """Measure gradient_snr = |g|**2 / (tr Cov / B), g the batch mean of the samples' gradients g_i of W.

    Beside it gradient_noise_scale = tr Cov / |g|**2 of all W together, both without bias: the batch size at which noise
    and gradient are alike (McCandlish et al. 2018, eq. 2.9 and appendix A.1; NaN where the noise is all there is).

    Where samples have no positions no g_i is formed: |g_i|**2 = |a_i|**2 |delta_i|**2, and
    tr Cov = (sum |g_i|**2 - B |g|**2) / (B - 1).
    It is B over the simple noise scale (McCandlish et al. 2018, eq. 2.9).
    """

    name = "signal_to_noise"
    layer_quantities = ("gradient_snr",)
    other_quantities = ("gradient_noise_scale",)

    def __init__(self, context: ProbeContext) -> None:
        self.layers = weight_layers(context.net)
        names = [p.name for p in self.layers]
        self.declare([*per_layer(names, self.layer_quantities), ("", "", "gradient_noise_scale", 0)])

    def on_gradient(self, step: int) -> None:
        """Sum |a_i|**2 |delta_i|**2 over the batch."""
        signals = noises = 0.0
        n = 0
        for i, layer in enumerate(self.layers):
            a, delta = np.asarray(layer.dense.inputs(), np.float64), np.asarray(layer.following.dx, np.float64)
            n = len(delta)
            scales = float(np.abs(a).max()), float(np.abs(delta).max())
            if n < 2 or not all(0 < scale < math.inf for scale in scales):
                self.values[i] = math.nan
                continue
            a, delta = a / scales[0], delta / scales[1] * n  # squares of 1e-200 would be 0, those of 1e200 infinite
            squares = _sum_of_squares(a, delta)
            mean = (norm(layer.dense.W.grad.reshape(-1)) / scales[0] / scales[1]) ** 2
            noise = (squares - n * mean) / (n - 1) / n
            self.values[i] = mean / noise if noise > 0 else math.nan
            size = scales[0] * scales[1] * (scales[0] * scales[1])  # ** raises where it leaves the range
            signals, noises = signals + (mean - noise) * size, noises + noise * size
        self.values[-1] = n * noises / signals if 0 < signals < math.inf else math.nan


def _sum_of_squares(a: Array, delta: Array) -> float:
    """Return sum_i |g_i|**2, g_i = a_i^T delta_i, for samples with or without positions."""
    if a.ndim == 2:
        return float(np.dot(np.einsum("ij,ij->i", a, a), np.einsum("ij,ij->i", delta, delta)))
    return sum(norm((rows(x[None]).T @ rows(d[None])).reshape(-1)) ** 2 for x, d in zip(a, delta, strict=True))
