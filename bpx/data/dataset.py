"""Dataset: scaled samples in three parts, with their origin."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.features import Column, Scaler
from bpx.system.errors import UserError

SCALINGS = ("none", "unit", "standard", "global", "divide")
SQUARABLE = 1e-140  # a deviation below it, or above its inverse, has no square in float64
ROWS = 512  # scaled at a time: what is float64 in between stays in the processor's cache


class DataError(UserError, ValueError):
    """Data that are missing, damaged or of the wrong form; the text is one line."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))  # what a library said may run over several


def require(allowed: bool, key: str, expected: str, value: object) -> None:
    """Raise DataError, "dataset.key must be expected, got value", unless the value is ``allowed``."""
    if not allowed:
        raise DataError(f"dataset.{key} must be {expected}, got {value}")


def require_choice(key: str, known: Sequence[object], value: object) -> None:
    """Raise DataError unless a value is one of those that are ``known``."""
    require(value in known, key, f"one of {', '.join(str(k) for k in known)}", value)


def require_size(key: str, size: float) -> None:
    """Raise DataError unless ``size`` is a share of the samples or their number."""
    count = 1 <= size < math.inf and size == int(size)
    require(0 <= size < 1 or count, key, "a count or a share in [0, 1)", size)


def require_random_state(seed: int) -> None:
    """Raise DataError unless NumPy takes a seed."""
    require(0 <= seed < 2**32, "random_state", "at least 0 and below 2**32", seed)


@dataclass(frozen=True)
class Raw:
    """Samples before scaling: features (n, n_in), what is to be learned as in Dataset, and the parts' row numbers."""

    x: Array
    y: Array
    train: Array
    val: Array
    test: Array


class ScaledParts(TypedDict):
    """Scaled parts and their scalers, named as in Dataset."""

    x_train: Array
    y_train: Array
    x_val: Array | None
    y_val: Array | None
    x_test: Array
    y_test: Array
    scaler: Scaler
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Dataset:
    """The data of a run.

    Attributes
    ----------
    name, source, sha256 : str
        What the data are called, where they came from, and their checksum.
    x_train, x_val, x_test : array (rows, n_in)
        Scaled features; there is no validation part where x_val is None, no test part where x_test has no rows.
    y_train, y_val, y_test : array (rows,), (rows, steps) or (rows, targets)
        Labels from 0 on, of a sample or of every step of it, or targets, all of a sample in a row, scaled by
        ``target_scaler``.
    n_classes : int or None
        The number of classes; None for a regression.
    class_names : tuple of str
        What the classes are called.
    scaler : Scaler
        From features to inputs, fitted on the training part.
    image_shape : tuple of int, or None
        The height and width of an image, and its channels, which may stand first or last; no channels: one.
    sequence_shape : tuple of int, or None
        The steps and the features of each: how a sequence model reads the n_in features of a sample.
    target_steps : int or None
        The steps whose targets stand in a row, where every step has its own.
    fallback : bool
        Whether these are not the data asked for.
    columns : tuple of Column
        The raw features by name; empty where they have none.
    target_scaler : Scaler or None
        From targets to what the network learns; None where they are the same.
    summary : str
        What was understood of a file, in one line; empty for data that are known.
    notes : tuple of str
        Notes on the data to print.
    """

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
    image_shape: tuple[int, ...] | None
    sha256: str
    source: str
    fallback: bool = False
    columns: tuple[Column, ...] = ()
    target_scaler: Scaler | None = None
    summary: str = ""
    notes: tuple[str, ...] = ()
    sequence_shape: tuple[int, int] | None = None
    target_steps: int | None = None

    @property
    def validation(self) -> tuple[Array, Array] | None:
        """The validation part, if there is one."""
        return None if self.x_val is None or self.y_val is None else (self.x_val, self.y_val)

    @property
    def n_in(self) -> int:
        """The number of features."""
        return int(self.x_train.shape[1])

    @property
    def n_out(self) -> int:
        """The number of classes, or of targets of a sample."""
        return self.n_classes or int(self.y_train.shape[1])

    @property
    def labels_steps(self) -> bool:
        """Whether there is a label at every step."""
        return self.n_classes is not None and self.y_train.ndim == 2


