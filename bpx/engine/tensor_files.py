"""Weights from a file of named tensors: npz, or safetensors (eight bytes of length, a JSON header, the numbers)."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from bpx.engine.arrays import Array, Arrays
from bpx.engine.initializer import Initializer
from bpx.engine.numbers import require
from bpx.engine.parts import Json

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


@final
@dataclass(frozen=True, kw_only=True)
class File(Initializer):
    """Weights from a file: an npz or safetensors file of named tensors, ``layer_01.dense.W`` (n_in, n_out) and so on.

    The names are those of ``model.npz`` (before which ``state/`` may stand) and of ``bpx.export``. Every weight matrix
    and bias must be there; scales, shifts and running statistics are taken where they are.
    """

    name: ClassVar[str] = "file"
    path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.path is not None, "initializer.path", "an npz or safetensors file", self.path)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Leave W zero: ``assign`` fills it."""
        W.fill(0)

    def assign(self, tensors: Arrays) -> None:
        """Copy the file's tensors; raises ValueError where one is missing or of another shape."""
        assert self.path is not None
        held = read_tensors(self.path)
        for name, tensor in tensors.items():
            if name not in held:
                if name.endswith((".W", ".b")):
                    known = ", ".join(sorted(held)[:6]) + (", ..." if len(held) > 6 else "")
                    raise ValueError(f"initializer.path: {self.path} lacks {name}; it has {known or 'nothing'}")
                continue
            found = held[name]
            if found.shape != tensor.shape or found.dtype.kind != "f" or not np.isfinite(found).all():
                got = f"{found.dtype} {found.shape}" if found.shape != tensor.shape else f"{found.dtype} not all finite"
                raise ValueError(f"initializer.path: {name} in {self.path} must be finite {tensor.shape}, got {got}")
            tensor[...] = found


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
