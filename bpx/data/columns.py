"""The features of a table: numbers and words, missing cells, fitted on the training part by scikit-learn."""

from __future__ import annotations

import numpy as np

from bpx.data.dataset import Array, DataError
from bpx.data.table import MISSING, Table, numbers
from bpx.engine.features import Column

CATEGORICAL = ("error", "onehot")
GAPS = ("error", "drop", "fill")
MOST_INPUTS = 100_000  # of a column of words


def features(table: Table, names: list[str], categorical: str, gaps: str) -> dict[str, Array]:
    """Return the features of a table: float64 with NaN, or words with None, where a cell is missing.

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
    gone = {name: np.isin(table.cells[name], MISSING) for name in names}
    values = {name: numbers(table.cells[name]) for name in names}
    words = {name: np.isnan(values[name]) & ~gone[name] for name in names}
    for name in names:
        if np.isinf(values[name]).any():
            row = int(np.argmax(np.isinf(values[name])))
            raise table.wrong(row, name, f"{table.cells[name][row]!r} is not finite (NaN or Inf)")
        commas = [cell for cell in table.cells[name][words[name]] if "," in cell]
        if len(commas) and not np.isnan(numbers(np.array([c.replace(",", ".") for c in commas], object))).any():
            row = int(np.argmax(table.cells[name] == commas[0]))
            raise table.wrong(row, name, f"{commas[0]!r} has a comma where a number has a point")
    wrong = []
    worded = [name for name in names if words[name].any()]
    if worded and categorical == "error":
        name, more = worded[0], ", ".join(worded[1:])
        row = int(np.argmax(words[name]))
        also = f" (so do {more})" if more else ""
        wrong.append(
            table.wrong(
                row, name, f"{table.cells[name][row]!r} is no number{also}: dataset.categorical=onehot takes words"
            )
        )
    open_cells = [name for name in names if gone[name].any()]
    if open_cells and gaps == "error":
        name, more = open_cells[0], ", ".join(open_cells[1:])
        row = int(np.argmax(gone[name]))
        also = f" (so are cells of {more})" if more else ""
        said = repr(table.cells[name][row])
        wrong.append(
            table.wrong(row, name, f"{said} is missing (empty or NaN){also}: dataset.missing=drop|fill takes it")
        )
    if wrong:
        first, *rest = (str(error) for error in wrong)
        raise DataError("; ".join([first, *(text.removeprefix(f"{table.path}, ") for text in rest)]))
    found = {}
    for name in names:
        cells = table.cells[name].copy()
        cells[gone[name]] = None
        found[name] = cells if words[name].any() else values[name]
    return found


def incomplete(table: Table, names: list[str]) -> Array:
    """Return the mask (rows,) of samples that lack a cell of one of the columns."""
    return np.asarray(np.any([np.isin(table.cells[name], MISSING) for name in names], axis=0))


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
        present = part[:, 0] != None if worded else ~np.isnan(part[:, 0])  # noqa: E711
        if not present.any():
            raise DataError(f"{where}: the column {name} has no value in the training part")
        if worded:
            fill = SimpleImputer(missing_values=None, strategy="most_frequent").fit(part).statistics_[0]
            words = OneHotEncoder(dtype=np.float64).fit(part[present]).categories_[0].tolist()
            if len(words) > MOST_INPUTS:
                raise DataError(
                    f"{where}: the column {name} has {len(words):,} words, at most {MOST_INPUTS:,} are taken"
                )
            columns.append(Column(name, tuple(words), str(fill) if fills else None))
        else:
            mean = SimpleImputer(strategy="mean").fit(part).statistics_[0]
            columns.append(Column(name, None, float(mean) if fills else None))
    return tuple(columns)
