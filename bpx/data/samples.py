"""What a file holds: features by name or as an array, and the column to learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bpx.data import arrays, columns, table
from bpx.data.dataset import DataError
from bpx.data.image_source import CHANNELS, channels_first
from bpx.engine.arrays import Array
from bpx.engine.features import exact


@dataclass(frozen=True)
class Samples:
    """The samples of a file, before they are split and scaled.

    Attributes
    ----------
    x : dict of str to array, or array (rows, features)
        The features: by name numbers with NaN or words with None where a cell is missing, or float64.
    y : array (rows,), (rows, steps), (rows, outputs) or (rows, steps, outputs)
        What is to be learned, as the file has it.
    key : str
        What the file calls y.
    separator : str
        What separates the cells of a text, in words; empty for an npz file.
    shape : tuple of int
        The shape of a sample in the file, which ``x`` has in a row.
    pixels : bool
        Whether the values are bytes, and not only 0 and 1, as those of images are.
    n_test : int or None
        How many samples, after the others, are a test part of their own.
    notes : tuple of str
        Notes on how the file was read.
    """

    x: dict[str, Array] | Array
    y: Array
    key: str
    separator: str = ""
    shape: tuple[int, ...] = ()
    pixels: bool = False
    n_test: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The features' names, empty where they have none."""
        return list(self.x) if isinstance(self.x, dict) else []

    @property
    def sequence_shape(self) -> tuple[int, int] | None:
        """The steps of a sample and the features of each, where the samples may be sequences."""
        return (self.shape[0], self.shape[1]) if len(self.shape) == 2 else None

    @property
    def y_steps(self) -> int | None:
        """The steps of a sample where y has a value, or several, for each of them."""
        steps = self.sequence_shape[0] if self.sequence_shape else None
        return steps if self.y.ndim > 1 and self.y.shape[1] == steps else None

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The height and width of a sample, and its channels, where the samples may be images."""
        known = len(self.shape) == 3 and (self.shape[-1] in CHANNELS or channels_first(self.shape))
        return self.shape if known or len(self.shape) == 2 else None

    @property
    def positions(self) -> int:
        """How many values of a sample are of one feature and scaled alike: at every step, or pixel of a channel."""
        if len(self.shape) == 2:
            return self.shape[0] * (self.shape[1] if self.pixels else 1)
        last = len(self.shape) == 3 and self.shape[-1] in CHANNELS
        return self.shape[0] * self.shape[1] if last else 1


def from_npz(path: Path, x_key: str | None, y_key: str | None) -> Samples:
    """Return the samples of an npz file, its own test part after them; raises DataError."""
    found = arrays.read(path, x_key, y_key)
    notes = (f"not used: {', '.join(found.unused)}",) if found.unused else ()
    train = _samples(path, found.x, found.y, found.key)
    if found.x_test is None or found.y_test is None:
        return replace(train, notes=notes)
    test = _samples(path, found.x_test, found.y_test, found.key_test)
    return replace(joined(train, test, path), notes=("the test part is the file's own", *notes))


def from_text(
    path: Path, header: str | bool, label: str | None, categorical: str, missing: str, like: Samples | None = None
) -> Samples:
    """Return the samples of delimited text; raises DataError.

    Parameters
    ----------
    path : Path
        The file.
    header, categorical, missing
        The keys of the dataset.
    label : str or None
        The column to learn; None for the one called label, target, class or y.
    like : Samples, optional
        The training part, whose columns are wanted where the file is a test part.
    """
    read = table.read(path, header, label if like is None else like.key)
    names, notes = read.features, read.notes
    if like is not None:
        if lacking := [name for name in like.names if name not in names]:
            raise DataError(f"{path} lacks the column {lacking[0]!r} of the training part")
        names = like.names
    elif missing != "error" and (empty := [name for name in names if table.missing(read.columns[name]).all()]):
        notes = (*notes, f"without a value and left out: {', '.join(empty)}")
        names = [name for name in names if name not in empty]
    if not names:
        raise DataError(f"{path} has no column but {read.key}: it needs a feature, too")
    if missing == "drop":
        gone = np.any([read.unlabelled(), *(table.missing(read.columns[name]) for name in names)], axis=0)
        if gone.any():
            notes = (*notes, f"dataset.missing=drop leaves out {gone.sum():,} of {len(gone):,} samples")
            read = read.without(gone)
        if not len(read.records):
            raise DataError(f"{path} holds no samples that are complete")
    y = read.columns[read.key]
    if (gone := read.unlabelled()).any():
        row = int(np.argmax(gone))
        if y[row]:
            raise read.wrong(row, read.key, f"{y[row]!r} is no class and no number; dataset.missing=drop leaves it out")
        raise DataError(f"{path}, line {read.line(row)}: the column {read.key} is empty")
    if words := sorted(set(y) & set(table.MISSING)):
        notes = (*notes, f"{', '.join(words)} is taken as a class; a label that is missing is left empty")
    if alike := _alike(set(y)):
        notes = (*notes, f"{' and '.join(alike)} are classes of their own")
    columns.check(read, names, categorical, missing)
    return Samples({name: read.columns[name] for name in names}, y, read.key, read.text.separated_by, notes=notes)


def _alike(words: set[str]) -> list[str]:
    """Return the first words that differ in nothing but the case of their letters."""
    cases: dict[str, list[str]] = {}
    for word in sorted(words):
        cases.setdefault(word.casefold(), []).append(word)
    return next((found for found in cases.values() if len(found) > 1), [])


def joined(train: Samples, test: Samples, path: Path) -> Samples:
    """Return the samples of both, those of ``test`` last; raises DataError where they are of two kinds."""
    y = _together(train.y, test.y)
    if y is None:
        said = [f"{part.y.dtype} of shape {part.y.shape}" for part in (test, train)]
        raise DataError(f"{path}: {test.key} is {said[0]}, {train.key} {said[1]}: they must be of one kind")
    x: dict[str, Array] | Array
    if isinstance(train.x, dict) and isinstance(test.x, dict):
        for name in train.x:
            if train.x[name].dtype != test.x[name].dtype:
                raise DataError(f"{path}, column {name}: words in one of the two parts, numbers in the other")
        x = {name: np.concatenate([train.x[name], test.x[name]]) for name in train.x}
    elif isinstance(train.x, dict) or isinstance(test.x, dict):
        raise DataError(f"{path}: the test part must be a file of the same kind as the training part")
    elif len(train.shape) > 1 and train.shape != test.shape:
        raise DataError(
            f"{path}: the samples of the test part are of shape {test.shape}, those to train on {train.shape}"
        )
    elif train.x.shape[1:] != test.x.shape[1:]:
        raise DataError(f"{path}: the test part has {test.x.shape[1]} features, the training part {train.x.shape[1]}")
    else:
        x = np.concatenate([train.x, test.x])
    return replace(train, x=x, y=y, n_test=len(test.y), notes=(*train.notes, *test.notes))


def _together(a: Array, b: Array) -> Array | None:
    """Return the values of ``a`` and after them those of ``b``, None where they are of two kinds."""
    if a.dtype != b.dtype:  # uint64 beside signed integers would become float64
        a, b = (y.astype(np.int64) if y.dtype == np.uint64 and y.max() < 2**63 else y for y in (a, b))
    integers = a.dtype.kind in "iub" and b.dtype.kind in "iub" and np.result_type(a, b).kind in "iub"
    return np.concatenate([a, b]) if a.shape[1:] == b.shape[1:] and (integers or a.dtype.kind == b.dtype.kind) else None


def _samples(path: Path, x: Array, y: Array, key: str) -> Samples:
    """Return the samples of arrays, x as float64 (rows, features); raises DataError if they are invalid."""
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: x must hold numbers, its type is {x.dtype}")
    if x.ndim < 2 or not x.size:
        forms = "(n, features), (n, steps, features) or (n, height, width, channels)"
        raise DataError(f"{path}: x is {x.shape}; needed are samples {forms}")
    if y.ndim not in (1, 2, 3) or len(x) != len(y):
        forms = "labels (n,), (n, steps), (n, outputs) or (n, steps, outputs)"
        raise DataError(f"{path}: {key} is {y.shape}; needed are {forms}, and x has {len(x):,} samples")
    if y.ndim == 3 and not (x.ndim == 3 and y.shape[1] == x.shape[1] and y.shape[2]):
        raise DataError(f"{path}: {key} is {y.shape} and x {x.shape}; values of steps need an x (n, steps, features)")
    shape, pixels = x.shape[1:], bool(x.dtype == np.uint8 and x.max() > 1)  # 0 and 1 may be words, one-hot
    if y.dtype.kind not in "fiubUS":
        raise DataError(f"{path}: y holds {y.dtype}, which is neither numbers nor labels")
    try:
        x = exact(x.reshape(len(x), -1))
    except ValueError as error:
        raise DataError(f"{path}: x: {error}") from error
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise DataError(f"{path}: x has NaN or Inf, first in sample {row}, feature {column}")
    return Samples(x, y, key, shape=shape, pixels=pixels)
