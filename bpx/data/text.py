"""Delimited text: what separates its cells, and a strict pass that finds where it is no table."""

from __future__ import annotations

import codecs
import csv
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from bpx.data.dataset import DataError
from bpx.data.packed import content
from bpx.engine.arrays import Array
from bpx.system.text import counted

SUFFIXES = (".csv", ".tsv", ".data")
SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
SPACES = "spaces"
SAMPLE = 50  # records in which separators are looked for, and names told from data
CELL = re.compile(r'"(?:[^"]|"")*"|[^\s"]\S*')  # between spaces: a word, or what stands in quotes
NUL, CONTROL = re.compile(r"\0"), re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t])"?(\r\n|\r|\n)')  # which Excel takes at the start of a file
LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Text:
    """Delimited text whose records have equally many cells and whose quotes are closed.

    Attributes
    ----------
    path : Path
        The file.
    content : str
        The text; tabs between the cells where the file has spaces there.
    separator : str
        What stands between two cells of ``content``.
    separated_by : str
        What stands between two cells of the file, in words.
    encoding : str
        How the file is written: utf-8, utf-16 or cp1252.
    lines : array of int
        The line of the file in which each record begins.
    first : list of list of str
        The cells of the first records, without the spaces around them.
    """

    path: Path
    content: str
    separator: str
    separated_by: str
    encoding: str
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
    text, encoding = _decoded(path)
    if told := SEPARATOR_LINE.match(text):  # Excel's, blank so that all lines keep their numbers
        text = "\n" + text[told.end() :]
    separator, separated_by = told[1] if told else _separator(path, text), ""
    if (spaced := _spaced(path, text, separator)) is not None:
        text, separator, separated_by = spaced, "\t", SPACES
    separator = separator or max(SEPARATORS, key=lambda s: max(_widths(path, text, s), default=0))
    if max(_widths(path, text, separator), default=0) < 2:
        _check_spaces(path, text)
        found = "has one column" if text.strip() else "is empty"
        allowed = "separated by , ; tab | or spaces"
        raise DataError(f"{path} {found}: it needs a header, a feature and a label column, {allowed}")
    lines: list[int] = []
    first: list[list[str]] = []
    for line, cells in _records(path, text, separator):
        if len(first) < SAMPLE:
            first.append([cell.strip() for cell in cells])
        if len(cells) != len(first[0]):
            raise DataError(_different(path, line, len(cells), len(first[0])))
        lines.append(line)
    return Text(
        path, text, separator, separated_by or SEPARATORS[separator], encoding, np.array(lines, np.int64), first
    )


def _decoded(path: Path) -> tuple[str, str]:
    """Return the text of a file, unpacked where it is gzip by its first bytes, and its encoding; raises DataError.

    What is not UTF-8 is UTF-16 where it begins with that mark, as Excel writes it, else the Western European cp1252.
    """
    try:
        read = content(path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    marked = read.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    at = 0
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            text = read.decode(encoding)
            at = at or read.find(b"\0")
            if not (CONTROL if encoding == "cp1252" else NUL).search(text):
                return text, encoding.removesuffix("-sig")
        except UnicodeDecodeError as error:
            at = at or error.start
    line = read.count(b"\n", 0, at) + 1
    raise DataError(f"{path}, line {line}: the file is not text in UTF-8, UTF-16 with a byte order mark, or cp1252")


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


def _separator(path: Path, text: str) -> str | None:
    """Return what separates the cells, what cuts the first records into equally many, and into most; else None."""
    known = sorted(SEPARATORS, key=lambda s: s != "\t") if ".tsv" in path.name.lower() else list(SEPARATORS)
    widths = {separator: _widths(path, text, separator) for separator in known}
    fitting = [s for s in known if len(set(widths[s])) == 1 and widths[s][0] > 1]
    best = max(fitting or known, key=lambda s: widths[s][0] if widths[s] else 0)
    return best if widths[best] and widths[best][0] > 1 else None


def _spaced(path: Path, text: str, separator: str | None) -> str | None:
    """Return the text with tabs between its cells where spaces separate them, else None.

    They do where nothing else does, or where a tab leaves several numbers in one cell. Each line is a record.
    """
    lines = LINE_END.split(text)
    sample = [line for line in lines if line.strip()][:SAMPLE]
    widths = {len(CELL.findall(line)) for line in sample}
    if separator not in (None, "\t") or len(widths) != 1 or max(widths) < 2:
        return None
    if any(CELL.sub("", line).strip() for line in lines):
        return None  # a quote that is not closed
    if separator == "\t" and not all(_several_numbers(line) for line in sample):
        return None
    return "\n".join("\t".join(CELL.findall(line)) for line in lines)


def _check_spaces(path: Path, text: str) -> None:
    """Raise DataError where spaces may separate the cells, but not into equally many."""
    first = 0
    for line, record in enumerate(LINE_END.split(text), 1):
        n = len(CELL.findall(record))
        if first > 1 and n > 1 and n != first:
            raise DataError(f"{_different(path, line, n, first)} (between spaces)")
        first = first or n


def _different(path: Path, line: int, n: int, first: int) -> str:
    return f"{path}, line {line}: {counted(n, 'cell')}, the first line has {first}"


def _several_numbers(line: str) -> bool:
    return any(re.fullmatch(r"\s*[-+.\d][-+.\deE]*(\s+[-+.\d?][-+.\deE]*)+\s*", cell) for cell in line.split("\t"))


def _widths(path: Path, text: str, separator: str) -> list[int]:
    widths = []
    try:
        for _, cells in islice(_records(path, text, separator), SAMPLE):
            widths.append(len(cells))
    except DataError:
        pass  # the pass over all of it says so
    return widths