@runtime_checkable
class SupportsLoad(Protocol):
    """A source of data: what ``dataset._target_`` has to build."""

    def load(self, rng: np.random.Generator, dtype: DType) -> Dataset:
        """Return the dataset, its features of ``dtype``; raises DataError."""


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """Base class of data sources; the fields are the keys common to all sources.

    Attributes
    ----------
    train_size : int, optional
        Use the first so many training samples.
    val_size : int or float, optional
        Hold out so many of the training samples, or such a share of them, for validation.
    scaling : str
        ``none``, ``unit`` (to [0, 1]), ``standard`` (mean 0, variance 1), ``global`` (mean 0, variance 1 over all
        features together), fitted on the training part alone, or ``divide`` (by ``divide``).
    divide : float, optional
        What ``scaling=divide`` divides by.
    """

    train_size: int | None = None
    val_size: int | float | None = None
    scaling: str = "standard"
    divide: float | None = None

    def __post_init__(self) -> None:
        require_choice("scaling", SCALINGS, self.scaling)
        wanted = "a number with" if self.divide is None else "null without"
        fits = (self.scaling == "divide") == (self.divide is not None)
        require(fits, "divide", f"{wanted} dataset.scaling=divide", self.divide)
        require(self.divide is None or 0 < self.divide < math.inf, "divide", "positive and finite", self.divide)
        require(self.train_size is None or self.train_size >= 1, "train_size", "at least 1", self.train_size)
        if self.val_size is not None:
            require_size("val_size", self.val_size)

    @property
    def holds_out(self) -> bool:
        """Whether there is a validation part."""
        return bool(self.val_size)

    @abstractmethod
    def load(self, rng: np.random.Generator, dtype: DType) -> Dataset:
        """Return the dataset, its features of ``dtype``; raises DataError."""

    def held_out(self, train: Array, default: int) -> tuple[Array, Array]:
        """Return the rows to train on and those to validate on, the last ones of ``train``."""
        held = default if self.val_size is None else self.val_size
        n = int(held) if held >= 1 or held == 0 else math.ceil(held * len(train))
        require(n < len(train), "val_size", f"below the {len(train)} training samples", self.val_size)
        rest, val = train[: len(train) - n], train[len(train) - n :]
        size = len(rest) if self.train_size is None else self.train_size
        require(size <= len(rest), "train_size", f"at most the {len(rest)} training samples", size)
        return rest[:size], val

    def scaled(
        self,
        raw: Raw,
        dtype: DType,
        unit: tuple[float, float] | None = None,
        columns: tuple[Column, ...] = (),
        positions: int = 1,
    ) -> ScaledParts:
        """Return the parts, scaled, and the scaler, by the names that Dataset has for them.

        Parameters
        ----------
        raw : Raw
            The samples.
        dtype : dtype
            Of the features.
        unit : tuple of float, optional
            The range of the features where it is known.
        columns : tuple of Column
            What the features are called; the inputs of a column of words are 0 and 1, and stay so.
        positions : int
            The steps of a sequence, or the pixels of an image: a feature is scaled alike at all of them.
        """
        named: list[object] = [c.name for c in columns for _ in range(c.width)]
        names = named or list(range(raw.x.shape[1]))
        fitting = raw.x[raw.train]
        width = fitting.shape[1] // positions
        scaler = fitted(fitting.reshape(-1, width), self.scaling, names, unit, self.divide)
        if positions > 1:
            scaler = Scaler(np.tile(scaler.shift, positions), np.tile(scaler.scale, positions))
        words = np.array([c.categories is not None for c in columns for _ in range(c.width)], bool)
        if words.any():
            scaler = Scaler(np.where(words, 0.0, scaler.shift), np.where(words, 1.0, scaler.scale))

        def part(x: Array) -> Array:
            out = np.empty(x.shape, dtype)
            with np.errstate(over="ignore"):
                for i in range(0, len(x), ROWS):
                    out[i : i + ROWS] = scaler.transform(x[i : i + ROWS])
            if x.dtype.kind == "f" and not np.isfinite(out).all():
                raise DataError(f"feature {names[np.argwhere(~np.isfinite(out))[0][1]]} is too large for {dtype}")
            return out

        train, x_train = raw.x[raw.train], part(raw.x[raw.train])
        lost = train.any(axis=0) & ~x_train.any(axis=0) & (scaler.shift == 0)
        if lost.any():
            i = int(np.argmax(lost))
            raise DataError(
                f"feature {names[i]} is at most {np.abs(train[:, i]).max():.3g}, which {dtype} holds as zero: "
                "give dataset.scaling=standard"
            )
        has_val = len(raw.val) > 0
        return {
            "x_train": x_train,
            "y_train": raw.y[raw.train],
            "x_val": part(raw.x[raw.val]) if has_val else None,
            "y_val": raw.y[raw.val] if has_val else None,
            "x_test": part(raw.x[raw.test]),
            "y_test": raw.y[raw.test],
            "scaler": scaler,
            "columns": columns,
        }


