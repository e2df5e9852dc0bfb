"""Sums over tensors, in float64 whatever the dtype: 1e-25 and 1e25 come out right in float32 too."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import dasum

from bpx.engine.layer import Array
from bpx.engine.optimizers import UNTHREADED
from bpx.probes.probe import Values


class Moments:
    """Mean, mean magnitude, standard deviation and root mean square of tensors of up to ``size`` entries."""

    def __init__(self, size: int) -> None:
        self._copy, self._ones = np.empty(size), np.ones(size)

    def __call__(self, x: Array, out: Values) -> None:
        """Write E[x], E[abs(x)], sqrt(E[x**2] - E[x]**2) and sqrt(E[x**2]) of ``x`` into ``out`` (4,)."""
        n = x.size
        v = self._copy[:n]
        np.copyto(v, x.reshape(-1))
        mean = float(np.dot(v, self._ones[:n])) / n
        square = float(np.dot(v, v)) / n
        out[0] = mean
        out[1] = absolute_sum(v) / n
        out[2] = math.sqrt(max(square - mean * mean, 0.0))
        out[3] = math.sqrt(square)


def absolute_sum(v: Values) -> float:
    """Return the sum of magnitudes of a flat float64 vector."""
    if len(v) <= UNTHREADED:
        return float(dasum(v))
    return sum(float(dasum(v[i : i + UNTHREADED])) for i in range(0, len(v), UNTHREADED))
