"""MNIST and the image sets in its form: Fashion-MNIST, KMNIST, EMNIST."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import ClassVar

import numpy as np

from bpx.data import idx
from bpx.data.dataset import DataError, Dataset, Raw, ScaledParts, digest, require, require_choice, split_80_20
from bpx.data.digits import DIGITS, large_digits
from bpx.data.image_source import Arranged, ImageSource
from bpx.data.openml import cache, download
from bpx.engine.arrays import Array, DType

log = logging.getLogger("bpx.data")
MNIST_COUNTS = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # of its training labels


@dataclass(frozen=True, kw_only=True)
class _OpenMLImages(ImageSource):
    """An image set in MNIST's form: from files, the cache, or OpenML.

    Attributes
    ----------
    path : str, optional
        The folder of its files, or that folder's parent, or its npz file.
    subset : int, optional
        Use only the first so many images, split 80/20.
    fallback : str, optional
        digits28, where there are no files and no network; None: an error.
    """

    name: ClassVar[str]
    title: ClassVar[str | None]  # on OpenML, if it is there
    class_names: ClassVar[tuple[str, ...]]
    sha256: ClassVar[str | None]  # None: only the form is checked
    folders: ClassVar[tuple[str, ...]]

    path: str | None = None
    subset: int | None = None
    fallback: str | None = "digits28"
    scaling: str = "unit"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.fallback in (None, "digits28"), "fallback", "digits28 or null", self.fallback)
        require(self.subset is None or self.subset >= 10, "subset", "at least 10", self.subset)

    @property
    def holds_out(self) -> bool:
        """Whether there is a validation part: by default the last training images, of a subset none."""
        return self.subset is None if self.val_size is None else bool(self.val_size)

    @property
    def layout(self) -> idx.Layout:
        """How the set lies on the disk."""
        return idx.Layout(self.folders)

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called."""
        return self.class_names

    def load(self, rng: np.random.Generator, dtype: DType) -> Dataset:
        """Return the images, or the fallback, marked as such, if they cannot be loaded."""
        found = self._find()
        if found is None:
            return self._fall_back(dtype)
        images, where = found
        self._check(images, where)
        pixels = np.concatenate([images[0], images[2]]).reshape(-1, idx.SIDE**2)
        y = np.concatenate([images[1], images[3]]).astype(np.int64)
        how, parts = self._parts(pixels, y, len(images[0]), dtype)
        return Dataset(
            name=self.name,
            n_classes=len(self.names),
            class_names=self.names,
            sha256=digest(*images),
            source=where,
            notes=() if self.sha256 else (f"{self.name} is checked by its form alone; its checksum is recorded",),
            **how,
            **parts,
        )

    def _parts(self, pixels: Array, y: Array, n_train: int, dtype: DType) -> tuple[Arranged, ScaledParts]:
        """Return images of which the first ``n_train`` are to train on, or a subset of them, in parts."""
        x, how = self.arranged(pixels, idx.SIDE, idx.SIDE)
        if self.subset is None:
            default = 5000 if n_train > 10000 else n_train // 12
            train, val = self.held_out(np.arange(n_train), default)
            test = np.arange(n_train, len(x))
        else:
            rows, test = split_80_20(min(self.subset, len(x)), seed=42)
            train, val = self.held_out(rows, 0)
        return how, self.scaled(Raw(x, y, train, val, test), dtype, unit=(0.0, 255.0))

    def _check(self, images: idx.Images, where: str) -> None:
        """Raise DataError where images of the right form are damaged, or are another data set."""
        checksum = digest(*images)
        if self.sha256 is not None and checksum != self.sha256:
            off = np.abs(np.bincount(images[1], minlength=10)[:10] - np.array(MNIST_COUNTS)).sum()
            what = "is damaged" if off < 100 else f"holds another data set than {self.name}"
            raise DataError(f"{where} {what}: its SHA-256 is {checksum[:12]}…, {self.name}'s is {self.sha256[:12]}…")
        if self.sha256 is None and checksum == MNIST.sha256:  # their files have the same names
            raise DataError(f"{where} holds MNIST, not {self.name}")

    def _find(self) -> tuple[idx.Images, str] | None:
        if self.path is not None:
            path = Path(self.path).expanduser()
            images = idx.find(path, self.name, self.layout)
            if images is None:
                files = f"{self.layout.prefix}*-ubyte" if self.layout.transposed else f"IDX or {self.name}.npz"
                raise DataError(f"dataset.path={path} holds no {self.name} files ({files})")
            return images, str(path)
        places = [Path(os.environ["BPX_DATA_DIR"]).expanduser()] if os.environ.get("BPX_DATA_DIR") else []
        for place in (*places, cache()):
            images = idx.find(place, self.name, self.layout)
            if images is not None:
                return images, str(place)
        return None if self.title is None else download(self.name, self.title, self.sha256)

    def _fall_back(self, dtype: DType) -> Dataset:
        online = "" if self.title is None else ", and OpenML does not answer"
        wanted = f"{self.name} is neither under BPX_DATA_DIR nor in {cache()}{online}"
        if self.fallback is None:
            raise DataError(f"{wanted}: give dataset.path")
        log.warning(
            "%s. RUNNING ON scikit-learn's 8x8 DIGITS SCALED TO 28x28 INSTEAD: results are not %s's. "
            "Give dataset.path for the real data, dataset.fallback=null to stop here.",
            wanted,
            self.name,
        )
        pixels, y = large_digits()
        how, parts = self._parts(pixels, y, len(pixels) * 6 // 7, dtype)
        return Dataset(
            name="digits28 (fallback)",
            n_classes=10,
            class_names=DIGITS,
            sha256=digest(pixels, y),
            source="scikit-learn's digits, scaled to 28x28",
            fallback=True,
            **how,
            **parts,
        )


@dataclass(frozen=True, kw_only=True)
class MNIST(_OpenMLImages):
    """Handwritten digits, 28 x 28 (LeCun et al. 1998); the last 5,000 training images validate by default."""

    name = "mnist"
    title = "mnist_784"
    class_names = DIGITS
    sha256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
    folders = ("mnist", "MNIST", "MNIST/raw", "raw")


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(_OpenMLImages):
    """Articles of clothing, 28 x 28 (Xiao et al. 2017), verified by structure; the hash is recorded."""

    name = "fashion_mnist"
    title = "Fashion-MNIST"
    class_names = (
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )
    sha256 = None
    folders = ("fashion_mnist", "fashion-mnist", "FashionMNIST", "FashionMNIST/raw", "raw")


@dataclass(frozen=True, kw_only=True)
class KMNIST(_OpenMLImages):
    """Cursive Japanese characters (hiragana), 28 x 28 (Clanuwat et al. 2018), verified by structure."""

    name = "kmnist"
    title = "Kuzushiji-MNIST"
    class_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    sha256 = None
    folders = ("kmnist", "KMNIST", "KMNIST/raw", "raw")
    fallback: str | None = None


SPLITS = {
    "balanced": (*DIGITS, *ascii_uppercase, *"abdefghnqrt"),
    "bymerge": (*DIGITS, *ascii_uppercase, *"abdefghnqrt"),
    "byclass": (*DIGITS, *ascii_uppercase, *ascii_lowercase),
    "letters": tuple(ascii_uppercase),
    "digits": DIGITS,
    "mnist": DIGITS,
}


@dataclass(frozen=True, kw_only=True)
class EMNIST(_OpenMLImages):
    """Handwritten letters and digits, 28 x 28 (Cohen et al. 2017), upright, verified by structure.

    Attributes
    ----------
    split : str
        balanced, bymerge (47 classes), byclass (62), letters (26, whose labels begin at 1), digits or mnist.
    """

    name = "emnist"
    title = None
    class_names = ()
    sha256 = None
    folders = ("emnist", "EMNIST", "EMNIST/raw", "raw", "gzip", "emnist/gzip", "emnist_source_files")
    split: str = "balanced"
    fallback: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("split", tuple(SPLITS), self.split)

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes of the split are called."""
        return SPLITS[self.split]

    @property
    def layout(self) -> idx.Layout:
        """The files of the split, transposed as the set's makers left them."""
        return idx.Layout(
            self.folders,
            f"emnist-{self.split}-",
            tuple((stem.replace("t10k", "test"), dimensions) for stem, dimensions in idx.PARTS),
            len(self.names),
            int(self.split == "letters"),
            transposed=True,
        )
