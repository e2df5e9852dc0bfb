"""Delimited text as columns of numbers and of words; pandas reads them."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bpx.data import text
from bpx.data.dataset import DataError
from bpx.data.text import Text
from bpx.engine.arrays import Array
from bpx.system.text import first_few

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("label", "target", "class", "y")  # columns that are taken for the label, in any case
MISSING = ("", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")  # in a column of features
BOOLEANS = {"true": 1.0, "True": 1.0, "TRUE": 1.0, "false": 0.0, "False": 0.0, "FALSE": 0.0}
UNKNOWN = (*MISSING, "?")  # in a column of labels that are numbers
WRITTEN = re.compile(r"[-+−(]?\s*[$€£¥]?\s*\d[\d.,'’_\s]*\s*[%$€£¥]?\)?")  # numbers as people write them
INTEGER = re.compile(r"[+-]?[0-9]+")
INDEX = ("", "Unnamed: 0")  # names of a first column that pandas or R wrote of itself


@dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes
    ----------
    text : Text
        Where they came from.
    key : str
        The label: its column holds words, every letter kept but the spaces around them.
    columns : dict of str to array
        The others hold float64, NaN where a cell is missing, or words, None where a cell is missing.
    records : array of int
        The record of the text that each row is.
    notes : tuple of str
        Notes on how the text was read.
    """

    text: Text
    key: str
    columns: dict[str, Array]
    records: Array
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return self.text.path

    @property
    def features(self) -> list[str]:
        """The names of the columns but for the label."""
        return [name for name in self.columns if name != self.key]

    def unlabelled(self) -> Array:
        """Return the mask (rows,) of labels that are missing: empty, or NA, ? and the like beside numbers."""
        column = self.columns[self.key]
        gone = np.isin(column, UNKNOWN)
        return gone if gone.any() and not np.isnan(numbers(column[~gone])).any() else np.asarray(column == "")

    def without(self, rows: Array) -> Table:
        """Return the table without the rows that the mask ``rows`` names."""
        columns = {name: column[~rows] for name, column in self.columns.items()}
        return replace(self, columns=columns, records=self.records[~rows])

    def cell(self, row: int, name: str) -> str:
        """Return what stands in a cell of the text."""
        return self.text.cell(int(self.records[row]), self._at(name))

    def cells(self, name: str) -> list[str]:
        """Return what stands in the cells of a column of the text."""
        found = self.text.column(self._at(name))
        return [found[record] for record in self.records]

    def _at(self, name: str) -> int:
        left_out = self.text.width - len(self.columns)  # an index that was left out
        return left_out + list(self.columns).index(name)

    def line(self, row: int) -> int:
        """Return the line of the file in which a row begins."""
        return int(self.text.lines[self.records[row]])

    def wrong(self, row: int, name: str, said: str) -> DataError:
        """Return the error that a cell causes."""
        return DataError(f"{self.path}, line {self.line(row)}, column {name}: {said}")


