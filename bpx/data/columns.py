"""The features of a table: numbers and words, missing cells, fitted on the training part by scikit-learn."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np

from bpx.data.dataset import DataError
from bpx.data.table import INTEGER, WRITTEN, Table, missing, numbers
from bpx.engine.arrays import Array
from bpx.engine.features import MAX_EXACT_INTEGER, Column

CATEGORICAL = ("error", "onehot")
GAPS = ("error", "drop", "fill")
MAX_INPUTS = 100_000  # of a column of words
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")


def check(table: Table, names: list[str], categorical: str, gaps: str) -> None:
    """Raise DataError where a feature holds what is not taken.

    Parameters
    ----------
    table : Table
        The samples.
    names : list of str
        The columns that are features.
    categorical : str
        dataset.categorical: "error" refuses a column of words.
    gaps : str
        dataset.missing: "error" refuses a missing cell.

    Raises
    ------
    DataError
        In one line that names the first line, the column, what stands there, and the key that takes it.
    """
    columns = {name: table.columns[name] for name in names}
    for name, column in columns.items():
        if column.dtype.kind == "f" and np.isinf(column).any():
            row = int(np.argmax(np.isinf(column)))
            raise table.wrong(row, name, f"{table.cell(row, name)!r} is not finite (NaN or Inf)")
        if column.dtype.kind == "O":
            _check_commas(table, name, column)
        elif (large := np.flatnonzero(np.abs(column) >= MAX_EXACT_INTEGER)).size:
            _check_exact(table, name, large)
    wrong = []
    worded = [name for name, column in columns.items() if column.dtype.kind == "O"]
    if worded and categorical == "error":
        row = _first_word(columns[worded[0]])
        also = f" (so do {', '.join(worded[1:])})" if worded[1:] else ""
        said = f"{columns[worded[0]][row]!r} is no number{also}{_advice(columns[worded[0]])}"
        wrong.append(table.wrong(row, worded[0], said))
    gone = {name: missing(column) for name, column in columns.items()}
    gapped = [name for name in names if gone[name].any()]
    if gapped and gaps == "error":
        row = int(np.argmax(gone[gapped[0]]))
        also = f" (so are cells of {', '.join(gapped[1:])})" if gapped[1:] else ""
        said = f"{table.cell(row, gapped[0])!r} is missing (empty or NaN){also}: dataset.missing=drop|fill takes it"
        wrong.append(table.wrong(row, gapped[0], said))
    if wrong:
        first, *rest = (str(error) for error in wrong)
        raise DataError("; ".join([first, *(said.removeprefix(f"{table.path}, ") for said in rest)]))


def _advice(column: Array) -> str:
    """Return what to do about a column of words, some or all of which may be meant as numbers."""
    known = np.array([cell for cell in column if cell is not None], object)
    are = int((~np.isnan(numbers(known))).sum())
    if 2 * are > len(known):
        return f", and {are:,} others are: leave a missing cell empty; dataset.categorical=onehot takes all as words"
    if all(WRITTEN.fullmatch(cell) for cell in known):
        return ": write it with digits, a point and an exponent alone; dataset.categorical=onehot takes all as words"
    return ": dataset.categorical=onehot takes words"


def _first_word(column: Array) -> int:
    """Return the row of the first cell that is no number."""
    known = np.array([cell is not None for cell in column], bool)
    return int(np.flatnonzero(known)[np.argmax(np.isnan(numbers(column[known])))])


def _check_commas(table: Table, name: str, column: Array) -> None:
    """Raise DataError where the words of a column would be numbers with a point in the place of a comma, or nothing."""
    row = _first_word(column)
    known = [str(cell) for cell in column if cell is not None]
    if "," not in column[row]:
        return
    for instead, way in ((".", "a decimal comma must be a point"), ("", "leave the thousands separators out")):
        if not np.isnan(numbers(np.array([cell.replace(",", instead) for cell in known], object))).any():
            both = all(THOUSANDS.fullmatch(cell) for cell in known if "," in cell) and instead == "."
            also = ", or thousands separators be left out" if both else ""
            raise table.wrong(row, name, f"{column[row]!r} is no number: {way}{also}")


def _check_exact(table: Table, name: str, rows: Array) -> None:
    """Raise DataError where one of the ``rows`` of a column of numbers holds an integer that float64 rounds."""
    cells, column = table.cells(name), table.columns[name]
    for row in rows:
        if INTEGER.fullmatch(cells[row]) and Decimal(cells[row]) != Decimal(float(column[row])):
            raise table.wrong(row, name, f"{cells[row]!r} has no exact float64; a point (.0) lets it be rounded")


def fit(found: dict[str, Array], train: Array, fills: bool, where: str) -> tuple[Column, ...]:
    """Return how the features become inputs, as learned from the rows ``train`` alone.

    Where ``fills``, missing numbers become the mean and missing words the most frequent one. Words become one input
    each, and a word that the training part lacks is zeros. Raises DataError where a column holds nothing to learn from.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    columns = []
    for name, cells in found.items():
        part = cells[train][:, None]
        worded = cells.dtype.kind == "O"
        present = ~missing(part[:, 0])
        if not present.any():
            raise DataError(f"{where}: the column {name} has no value in the training part")
        if worded:
            words = OneHotEncoder(dtype=np.float64).fit(part[present]).categories_[0].tolist()
            if len(words) > MAX_INPUTS:
                raise DataError(
                    f"{where}: the column {name} has {len(words):,} words, at most {MAX_INPUTS:,} are taken"
                )
            fill = (
                SimpleImputer(missing_values=None, strategy="most_frequent").fit(part).statistics_[0] if fills else None
            )
            columns.append(Column(name, tuple(words), fill))
        else:
            fill = float(SimpleImputer(strategy="mean").fit(part).statistics_[0]) if fills else None
            columns.append(Column(name, None, fill))
    return tuple(columns)
