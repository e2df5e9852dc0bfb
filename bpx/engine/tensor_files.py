"""Named tensors from a file: npz, or safetensors (eight bytes of length, a JSON header, the numbers)."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from bpx.engine.arrays import Array, Arrays
from bpx.engine.parts import Json

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_tensors(path: str | Path) -> Arrays:
    """Return the tensors of an npz or safetensors file by name, ``state/`` before a name left out.

    Raises ValueError, in one line, where the file cannot be read.
    """
    path = Path(path)
    try:
        read = _npz if zipfile.is_zipfile(path) else _safetensors
        return {name.removeprefix("state/"): array for name, array in read(path).items()}
    except OSError as error:
        raise ValueError(f"initializer.path: {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file raises whatever its damage runs into
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"initializer.path: {path} is no npz or safetensors file: {text}") from error


def _npz(path: Path) -> Arrays:
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _safetensors(path: Path) -> Arrays:
    data = path.read_bytes()
    n = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + n]), data[8 + n :]
    return {name: _tensor(name, entry, body) for name, entry in header.items() if name != "__metadata__"}


def _tensor(name: str, entry: Json, body: bytes) -> Array:
    dtype, shape, (start, end) = entry["dtype"], tuple(map(int, entry["shape"])), entry["data_offsets"]
    if dtype not in DTYPES:
        raise ValueError(f"{name} is {dtype}; known are {', '.join(DTYPES)}")
    numbers: Array = np.frombuffer(body[start:end], DTYPES[dtype])
    return numbers.reshape(shape)
