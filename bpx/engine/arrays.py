"""The arrays of bpx: their types, and zeros that begin where BLAS wants them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # numbers of the network's dtype, labels, or raw features
Arrays = dict[str, Array]
Values = NDArray[np.float64]  # what is measured and recorded
DType = np.dtype[np.floating]

ALIGNMENT = 64  # bytes


def zeros(shape: int | tuple[int, ...], dtype: DType) -> Array:
    """Return zeros that begin at a multiple of 64 bytes.

    BLAS adds up in another order where an array begins elsewhere, and where it begins is chance: without this, two
    runs with the same seed differ in the last digits of what is measured.
    """
    n = math.prod(shape) if isinstance(shape, tuple) else shape
    room = np.zeros(n * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + n * dtype.itemsize].view(dtype).reshape(shape)
