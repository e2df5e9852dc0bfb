"""The arrays of bpx: their types, and zeros that begin where BLAS wants them."""

from __future__ import annotations

import math
import zipfile
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


def check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise ValueError where an array of an npz file holds objects, or another size than its header says.

    No memory is taken for it.
    """
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = head(file)
        if dtype.hasobject:
            raise ValueError(
                f"{entry.filename} holds Python objects, as rows of different length do: save numbers or text"
            )
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
            raise ValueError(f"{entry.filename} does not hold what its header says")
