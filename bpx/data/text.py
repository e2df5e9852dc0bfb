"""Delimited text: what separates its cells, and a strict pass that finds where it is no table."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bpx.data.dataset import DataError
from bpx.data.packed import content
from bpx.engine.arrays import Array

SUFFIXES = (".csv", ".tsv", ".data")
SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
SAMPLE = 50  # records in which separators are looked for, and names told from data


@dataclass(frozen=True)
class Text:
    """Delimited text whose records have equally many cells and whose quotes are closed.

    Attributes
    ----------
    path : Path
        The file.
    content : str
        The text.
    separator : str
        What stands between two cells.
    lines : array of int
        The line of the file in which each record begins.
    first : list of list of str
        The cells of the first records, without the spaces around them.
    """

    path: Path
    content: str
    separator: str
    lines: Array
    first: list[list[str]]

    @property
    def width(self) -> int:
        """The number of cells in a record."""
        return len(self.first[0])

    def column(self, column: int) -> list[str]:
        """Return what stands in the cells of a column, the first record's too."""
        return [cells[column].strip() for _, cells in _records(self.path, self.content, self.separator)]

    def cell(self, record: int, column: int) -> str:
        """Return what stands in a cell."""
        return next(islice(_records(self.path, self.content, self.separator), record, None))[1][column].strip()


def is_text(path: Path) -> bool:
    """Return whether a file is delimited text by its name."""
    return Path(path.name.lower().removesuffix(".gz")).suffix in SUFFIXES


def read(path: Path) -> Text:
    """Return the text in ``path``; raises DataError with the line in which it is no table."""
    text = _decoded(path)
    separator = _separator(path, text)
    lines: list[int] = []
    first: list[list[str]] = []
    for line, cells in _records(path, text, separator):
        if len(first) < SAMPLE:
            first.append([cell.strip() for cell in cells])
        if len(cells) != len(first[0]):
            raise DataError(f"{path}, line {line}: {len(cells)} cells, the first line has {len(first[0])}")
        lines.append(line)
    return Text(path, text, separator, np.array(lines, np.int64), first)


def _decoded(path: Path) -> str:
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


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record that is not blank with the line in which it begins; raises DataError at a quote gone wrong."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    last = 0
    try:
        for cells in reader:
            begin, last = last + 1, reader.line_num
            if cells and (len(cells) > 1 or cells[0] == "" or cells[0].strip(" \t")):
                yield begin, cells
    except csv.Error as error:
        said = "a quote is opened and not closed" if "unexpected end" in str(error) else str(error)
        raise DataError(f"{path}, line {last + 1}: {said}") from error


def _separator(path: Path, text: str) -> str:
    """Return what separates the cells: what cuts the first records into equally many, and into most."""
    known = sorted(SEPARATORS, key=lambda s: s != "\t") if ".tsv" in path.name.lower() else list(SEPARATORS)
    widths = {separator: _widths(path, text, separator) for separator in known}
    fitting = [s for s in known if len(set(widths[s])) == 1 and widths[s][0] > 1]
    best = max(fitting or known, key=lambda s: widths[s][0] if widths[s] else 0)
    if not widths[best] or widths[best][0] < 2:
        found = "has one column" if text.strip() else "is empty"
        raise DataError(f"{path} {found}: it needs a header, a feature and a label column, separated by , ; tab or |")
    return best


def _widths(path: Path, text: str, separator: str) -> list[int]:
    widths = []
    try:
        for _, cells in islice(_records(path, text, separator), SAMPLE):
            widths.append(len(cells))
    except DataError:
        pass  # the pass over all of it says so
    return widths
