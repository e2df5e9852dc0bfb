"""From raw features to a network's inputs: one transformation for training and for the saved model, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from bpx.engine.arrays import Array

Table = Any  # a data frame, a mapping of names to cells, an array or a nested list: (rows, features)
MAX_EXACT_INTEGER = 2**53  # integers beyond it may have no float64 of their own
NUMBER_KINDS = "fiub"  # of NumPy's dtypes, those that are numbers


@final
@dataclass(frozen=True)
class Scaler:
    """The map from raw to scaled values: (raw - shift) / scale, both (n,) in float64.

    In float32 a value with a large offset (a year, a time stamp) would lose its digits in the difference.
    """

    shift: Array
    scale: Array

    def transform(self, raw: Array) -> Array:
        """Return (raw - shift) / scale for ``raw`` (rows, n)."""
        return np.asarray((raw - self.shift) / self.scale)

    def inverse(self, scaled: Array) -> Array:
        """Return scaled * scale + shift for ``scaled`` (rows, n)."""
        return np.asarray(scaled * self.scale + self.shift)


@final
@dataclass(frozen=True)
class Column:
    """A raw feature: numbers (one input), or words (one input for each of its ``categories``, 0 or 1).

    Attributes
    ----------
    name : str
        The column's name in the data.
    categories : tuple of str, or None
        The words that have an input; any other word is zeros in all of them. None for numbers.
    fill : float, str or None
        What stands in for a missing cell; None where a missing cell is an error.
    """

    name: str
    categories: tuple[str, ...] | None = None
    fill: float | str | None = None

    @property
    def width(self) -> int:
        """The number of its inputs."""
        return 1 if self.categories is None else len(self.categories)

    def inputs(self, cells: object) -> Array:
        """Return float64 (rows, inputs) for the raw ``cells`` (rows,); raises ValueError naming the column."""
        cells = np.asarray(cells)
        if self.categories is None:
            return self._numbers(cells)[:, None]
        words = [None if missing(cell) else str(cell).strip() for cell in cells.tolist()]
        if None in words and self.fill is None:
            raise ValueError(f"the column {self.name} has a missing cell in row {words.index(None)}")
        inputs = np.zeros((len(words), len(self.categories)))
        position = {word: k for k, word in enumerate(self.categories)}
        for row, word in enumerate(words):
            k = position.get(str(self.fill) if word is None else word)
            if k is not None:
                inputs[row, k] = 1
        return inputs

    def _numbers(self, cells: Array) -> Array:
        if cells.dtype.kind not in NUMBER_KINDS:
            cells = np.array([np.nan if missing(cell) else cell for cell in cells.tolist()], object)
        try:
            numbers = exact(cells)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"the column {self.name} must hold numbers: {error}") from error
        gone = np.isnan(numbers)
        if gone.any():
            if self.fill is None:
                raise ValueError(f"the column {self.name} has a missing cell in row {int(np.argmax(gone))}")
            numbers = np.where(gone, self.fill, numbers)
        return numbers


def missing(cell: object) -> bool:
    """Return whether a cell of a table says that there is no value: None, NaN, or a value unequal to itself."""
    try:
        return cell is None or bool(cell != cell)
    except TypeError:  # pandas.NA has no truth
        return True


def exact(values: object) -> Array:
    """Return numbers as float64; raises ValueError where an integer would change or a value is no number."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError("its rows differ in length") from error
    if array.dtype.kind == "O":
        if any(isinstance(value, str) for value in array.ravel().tolist()):
            raise ValueError("it holds words")
    elif array.dtype.kind not in NUMBER_KINDS:
        raise ValueError(f"its values are {array.dtype}")
    numbers = array.astype(np.float64)
    if array.dtype.kind in "iuO" and array.itemsize == 8 and np.nanmax(np.abs(numbers), initial=0) >= MAX_EXACT_INTEGER:
        wrong = [value for value in array.ravel().tolist() if isinstance(value, int) and int(float(value)) != value]
        if wrong:
            raise ValueError(f"{wrong[0]} has no exact float64")
    return numbers


def matrix(columns: Sequence[Column], raw: Table) -> Array:
    """Return raw features as float64 (rows, inputs), before they are scaled; raises ValueError where they do not fit.

    Parameters
    ----------
    columns : sequence of Column
        The features in the order of the inputs; empty where the data have no names for them.
    raw : data frame, mapping of names to cells, or array or nested list (rows, features)
        What has names is matched by name, and may hold more; anything else is taken in the order of ``columns``.
    """
    names = _names(raw)
    if not columns:
        return exact(raw)
    wanted = [column.name for column in columns]
    if names is not None and names != list(range(len(wanted))):
        if lacking := [name for name in wanted if name not in names]:
            raise ValueError(f"the column {lacking[0]} is lacking; the model takes {', '.join(wanted)}")
        given = [raw[name] for name in wanted]
    else:
        table = np.asarray(raw, None if names is None and np.asarray(raw).dtype.kind in NUMBER_KINDS else object)
        if table.ndim != 2 or table.shape[1] != len(columns):
            raise ValueError(f"x must be (rows, {len(columns)}) with {', '.join(wanted)}, got {table.shape}")
        given = list(table.T)
    return np.concatenate([column.inputs(cells) for column, cells in zip(columns, given, strict=True)], axis=1)


def raw_cells(columns: Sequence[Column], numbers: Array) -> dict[str, list[object]]:
    """Return the raw cells by column that ``matrix`` turns into ``numbers`` (rows, inputs)."""
    found: dict[str, list[object]] = {}
    at = 0
    for column in columns:
        inputs, words = numbers[:, at : at + column.width], column.categories
        found[column.name] = inputs[:, 0].tolist() if words is None else [words[k] for k in inputs.argmax(axis=1)]
        at += column.width
    return found


def _names(raw: object) -> list[object] | None:
    """Return the column names of a data frame or the keys of a mapping, None where there are none."""
    names = getattr(raw, "columns", None)
    if names is None:
        names = getattr(raw, "keys", lambda: None)()
    return None if names is None else list(names)
