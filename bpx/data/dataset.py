"""Dataset: scaled samples in three parts, with what is known of where they came from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SCALINGS = ("none", "unit", "standard")
ROWS = 512  # scaled at a time: what is float64 in between stays in the processor's cache


class DataError(ValueError):
    """Data that are missing, damaged or of the wrong form; the text is one line."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))  # what a library said may run over several


@dataclass(frozen=True)
class Scaler:
    """The map from raw to scaled features: (raw - shift) / scale, both (n_in,) in float64.

    In float32 a feature with a large offset (a year, a time stamp) would lose its digits in the difference.
    """

    shift: Array
    scale: Array

    def transform(self, raw: Array) -> Array:
        """Return (raw - shift) / scale for ``raw`` (n, n_in)."""
        return np.asarray((raw - self.shift) / self.scale)


@dataclass(frozen=True)
class Raw:
    """Samples before scaling: features (n, n_in), labels (n,) or targets (n, n_out), and the parts' row numbers."""

    x: Array
    y: Array
    train: Array
    val: Array
    test: Array


@dataclass(frozen=True)
class Dataset:
    """What a run trains on: x (n, n_in) scaled, y labels (n,) or targets (n, n_out); val may be None."""

    name: str
    x_train: Array
    y_train: Array
    x_val: Array | None
    y_val: Array | None
    x_test: Array
    y_test: Array
    n_classes: int | None
    class_names: tuple[str, ...]
    scaler: Scaler
    image_shape: tuple[int, int] | None
    sha256: str
    source: str
    fallback: bool = False

    @property
    def n_in(self) -> int:
        """The number of features."""
        return int(self.x_train.shape[1])

    @property
    def n_out(self) -> int:
        """The number of classes, or of target columns."""
        return self.n_classes or int(self.y_train.shape[1])


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Where a dataset comes from; the fields are the keys that all sources share.

    ``train_size`` uses the first so many training samples, ``val_size`` holds out so many (or such a share of
    them) for validation, ``scaling`` is fitted on the training part alone.
    """

    train_size: int | None = None
    val_size: int | float | None = None
    scaling: str = "standard"

    def __post_init__(self) -> None:
        if self.scaling not in SCALINGS:
            raise DataError(f"dataset.scaling must be one of {', '.join(SCALINGS)}, got {self.scaling}")
        if self.train_size is not None and self.train_size < 1:
            raise DataError(f"dataset.train_size must be at least 1, got {self.train_size}")
        size = self.val_size
        if size is not None and not (0 <= size < 1 or (1 <= size < math.inf and size == int(size))):
            raise DataError(f"dataset.val_size must be a count or a share in [0, 1), got {self.val_size}")

    @abstractmethod
    def load(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> Dataset:
        """Return the dataset, its features of ``dtype``; raises DataError."""

    def held_out(self, train: Array, default: int) -> tuple[Array, Array]:
        """Return the rows to train on and those to validate on, the last ones of ``train``."""
        size = default if self.val_size is None else self.val_size
        n = int(size) if size >= 1 or size == 0 else math.ceil(size * len(train))
        if n >= len(train):
            raise DataError(f"dataset.val_size must be below the {len(train)} training samples, got {self.val_size}")
        rest, val = train[: len(train) - n], train[len(train) - n :]
        if self.train_size is not None:
            if self.train_size > len(rest):
                raise DataError(f"dataset.train_size must be at most {len(rest)}, got {self.train_size}")
            rest = rest[: self.train_size]
        return rest, val

    def scaled(self, raw: Raw, dtype: np.dtype[Any], unit: tuple[float, float] | None = None) -> dict[str, Any]:
        """Return the parts, scaled, and the scaler; ``unit`` is the range of the features where it is known."""
        train = raw.x[raw.train]
        n_in = train.shape[1]
        shift, scale = np.zeros(n_in), np.ones(n_in)
        if self.scaling == "unit":
            low, high = unit or (train.min(axis=0), train.max(axis=0))
            shift, scale = shift + low, np.zeros(n_in) + high - low
        elif self.scaling == "standard":
            # differences from the first row: exactly zero for a constant feature
            first, starts = train[0].astype(np.float64), range(0, len(train), ROWS)
            with np.errstate(over="ignore", invalid="ignore"):
                shift = first + sum((train[i : i + ROWS] - first).sum(axis=0) for i in starts) / len(train)
                scale = np.sqrt(sum(((train[i : i + ROWS] - shift) ** 2).sum(axis=0) for i in starts) / len(train))
        if not np.isfinite(scale).all():
            raise DataError(f"feature {np.argmin(np.isfinite(scale))} is too large to be scaled")
        scale[scale == 0] = 1

        def part(x: Array) -> Array:
            out = np.empty(x.shape, dtype)
            with np.errstate(over="ignore"):
                for i in range(0, len(x), ROWS):
                    np.divide(x[i : i + ROWS] - shift, scale, out=out[i : i + ROWS], casting="same_kind")
            if x.dtype.kind == "f" and not np.isfinite(out).all():
                raise DataError(f"feature {np.argwhere(~np.isfinite(out))[0][1]} is too large for {dtype}")
            return out

        has_val = len(raw.val) > 0
        return {
            "x_train": part(train),
            "y_train": raw.y[raw.train],
            "x_val": part(raw.x[raw.val]) if has_val else None,
            "y_val": raw.y[raw.val] if has_val else None,
            "x_test": part(raw.x[raw.test]),
            "y_test": raw.y[raw.test],
            "scaler": Scaler(shift, scale),
        }


def split_80_20(n: int, seed: int) -> tuple[Array, Array]:
    """Return the rows of scikit-learn's ``train_test_split(test_size=0.2, random_state=seed)``."""
    from sklearn.model_selection import train_test_split

    if n < 2:
        raise DataError(f"at least 2 samples are needed to split them, got {n}")
    train, test = train_test_split(np.arange(n), test_size=0.2, random_state=seed)
    return train, test
