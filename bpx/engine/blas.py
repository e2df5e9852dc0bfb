"""BLAS on flat vectors, float32 or float64."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import dasum, daxpy, dnrm2, sasum, saxpy, snrm2

from bpx.engine.arrays import Array

MAX_UNTHREADED = 10_000  # OpenBLAS shares longer vectors among threads, and SciPy's stall NumPy's: 40 times slower


def norm(x: Array) -> float:
    """Return the L2 norm; BLAS accumulates float32 in double, so 1e-25 and 1e25 come out right.

    A norm beyond float32 of finite entries is finite, too: BLAS would return infinity.
    """
    size = float((snrm2 if x.dtype == np.float32 else dnrm2)(x))
    return float(dnrm2(x.astype(np.float64))) if math.isinf(size) and x.dtype == np.float32 else size


def axpy(x: Array, y: Array, a: float) -> None:
    """Compute y += a x in place, in one pass."""
    f = saxpy if y.dtype == np.float32 else daxpy
    for start in range(0, len(y), MAX_UNTHREADED):
        piece = slice(start, start + MAX_UNTHREADED)
        f(x[piece], y[piece], a=a)


def asum(x: Array) -> float:
    """Return the sum of magnitudes."""
    f = sasum if x.dtype == np.float32 else dasum
    return sum(float(f(x[start : start + MAX_UNTHREADED])) for start in range(0, len(x), MAX_UNTHREADED))
