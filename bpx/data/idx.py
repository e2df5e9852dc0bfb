"""Image sets in files: IDX, gzipped or not, and npz; every size is checked before memory is taken."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bpx.data import npz
from bpx.data.dataset import DataError
from bpx.data.npz import LARGEST
from bpx.data.packed import opened
from bpx.engine.arrays import Array

Images = tuple[Array, Array, Array, Array]

PARTS = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
KEYS = ("x_train", "y_train", "x_test", "y_test")
NPZ_PARTS = ("train-imgs", "train-labels", "test-imgs", "test-labels")  # of KMNIST's makers, an array arr_0 in each
PACKED = {  # MD5 of train-images-idx3-ubyte.gz as the makers of a set give it
    "f68b3c2dcbeaaa9fbdd348bbdeb94873": "mnist",
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d": "fashion_mnist",
    "bdb82020997e1d708af4cf47b453dcf7": "kmnist",
}
PIECE = 2**20
SIDE = 28


@dataclass(frozen=True)
class Layout:
    """How an image set lies on the disk, and what its files hold.

    Attributes
    ----------
    folders : tuple of str
        Where its files may be, below the folder that is given.
    prefix : str
        What the names of its IDX files begin with.
    parts : tuple of (str, int)
        The rest of their names, and the dimensions that each holds.
    n_classes, first_label : int
        The labels.
    transposed : bool
        Whether rows and columns of the images are exchanged.
    """

    folders: tuple[str, ...]
    prefix: str = ""
    parts: tuple[tuple[str, int], ...] = PARTS
    n_classes: int = 10
    first_label: int = 0
    transposed: bool = False


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Return the bytes of an IDX file as an array of so many dimensions; raises DataError naming the file."""
    head = 4 + 4 * dimensions
    try:
        with opened(path) as file:
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
        raise DataError(f"{path} is damaged: expected {size:,} bytes by its header, got {held}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_npz(path: Path) -> Images:
    """Return the four arrays x_train, y_train, x_test, y_test of an npz file; raises DataError naming the file."""
    return _images(path, list(npz.read(path, KEYS).values()))


def _images(path: Path, found: list[Array]) -> Images:
    """Return arrays as images and labels; raises DataError, naming the file, where they are none."""
    if any(a.dtype.kind not in "ui" for a in found) or any(a.size and (a.min() < 0 or a.max() > 255) for a in found):
        raise DataError(f"{path} is damaged: its arrays must hold integers from 0 to 255")
    x, y, u, v = (a.astype(np.uint8) for a in found)
    if not all(a.ndim >= 2 and a.size and a.size == len(a) * SIDE**2 for a in (x, u)) or y.ndim != 1 or v.ndim != 1:
        raise DataError(f"{path} is damaged: it must hold images of {SIDE} x {SIDE} and one label each")
    return x.reshape(len(x), SIDE, SIDE), y, u.reshape(len(u), SIDE, SIDE), v


def find(folder: Path, name: str, layout: Layout | None = None) -> Images | None:
    """Return the image set in ``folder`` or in the folders that ``layout`` names, None where none holds its files.

    ``folder`` may be the npz file itself, or one of four IDX or npz files. Raises DataError where a file is damaged, or
    only some of the four are there.
    """
    layout = layout or Layout((name,))
    if folder.is_file():
        if folder.suffix.lower() == ".npz" and folder.name not in _npz_parts(name):
            if layout.transposed:
                raise DataError(
                    f"{folder}: {name} is read from its IDX files: the orientation of images in an npz is not defined"
                )
            return check(read_npz(folder), str(folder), layout)
        folder = folder.parent
    for place in (folder, *(folder / inner for inner in layout.folders)):
        paths = [_present(place, layout.prefix + stem, d) for stem, d in layout.parts]
        if all(paths):
            _check_packed(place, name)
            read = [read_idx(p, d) for p, (_, d) in zip(paths, layout.parts, strict=True) if p is not None]
            return check((read[0], read[1], read[2], read[3]), str(place), layout)
        if any(paths):
            lacking = next(stem for (stem, _), p in zip(layout.parts, paths, strict=True) if p is None)
            raise DataError(f"{place} is incomplete: there is no {layout.prefix}{lacking} file")
        four = [place / part for part in _npz_parts(name)]
        if any(path.is_file() for path in four) and not layout.transposed:
            if absent := [path.name for path in four if not path.is_file()]:
                raise DataError(f"{place} is incomplete: there is no {absent[0]} file")
            arrays = [npz.read(path, ("arr_0",))["arr_0"] for path in four]
            return check(_images(place, arrays), str(place), layout)
        candidate = place / f"{name}.npz"
        if candidate.is_file() and not layout.transposed:
            return check(read_npz(candidate), str(candidate), layout)
    return None


def _check_packed(place: Path, name: str) -> None:
    """Raise DataError where the packed images in ``place`` are known to be those of another set than ``name``."""
    path = place / f"{PARTS[0][0]}-idx3-ubyte.gz"
    if path.is_file():
        found = PACKED.get(hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(), name)
        if found != name:
            raise DataError(f"{place} holds {found}, not {name}")


def _npz_parts(name: str) -> list[str]:
    return [f"{name}-{part}.npz" for part in NPZ_PARTS]


def check(images: Images, where: str, layout: Layout | None = None) -> Images:
    """Return images and labels, upright and from 0 on; raises DataError where they are not what ``layout`` says."""
    layout = layout or Layout(())
    first, last = layout.first_label, layout.first_label + layout.n_classes - 1
    x, y, u, v = images
    for pixels, labels in ((x, y), (u, v)):
        if pixels.shape[1:] != (SIDE, SIDE):
            raise DataError(f"{where} is damaged: its images are {pixels.shape[1:]}, not ({SIDE}, {SIDE})")
        if len(pixels) != len(labels) or not len(pixels):
            raise DataError(f"{where} is damaged: it has {len(pixels)} images and {len(labels)} labels")
        if labels.max() > last or labels.min() < first:
            wrong = labels.max() if labels.max() > last else labels.min()
            raise DataError(f"{where} is another data set: the label {wrong} is outside the classes {first} to {last}")
    if layout.transposed:
        x, u = x.transpose(0, 2, 1), u.transpose(0, 2, 1)
    return x, y - np.uint8(first), u, v - np.uint8(first)


def _present(place: Path, stem: str, dimensions: int) -> Path | None:
    """Return the IDX file of a part; it may lie in a folder of its own name, as Kaggle unpacks it."""
    names = [f"{stem}{dot}idx{dimensions}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    paths = [path for name in names for path in (place / name, *(place / name / inner for inner in names))]
    return next((path for path in paths if path.is_file()), None)
