"""The rows of a record as Arrow tables, and Arrow tables as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bpx.engine.arrays import Array, Values
from bpx.records.records import WORDS, Columns

if TYPE_CHECKING:
    import pyarrow

Keys = tuple[tuple[str, str, str, int], ...]  # layer, operation, quantity, index of every value


class Key(NamedTuple):
    """What a value is of.

    Attributes
    ----------
    layer, operation, quantity : str
        For instance layer_03, dense and delta_l2; empty for what is of the whole network.
    index : int
        Index of a bin or a singular value, else 0.
    """

    layer: str
    operation: str
    quantity: str
    index: int  # type: ignore[assignment]  # the column's name; tuple.index is not used


def make_table(
    keys: list[Key], places: list[int], steps: list[int], epochs: list[float], rows: list[Values]
) -> pyarrow.Table:
    """Return one row for each step and key; the values of ``keys`` are the columns ``places`` of ``rows``."""
    import pyarrow as pa

    n, k = len(steps), len(keys)
    columns: dict[str, object] = {
        "step": pa.array(np.repeat(np.array(steps, np.int64), k)),
        "epoch": pa.array(np.repeat(np.array(epochs, np.float64), k)),
    }
    for word in WORDS:
        words = [getattr(key, word) for key in keys]
        known = sorted(set(words))
        code = {word: i for i, word in enumerate(known)}
        codes = np.tile(np.array([code[word] for word in words], np.int32), n)
        columns[word] = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(known, pa.string()))
    columns["index"] = pa.array(np.tile(np.array([key.index for key in keys], np.int32), n))
    values = np.empty((n, k))
    for i, row in enumerate(rows):
        values[i] = row[places]
    columns["value"] = pa.array(values.reshape(-1))
    return pa.table(columns)


def empty_table() -> pyarrow.Table:
    """Return a table without rows."""
    return make_table([], [], [], [], [])


def to_columns(table: pyarrow.Table) -> Columns:
    """Return the columns of a table as arrays; raises ValueError for text columns with missing values."""
    table = table.unify_dictionaries()
    arrays: dict[str, Array] = {}
    words: dict[str, list[str]] = {}
    for name in table.column_names:
        column = table.column(name)
        if name in WORDS:
            column = column.dictionary_encode().combine_chunks()
            column, words[name] = column.indices, column.dictionary.to_pylist()
        arrays[name] = np.asarray(column.to_numpy())
        if name in WORDS and arrays[name].size:
            low, high = arrays[name].min(), arrays[name].max()
            if not 0 <= low <= high < len(words[name]):  # NaN stands for what is missing
                raise ValueError(f"column {name}: expected words, got places {low} to {high} of {len(words[name])}")
    return Columns(arrays, words)
