"""Moments of a tensor of any dtype, right to about 1e-6 whether its entries are 1e-25 or 1e25.

Sums over a block of 128 samples run in BLAS; blocks and units, and all squares, add up in float64. A copy of the
tensor in float64 would cost three times as much, which shows where every step is measured.
"""

from __future__ import annotations

import math

import numpy as np

from bpx.engine.arrays import Array, DType, Values
from bpx.engine.blas import asum, norm

BLOCK = 128
_CANCELLATION_THRESHOLD = 1e-3  # of the mean square: below, E[x**2] - E[x]**2 loses digits


class TensorMoments:
    """Mean, mean magnitude, standard deviation and root mean square of tensors (rows, up to ``widest``)."""

    def __init__(self, widest: int, dtype: DType) -> None:
        self._ones, self._column = np.ones(BLOCK, dtype), np.empty(widest, dtype)

    def __call__(self, x: Array, out: Values) -> None:
        """Write E[x], E[abs(x)], sqrt(E[x**2] - E[x]**2) and sqrt(E[x**2]) of ``x`` into ``out`` (4,).

        NaN where an entry is not finite.
        """
        n, flat = x.size, x.reshape(-1)
        mean, rms = self._sum(x) / n, norm(flat) / math.sqrt(n)
        out[0], out[1], out[3] = mean, asum(flat) / n, rms
        if not math.isfinite(out[1] + rms):
            peak = float(np.abs(flat).max())
            if math.isfinite(peak):  # the sum is beyond all numbers, the entries are not
                self(x / peak, out)
            out *= peak if math.isfinite(peak) else math.nan
            return
        share = mean / rms if rms > 0 else 0.0  # squares of 1e166 would overflow
        if 1 - share * share > _CANCELLATION_THRESHOLD:
            out[2] = rms * math.sqrt(1 - share * share)
        else:
            out[2] = rms * float(np.std(np.divide(x, rms, dtype=np.float64))) if rms > 0 else 0.0

    def _sum(self, x: Array) -> float:
        total, column = 0.0, self._column[: x.shape[1]]
        for start in range(0, len(x), BLOCK):
            block = x[start : start + BLOCK]
            np.dot(self._ones[: len(block)], block, out=column)
            total += float(np.add.reduce(column, dtype=np.float64))
        return total
