"""scikit-learn's handwritten digits: as they are, and scaled to 28 x 28 where MNIST cannot be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from bpx.data.dataset import Dataset, Raw, digest, split_80_20
from bpx.data.idx import SIDE
from bpx.data.image_source import ImageSource
from bpx.engine.arrays import Array, DType

DIGITS = tuple("0123456789")


@dataclass(frozen=True, kw_only=True)
class Digits(ImageSource):
    """scikit-learn's own handwritten digits: 1,797 images of 8 x 8, split 80/20."""

    name: ClassVar[str] = "digits"

    def load(self, rng: np.random.Generator, dtype: DType) -> Dataset:
        """Return the digits."""
        images, y = small_digits()
        x, how = self.arranged(images.reshape(len(images), -1), 8, 8)
        rows, test = split_80_20(len(x), seed=42)
        train, val = self.held_out(rows, 0)
        return Dataset(
            name=self.name,
            n_classes=10,
            class_names=DIGITS,
            sha256=digest(x, y),
            source="scikit-learn's load_digits",
            **how,
            **self.scaled(Raw(x, y, train, val, test), dtype, unit=(0.0, 16.0)),
        )


def small_digits() -> tuple[Array, Array]:
    """Return the images (1797, 8, 8) and labels, from scikit-learn's file: its import takes longer than training."""
    found = find_spec("sklearn")
    file = Path(str(found and found.origin)).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target.astype(np.int64)


def large_digits() -> tuple[Array, Array]:
    """Return the images scaled to (1797, 784), linearly in both directions, uint8, and labels."""
    images, y = small_digits()
    ramp = np.linspace(0, 7, SIDE)
    low = np.minimum(ramp.astype(int), 6)
    part = ramp - low
    mix = np.zeros((8, SIDE))
    mix[low, np.arange(SIDE)] = 1 - part
    mix[low + 1, np.arange(SIDE)] += part
    x = (np.einsum("ia,nij,jb->nab", mix, images, mix) * (255 / 16)).round()
    return x.astype(np.uint8).reshape(len(x), -1), y
