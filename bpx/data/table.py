"""Delimited text as a table of words: pandas reads the cells, a strict pass over the lines finds what is wrong."""

from __future__ import annotations

import csv
import io
import re
import zlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bpx.data.dataset import Array, DataError
from bpx.data.packed import content

SUFFIXES = (".csv", ".tsv", ".data")
SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
LABELS = ("label", "target", "class", "y")  # columns that are taken for the label, in any case
MISSING = ("", "#N/A", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")  # in a column of features
INTEGER = re.compile(r"[+-]?[0-9]+")
SAMPLE = 50  # records in which separators are looked for


@dataclass(frozen=True)
class Table:
    """A table of words.

    Attributes
    ----------
    path : Path
        The file.
    names : tuple of str
        Of the columns; "0", "1", ... where there is no header.
    cells : dict of str to array
        The words of each column, without the spaces around them.
    lines : array of int
        The line of the file in which each row begins.
    separator : str
        What stands between two cells.
    notes : tuple of str
        What a person should know of how the file was understood.
    """

    path: Path
    names: tuple[str, ...]
    cells: dict[str, Array]
    lines: Array
    separator: str
    notes: tuple[str, ...] = ()

    def without(self, rows: Array) -> Table:
        """Return the table without the rows that the mask ``rows`` names."""
        cells = {name: column[~rows] for name, column in self.cells.items()}
        return Table(self.path, self.names, cells, self.lines[~rows], self.separator, self.notes)

    def wrong(self, row: int, name: str, text: str) -> DataError:
        """Return the error that a cell causes."""
        return DataError(f"{self.path}, line {self.lines[row]}, column {name}: {text}")


def is_table(path: Path) -> bool:
    """Return whether a file is delimited text by its name."""
    return Path(path.name.lower().removesuffix(".gz")).suffix in SUFFIXES


def read(path: Path, header: str | bool, wanted: str | None) -> Table:
    """Return the table in ``path``; ``wanted`` is a column that is asked for.

    ``header`` tells whether the first line names the columns; "auto" takes it so, and refuses a first line that
    looks like the lines below it. Raises DataError with the line, the column and what stands there.
    """
    import pandas as pd

    text = _text(path)
    separator = _separator(path, text)
    lines, width = _check_records(path, text, separator)
    frame = pd.read_csv(io.StringIO(text), sep=separator, header=None, dtype=str, na_filter=False, engine="c")
    if frame.shape != (len(lines), width):
        raise DataError(f"{path} cannot be read as one table: its quotes or line ends are ambiguous")
    columns = [np.array([str(cell).strip() for cell in frame[k]], object) for k in range(width)]
    first = [column[0] for column in columns]
    if header == "auto" and _looks_like_data(columns, wanted):
        raise DataError(
            f"{path}: the first line looks like data, not like names of columns ({_listed(first)}); "
            "give dataset.header=false, and the label by its index, or dataset.header=true"
        )
    if header is False:
        names = [str(k) for k in range(width)]
    else:
        names, columns, lines = first, [column[1:] for column in columns], lines[1:]
    if not len(lines):
        raise DataError(f"{path} holds no samples: it needs a header, a feature and a label column, and samples")
    if twice := [name for k, name in enumerate(names) if name and name in names[:k]]:
        raise DataError(f"{path}, line 1: the column {twice[0]!r} stands there twice")
    notes: tuple[str, ...] = ()
    if names[0] in ("", "Unnamed: 0") and _numbers_rows(columns[0]):
        notes = ("the first column has no name and only numbers the rows: it is left out",)
        names, columns = names[1:], columns[1:]
    if "" in names:
        raise DataError(f"{path}, line 1: column {names.index('') + 1} has no name")
    return Table(path, tuple(names), dict(zip(names, columns, strict=True)), lines, separator, notes)


def numbers(column: Array) -> Array:
    """Return float64 for a column of words, NaN where a word is no number; exactly rounded, as pandas reads them."""
    import pandas as pd

    return np.asarray(pd.to_numeric(pd.Series(column, dtype=object), errors="coerce"), np.float64)


def _text(path: Path) -> str:
    """Return the text of a file, unpacked where it is gzip by its first bytes; raises DataError."""
    try:
        read = content(path)
        text = read.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = read[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: the file is not UTF-8 text ({error.reason})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if "\0" in text:
        raise DataError(f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: the file is not text")
    return text


def _separator(path: Path, text: str) -> str:
    """Return what separates the cells: what cuts the first records into equally many, and into most."""
    known = sorted(SEPARATORS, key=lambda s: s != "\t") if ".tsv" in path.name.lower() else list(SEPARATORS)
    widths = {s: _widths(text, s) for s in known}
    fitting = [s for s in known if len(set(widths[s])) == 1]
    best = max(fitting or known, key=lambda s: widths[s][0] if widths[s] else 0)
    if max(widths[best], default=0) < 2:
        best = max(known, key=lambda s: widths[s][0] if widths[s] else 0)
    if not widths[best] or widths[best][0] < 2:
        found = "is empty" if not widths[best] else "has one column"
        raise DataError(f"{path} {found}: it needs a header, a feature and a label column, separated by , ; tab or |")
    return best


def _widths(text: str, separator: str) -> list[int]:
    widths = []
    try:
        for cells in islice(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), SAMPLE):
            if not _blank(cells):
                widths.append(len(cells))
    except csv.Error:
        pass  # the strict pass says so, with its line
    return widths


def _check_records(path: Path, text: str, separator: str) -> tuple[Array, int]:
    """Return the line in which each record begins, and the number of cells; raises DataError where they differ."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines, width, last = [], 0, 0
    try:
        for cells in reader:
            begin, last = last + 1, reader.line_num
            if _blank(cells):
                continue
            width = width or len(cells)
            if len(cells) != width:
                raise DataError(f"{path}, line {begin}: {len(cells)} cells, the first line has {width}")
            lines.append(begin)
    except csv.Error as error:
        said = "a quote is opened and not closed" if "unexpected end" in str(error) else str(error)
        raise DataError(f"{path}, line {last + 1}: {said}") from error
    return np.array(lines, np.int64), width


def _blank(cells: list[str]) -> bool:
    return not cells or (len(cells) == 1 and cells[0] != "" and not cells[0].strip(" \t"))


def _looks_like_data(columns: list[Array], wanted: str | None) -> bool:
    """Return whether the first cell of every column of numbers is a number, too, and none is a label's name."""
    first = np.array([column[0] for column in columns], object)
    known = any(cell.lower() in LABELS or cell == wanted for cell in first)
    if known or len(columns[0]) < 2 or not (are := np.isfinite(numbers(first))).any():
        return False
    below = np.array([_all_numbers(column[1:]) for column in columns])
    return bool(below.any() and are[below].all())


def _all_numbers(column: Array) -> bool:
    known = column[~np.isin(column, MISSING)]
    return bool(len(known) and not np.isnan(numbers(known)).any())


def _numbers_rows(column: Array) -> bool:
    """Return whether a column holds whole numbers, each once."""
    return all(INTEGER.fullmatch(cell) for cell in column) and len(set(column)) == len(column)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:6]) + (", …" if len(words) > 6 else "")