def read(path: Path, header: str | bool = "auto", label: str | None = None) -> Table:
    """Return the table in ``path``.

    Parameters
    ----------
    path : Path
        The file.
    header : str or bool
        Whether the first line names the columns; "auto" takes it so, and refuses a first line that looks like the
        lines below it.
    label : str or None
        The column of labels; None for the one called label, target, class or y.

    Raises
    ------
    DataError
        With the line, the column and what stands there; as a question, where the label is not certain.
    """
    import pandas as pd

    found = text.read(path)
    if header == "auto" and _looks_like_data(found.first, label):
        raise DataError(
            f"{path}: the first line looks like data, not like names of columns ({first_few(found.first[0])}); "
            "give dataset.header=false, and the label by its index, or dataset.header=true"
        )
    named = header is not False
    names = found.first[0] if named else [str(k) for k in range(found.width)]
    if twice := [name for k, name in enumerate(names) if name and name in names[:k]]:
        raise DataError(f"{path}, line {found.lines[0]}: the column {twice[0]!r} appears twice")
    key = _label(path, [name for name in names if name], label)
    at = names.index(key)
    frame = pd.read_csv(
        io.StringIO(found.content),
        sep=found.separator,
        header=0 if named else None,
        names=range(found.width),
        dtype={at: str},
        na_values={k: list(MISSING) for k in range(found.width) if k != at},
        keep_default_na=False,
        low_memory=False,
        index_col=False,
    )
    records = np.arange(int(named), len(found.lines))
    if len(frame) != len(records):
        raise DataError(f"{path} cannot be read as one table: its quotes or line ends are ambiguous")
    if not len(records):
        raise DataError(f"{path} holds no samples: it needs a header, a feature and a label column, and samples")
    columns = [_words(frame[k]) if k == at else _column(frame[k]) for k in range(found.width)]
    notes: tuple[str, ...] = ()
    if found.encoding != "utf-8":
        notes = (f"read as {found.encoding}, for it is not UTF-8",)
    if names[0] in INDEX and frame[0].dtype.kind == "i" and frame[0].is_unique:
        notes = (*notes, "the first column has no name and only numbers the rows: it is left out")
        names, columns = names[1:], columns[1:]
    if "" in names:
        raise DataError(f"{path}, line {found.lines[0]}: column {names.index('') + 1} has no name")
    return Table(found, key, dict(zip(names, columns, strict=True)), records, notes)


def numbers(words: Array) -> Array:
    """Return float64 for words (rows,), exactly rounded, NaN where a word is no number as pandas reads them."""
    import pandas as pd

    return np.asarray(pd.to_numeric(pd.Series(words, dtype=object), errors="coerce"), np.float64)


def missing(column: Array) -> Array:
    """Return the mask (rows,) of missing cells."""
    return np.isnan(column) if column.dtype.kind == "f" else np.array([cell is None for cell in column], bool)


def _words(column: pd.Series) -> Array:
    return np.array([str(cell).strip() for cell in column], object)


def _column(column: pd.Series) -> Array:
    """Return a column of a frame as float64, or as words where one of its cells is no number."""
    if column.dtype.kind in "iufb":
        return np.asarray(column, np.float64)
    words = _words(column)
    gone = np.asarray(column.isna()) | np.isin(words, MISSING)
    known = numbers(words[~gone])
    if np.isin(words[~gone], list(BOOLEANS)).all():  # beside missing cells, without which pandas reads them
        known = np.array([BOOLEANS[word] for word in words[~gone]], np.float64)
    if not np.isnan(known).any():
        values = np.full(len(words), np.nan)
        values[~gone] = known
        return values
    words[gone] = None
    return words


def _label(path: Path, names: Sequence[str], wanted: str | None) -> str:
    """Return the column of labels; raises DataError, as a question, where it is not certain."""
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"{path} has no column {wanted!r}; it has {', '.join(names)}")
        return wanted
    found = [name for name in names if name.lower() in LABELS]
    if len(found) != 1:
        which = f"{' and '.join(found)} may both be it" if found else f"columns are {', '.join(names)}"
        raise DataError(f"{path}: which column is the label? {which}; give dataset.label or dataset.target")
    return found[0]


def _looks_like_data(records: list[list[str]], label: str | None) -> bool:
    """Return whether the first cell of every column of numbers is a number, too, and none is a label's name."""
    first, *below = records
    known = any(cell.lower() in LABELS or cell == label for cell in first)
    if known or not below:
        return False
    are = ~np.isnan(numbers(np.array(first, object)))
    columns = [
        np.array([cell for cell in column if cell not in MISSING], object) for column in zip(*below, strict=True)
    ]
    numeric = np.array([len(column) > 0 and not np.isnan(numbers(column)).any() for column in columns])
    return bool(numeric.any() and are[numeric].all())
