"""Histograms of magnitudes on a logarithmic axis: gradients and activations by layer."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.layer import Array
from bpx.probes.probe import Key, Probe, Subject, Values, places

LOWEST, HIGHEST, A_DECADE = -20, 6, 2  # decades that the bins span, and bins a decade
BINS = (HIGHEST - LOWEST) * A_DECADE
SIZE = BINS + 4  # exactly zero, below, the bins, above, not finite
ZERO, BELOW, ABOVE, NOT_FINITE = 0, 1, BINS + 2, BINS + 3


@final
class Histograms(Probe):
    """Measure the share of entries of dJ/dW and of a by magnitude: gradient_histogram, activation_histogram.

    ``index`` 0: exactly zero; 1: below 1e-20; 2 ... 53: half a decade each, from 1e-20 to 1e6; 54: above;
    55: NaN or infinite.
    """

    name = "histograms"

    def __init__(self, subject: Subject) -> None:
        self.places = places(subject.net)
        keys: list[Key] = []
        for p in self.places:
            for quantity in ("gradient_histogram", "activation_histogram"):
                keys += [(p.name, "", quantity, i) for i in range(SIZE)]
        self._declare(keys)
        self.table = self.values.reshape(len(self.places), 2, SIZE)

    def gradient(self, step: int) -> None:
        """Count entries by their exponent."""
        for row, place in zip(self.table, self.places, strict=True):
            row[0] = log_histogram(place.dense.W.grad)
            row[1] = log_histogram(place.output.y)


def log_histogram(x: Array) -> Values:
    """Return the share of the entries of ``x`` in each of the bins, (SIZE,)."""
    v = np.abs(np.asarray(x, np.float64).reshape(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.floor((np.log10(v) - LOWEST) * A_DECADE) + BELOW + 1
    place = np.clip(place, BELOW, ABOVE)
    place[v == 0] = ZERO
    place[~np.isfinite(v)] = NOT_FINITE
    return np.bincount(place.astype(np.intp), minlength=SIZE) / v.size


def bin_edges() -> Values:
    """Return log10 of the edges between the bins 2 ... 53, (BINS + 1,)."""
    return np.linspace(LOWEST, HIGHEST, BINS + 1)
