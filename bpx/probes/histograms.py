"""Histograms of magnitudes on a logarithmic axis: gradients and activations by layer."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.arrays import Array, Values
from bpx.probes.probe import Key, Probe, ProbeContext, weight_layers

LOWEST_DECADE, HIGHEST_DECADE, BINS_PER_DECADE = -20, 6, 2  # decades that the bins span, and bins a decade
BINS = (HIGHEST_DECADE - LOWEST_DECADE) * BINS_PER_DECADE
SIZE = BINS + 4  # exactly zero, below, the bins, above, not finite
ZERO, BELOW, ABOVE, NOT_FINITE = 0, 1, BINS + 2, BINS + 3


@final
class Histograms(Probe):
    """Measure the share of entries of dJ/dW and of a by magnitude: gradient_histogram, activation_histogram.

    ``index`` 0: exactly zero; 1: below 1e-20; 2 ... 53: half a decade each, from 1e-20 to 1e6; 54: above;
    55: NaN or infinite.
    """

    name = "histograms"
    other_quantities = ("gradient_histogram", "activation_histogram")

    def __init__(self, context: ProbeContext) -> None:
        self.layers = weight_layers(context.net)
        keys: list[Key] = []
        for p in self.layers:
            for quantity in self.other_quantities:
                keys += [(p.name, "", quantity, i) for i in range(SIZE)]
        self.declare(keys)
        self.table = self.values.reshape(len(self.layers), 2, SIZE)

    def on_gradient(self, step: int) -> None:
        """Count entries by their exponent."""
        for row, layer in zip(self.table, self.layers, strict=True):
            row[0] = log_histogram(layer.dense.W.grad)
            row[1] = log_histogram(layer.output.y)


def log_histogram(x: Array) -> Values:
    """Return the share of the entries of ``x`` in each of the bins, (SIZE,)."""
    v = np.abs(np.asarray(x, np.float64).reshape(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        bins = np.floor((np.log10(v) - LOWEST_DECADE) * BINS_PER_DECADE) + BELOW + 1
    bins = np.clip(bins, BELOW, ABOVE)
    bins[v == 0] = ZERO
    bins[~np.isfinite(v)] = NOT_FINITE
    return np.bincount(bins.astype(np.intp), minlength=SIZE) / v.size
