"""Image sets in files: IDX, gzipped or not, and npz; every size is checked before memory is taken."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpx.data import npz
from bpx.data.dataset import DataError
from bpx.data.npz import LARGEST

Images = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]

PARTS = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
KEYS = ("x_train", "y_train", "x_test", "y_test")
PIECE = 2**20
SIDE = 28


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the bytes of an IDX file as an array of so many dimensions; raises DataError naming the file."""
    head = 4 + 4 * dimensions
    try:
        opened: Any = gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        with opened as file:
            header = file.read(head)
            if len(header) < head:
                raise DataError(f"{path} is damaged: it ends within its header")
            magic, *shape = struct.unpack(f">{1 + dimensions}I", header)
            if magic != 0x0800 + dimensions:
                raise DataError(
                    f"{path} is damaged: its magic number is {magic:#010x}, not {0x0800 + dimensions:#010x}"
                )
            size = math.prod(shape)
            if size > LARGEST:
                raise DataError(f"{path} is damaged: its header asks for {size:,} bytes")
            body = bytearray()
            while len(body) <= size and (piece := file.read(min(PIECE, size + 1 - len(body)))):
                body += piece  # no memory for what a header promises, only for what is there
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(body) != size:
        held = "more" if len(body) > size else f"{len(body):,}"
        raise DataError(f"{path} is damaged: its header promises {size:,} bytes, it holds {held}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_npz(path: Path) -> Images:
    """Return the four arrays x_train, y_train, x_test, y_test of an npz file; raises DataError naming the file."""
    found = list(npz.read(path, KEYS).values())
    if any(a.dtype.kind not in "ui" for a in found) or any(a.size and (a.min() < 0 or a.max() > 255) for a in found):
        raise DataError(f"{path} is damaged: its arrays must hold integers from 0 to 255")
    x, y, u, v = (a.astype(np.uint8) for a in found)
    if not all(a.ndim >= 2 and a.size and a.size == len(a) * SIDE**2 for a in (x, u)) or y.ndim != 1 or v.ndim != 1:
        raise DataError(f"{path} is damaged: it must hold images of {SIDE} x {SIDE} and one label each")
    return x.reshape(len(x), SIDE, SIDE), y, u.reshape(len(u), SIDE, SIDE), v


def find(folder: Path, name: str) -> Images | None:
    """Return the image set in ``folder`` or ``folder/name``, None where neither holds its files.

    Raises DataError where a file is damaged or only some of the four IDX files are there.
    """
    for place in (folder, folder / name):
        paths = [_present(place, stem, d) for stem, d in PARTS]
        if all(paths):
            read = [read_idx(p, d) for p, (_, d) in zip(paths, PARTS, strict=True) if p is not None]
            return check((read[0], read[1], read[2], read[3]), str(place))
        if any(paths):
            lacking = next(stem for (stem, _), p in zip(PARTS, paths, strict=True) if p is None)
            raise DataError(f"{place} is incomplete: there is no {lacking} file")
        for candidate in (place / f"{name}.npz",):
            if candidate.is_file():
                return check(read_npz(candidate), str(candidate))
    return None


def check(images: Images, where: str) -> Images:
    """Check that images are 28 x 28 and that labels match them; raises DataError."""
    for x, y in (images[:2], images[2:]):
        if x.shape[1:] != (SIDE, SIDE):
            raise DataError(f"{where} is damaged: its images are {x.shape[1:]}, not ({SIDE}, {SIDE})")
        if len(x) != len(y) or not len(x):
            raise DataError(f"{where} is damaged: it has {len(x)} images and {len(y)} labels")
        if y.max() > 9:
            raise DataError(f"{where} is damaged: the label {y.max()} is outside the classes 0 to 9")
    return images


def digest(images: Images) -> str:
    """Return the SHA-256 over all pixel and label bytes, training part first, whatever file they came in."""
    h = hashlib.sha256()
    for part in images:
        h.update(np.ascontiguousarray(part).data)
    return h.hexdigest()


def _present(place: Path, stem: str, dimensions: int) -> Path | None:
    names = [f"{stem}{dot}idx{dimensions}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    return next((place / name for name in names if (place / name).is_file()), None)
