"""Checkpoint files: JSON facts and plain arrays with a checksum, written atomically.

The first line is ``bpx 1`` and the SHA-256 of all that follows; the second is JSON, ``facts`` and a table of
(name, dtype, shape); then come the arrays' bytes in the table's order, C-contiguous and little-endian. Reading runs
no code, and allocates no more memory than the size of the file accounts for.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bpx.engine.arrays import Array, Arrays, DType
from bpx.system.files import Json, replaced

MAGIC = b"bpx 1 "
MAX_HEADER = 2**24  # bytes
DTYPES = ("float32", "float64", "int64", "int32", "bool")


class Damaged(ValueError):
    """A damaged checkpoint file; the text is one line that names it."""


def write(path: Path, facts: Json, arrays: Arrays) -> None:
    """Write a checkpoint file atomically; an OSError names the path."""
    plain = {name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()}
    if unknown := [name for name, a in plain.items() if a.dtype.name not in DTYPES or sys.byteorder != "little"]:
        raise TypeError(f"{unknown[0]} is {plain[unknown[0]].dtype}; a checkpoint file holds {', '.join(DTYPES)}")
    table = [[name, a.dtype.name, list(a.shape)] for name, a in plain.items()]
    header = json.dumps({"facts": facts, "arrays": table}).encode() + b"\n"
    digest = hashlib.sha256(header)
    for a in plain.values():
        digest.update(_bytes(a))
    with replaced(path) as file:
        file.write(MAGIC + digest.hexdigest().encode() + b"\n" + header)
        for a in plain.values():
            file.write(_bytes(a))


def read(path: Path) -> tuple[Json, Arrays]:
    """Return the facts and arrays of a checkpoint file; raises Damaged."""
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise Damaged(f"{path} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _read(file: BinaryIO, size: int) -> tuple[Json, Arrays]:
    seal = file.readline(len(MAGIC) + 65)
    if not seal.startswith(MAGIC) or not seal.endswith(b"\n"):
        raise ValueError(f"expected it to begin with {MAGIC!r}, got {seal[:16]!r}")
    line = file.readline(MAX_HEADER)
    if not line.endswith(b"\n"):
        raise ValueError("truncated header")
    digest = hashlib.sha256(line)
    header = json.loads(line)
    table = [(str(name), _dtype(dtype), _shape(shape)) for name, dtype, shape in header["arrays"]]
    held, promised = size - file.tell(), sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in table)
    if held != promised:
        raise ValueError(f"expected {promised:,} bytes of arrays, got {held:,}")
    arrays: Arrays = {}
    for name, dtype, shape in table:
        arrays[name] = np.empty(shape, dtype)
        file.readinto(_bytes(arrays[name]))  # type: ignore[attr-defined]  # a BufferedReader has it
        digest.update(_bytes(arrays[name]))
    if digest.hexdigest().encode() != seal[len(MAGIC) : -1]:
        raise ValueError("checksum mismatch")
    if not isinstance(header["facts"], dict) or len(arrays) != len(table):
        raise ValueError("invalid header: expected facts and distinct arrays")
    return header["facts"], arrays


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _dtype(name: str) -> DType:
    if name not in DTYPES:
        raise ValueError(f"invalid header: unknown dtype {str(name)[:20]!r}")
    return np.dtype(name)


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"invalid header: expected a shape, got {str(shape)[:40]}")
    return tuple(shape)