def fitted(
    train: Array,
    scaling: str,
    names: Sequence[object],
    unit: tuple[float, float] | None = None,
    divide: float | None = None,
) -> Scaler:
    """Return the scaler of the rows ``train`` (n, n_in): one of SCALINGS.

    A constant feature has scale 1, so that it is exactly zero; one near 1e-170 is scaled as any other. Raises
    DataError where a range leaves float64.
    """
    n_in = train.shape[1]
    shift, scale = np.zeros(n_in), np.ones(n_in)
    with np.errstate(over="ignore", invalid="ignore"):
        if scaling == "unit":
            low, high = unit or (train.min(axis=0).astype(np.float64), train.max(axis=0).astype(np.float64))
            shift, scale = shift + low, np.zeros(n_in) + high - low
        elif scaling == "standard":
            # differences from the first row: exactly zero for a constant feature
            first, starts = train[0].astype(np.float64), range(0, len(train), ROWS)
            shift = first + sum((train[i : i + ROWS] - first).sum(axis=0) for i in starts) / len(train)
            scale = np.sqrt(sum(((train[i : i + ROWS] - shift) ** 2).sum(axis=0) for i in starts) / len(train))
            for k in np.flatnonzero(~((scale > SQUARABLE) & (scale < 1 / SQUARABLE))):  # a square left the range
                away = train[:, k] - shift[k]
                largest = np.abs(away).max()
                scale[k] = largest and largest * np.sqrt(np.mean((away / largest) ** 2))
        elif scaling == "global":
            parts = [train[i : i + ROWS].astype(np.float64) for i in range(0, len(train), ROWS)]
            mean = sum(float(part.sum()) for part in parts) / train.size
            std = math.sqrt(sum(float(np.square(part - mean).sum()) for part in parts) / train.size)
            shift, scale = shift + mean, scale * std
        elif scaling == "divide" and divide is not None:
            scale = scale * divide
    if not np.isfinite(scale).all():
        i = int(np.argmin(np.isfinite(scale)))
        raise DataError(f"feature {names[i]} is too large to be scaled")
    scale[scale == 0] = 1
    return Scaler(shift, scale)


def split(n: int, test_size: float, seed: int) -> tuple[Array, Array]:
    """Return the rows of scikit-learn's ``train_test_split(test_size=..., random_state=seed)``; 0 tests nothing."""
    rows = np.arange(n)
    if test_size == 0:
        return rows, rows[:0]
    n_test = int(test_size) if test_size >= 1 else math.ceil(test_size * n)
    if n_test >= n:
        if n < 2:
            raise DataError(f"at least 2 samples are needed to train and test on different ones, got {n}")
        raise DataError(f"dataset.test_size must leave some of the {n} samples to train on, got {test_size}")
    shuffled = np.random.RandomState(seed).permutation(n)  # the same rows without the second that its import takes
    return shuffled[n_test:], shuffled[:n_test]


def split_80_20(n: int, seed: int) -> tuple[Array, Array]:
    """Return the rows of ``split`` with a test part of 20 %."""
    return split(n, 0.2, seed)


def digest(*arrays: Array) -> str:
    """Return the SHA-256 of the bytes of arrays."""
    found = hashlib.sha256()
    for a in arrays:
        found.update(np.ascontiguousarray(a).data)
    return found.hexdigest()
