"""The tidy record of a run: one Parquet row per step, layer, operation, quantity and index.

Columns: step (int64), epoch (float64), layer, operation, quantity (dictionary-encoded strings), index (int32,
for histogram bins and spectra, else 0) and value (float64).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from bpx.engine.arrays import Array, Values
from bpx.system.files import Json, replaced
from bpx.system.text import brief

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

__all__ = ["Key", "Outcome", "RecordWriter", "Records", "Rows", "Series", "aligned", "read", "read_metrics"]

FORMAT = 1  # of the file, in its metadata under bpx.format; a file without it is of the first format
FORMAT_KEY = "bpx.format"
ABOUT = "bpx"  # the file's metadata under this name is JSON: what the run was, and its finding
Keys = tuple[tuple[str, str, str, int], ...]  # layer, operation, quantity, index of every value
Series = dict[str, tuple[NDArray[np.int64], Values]]  # the steps and values of every metric
COLUMNS = ("step", "epoch", "layer", "operation", "quantity", "index", "value")
WORDS = ("layer", "operation", "quantity")
ROW_GROUP = (
    2**17
)  # rows from which a group of the file is written: what is asked for one quantity reads its groups alone
IN_MEMORY = 2**20  # rows up to which a record is read at once
MOST_ROWS, MOST_AT_ONCE = 10**9, 10**8  # of a record; of one quantity


class Outcome(StrEnum):
    """How a run or a trial has ended; running and waiting trials have not, lost ones are those of dead processes.

    An undefined trial has no answer by design: no such network exists, or it has no such metric.
    """

    FINISHED = "finished"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    CRASHED = "crashed"
    UNDEFINED = "undefined"
    LOST = "lost"
    RUNNING = "running"
    WAITING = "waiting"


class Key(NamedTuple):
    """What a value is of.

    Attributes
    ----------
    layer, operation, quantity : str
        For instance layer_03, dense and delta_l2; empty for what is of the whole network.
    index : int
        Of a bin or of a singular value, else 0.
    """

    layer: str
    operation: str
    quantity: str
    index: int  # type: ignore[assignment]  # the column's name; tuple.index is not used


class Rows:
    """Values collected by step, in memory; ``about`` says what they are of, in plain JSON."""

    def __init__(self) -> None:
        import pyarrow
        import pyarrow.parquet

        self._arrow = pyarrow, pyarrow.parquet  # imported here, so that the end of a run need not wait for it
        self.about: Json = {}
        self._groups: dict[Keys, tuple[list[int], list[float], list[Values]]] = {}
        self._told: dict[Keys, int] = {}

    def append(self, step: int, epoch: float, keys: Keys, values: Values) -> None:
        """Keep a copy of ``values``, in the order of ``keys``, at a step.

        Raises ValueError if they differ in number.
        """
        if len(keys) != len(values):
            raise ValueError(f"a record at step {step} has {len(keys)} keys and {len(values)} values")
        steps, epochs, rows = self._groups.setdefault(keys, ([], [], []))
        steps.append(step)
        epochs.append(epoch)
        rows.append(np.array(values, np.float64))

    def excerpt(self, steps: Collection[int], about: Json) -> Rows:
        """Return a copy of the rows of some steps, for whoever reads them while more are appended."""
        part = Rows()
        part.about = dict(about)
        for keys, (at, epochs, values) in self._groups.items():
            chosen = [i for i, step in enumerate(at) if step in steps]
            if chosen:
                part._groups[keys] = ([at[i] for i in chosen], [epochs[i] for i in chosen], [values[i] for i in chosen])
        return part

    def records(self) -> Records:
        """Return what has been collected so far, as ``read`` would from a file."""
        pa, _ = self._arrow
        tables = [*self._tables()] or [_table(pa, [], [], [], [], [])]
        return Records.of(_columns(pa.concat_tables(tables)), self.about)

    def news(self) -> list[tuple[Keys, NDArray[np.int64], Values, Values]]:
        """Return what was appended since the last call: by keys, the steps (n,), epochs (n,) and values (n, keys)."""
        found = []
        for keys, (steps, epochs, rows) in self._groups.items():
            start = self._told.get(keys, 0)
            self._told[keys] = len(steps)
            if start < len(steps):
                values = np.array(rows[start:])
                found.append((keys, np.array(steps[start:], np.int64), np.array(epochs[start:]), values))
        return found

    def _tables(self) -> Iterator[pyarrow.Table]:
        """Yield the rows of each quantity, in alphabetical order."""
        pa, _ = self._arrow
        columns: dict[str, list[tuple[Keys, list[int]]]] = {}
        for keys in self._groups:
            of: dict[str, list[int]] = {}
            for i, key in enumerate(keys):
                of.setdefault(key[2], []).append(i)
            for quantity, places in of.items():
                columns.setdefault(quantity, []).append((keys, places))
        for quantity in sorted(columns):
            for keys, places in columns[quantity]:
                yield _table(pa, [Key._make(keys[i]) for i in places], places, *self._groups[keys])

    def _metadata(self) -> dict[str, str]:
        return {ABOUT: json.dumps(self.about), FORMAT_KEY: str(FORMAT)}


class RecordWriter(Rows):
    """Rows that become one Parquet file when closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def close(self) -> None:
        """Write the file, whole or not at all; an OSError names it.

        Rows of one quantity stand together, and long records are written in groups, quantity by quantity.
        """
        pa, pq = self._arrow
        schema = _table(pa, [], [], [], [], []).schema.with_metadata(self._metadata())
        repeated = [name for name in COLUMNS if name != "value"]
        with (
            replaced(self.path) as file,
            pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeated) as writer,
        ):
            waiting: list[pyarrow.Table] = []
            for table in self._tables():
                waiting.append(table)
                if sum(map(len, waiting)) >= ROW_GROUP:
                    writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
                    waiting = []
            if waiting:
                writer.write_table(pa.concat_tables(waiting).unify_dictionaries())


def _table(
    pa: ModuleType, keys: list[Key], places: list[int], steps: list[int], epochs: list[float], rows: list[Values]
) -> pyarrow.Table:
    """Return the rows of the ``keys``, which stand at ``places`` of every row of values."""
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


class Columns(NamedTuple):
    """Rows as one array a column; those of the words hold places in the lists of ``words``."""

    arrays: Mapping[str, Array]
    words: Mapping[str, list[str]]

    def where(self, wanted: Mapping[str, str | int]) -> Columns:
        """Return the rows whose columns have the given values."""
        mask = np.ones(len(self.arrays["step"]), bool)
        for name, value in wanted.items():
            known = self.words.get(name)
            mask &= self.arrays[name] == (value if known is None else known.index(value) if value in known else -1)
        return self if mask.all() else Columns({name: array[mask] for name, array in self.arrays.items()}, self.words)

    def present(self, word: str) -> list[str]:
        """Return the different words of a column."""
        return [self.words[word][i] for i in np.bincount(self.arrays[word]).nonzero()[0]]


@final
class Records:
    """The rows of a record, one array a column, and what they are about.

    Those of a long file stay there, until ``select`` or ``grid`` asks for a quantity or a column is looked at.

    Attributes
    ----------
    step, epoch : array
        When the value was measured.
    layer, operation, quantity, index : array
        What the value is of.
    value : array
        The values, NaN where a quantity did not exist.
    layers, operations, quantities : frozenset
        The different words of these columns.
    about : dict
        The run: its network, its finding.
    """

    def __init__(
        self, load: Callable[[str | None], Columns], words: Mapping[str, Collection[str]], about: Json
    ) -> None:
        self._load, self.about = load, about
        self.layers, self.operations, self.quantities = (frozenset(words[word]) for word in WORDS)

    @classmethod
    def of(cls, columns: Columns, about: Json) -> Records:
        """Return the record that the columns hold."""
        return cls(
            lambda quantity: columns if quantity is None else columns.where({"quantity": quantity}),
            {word: columns.present(word) for word in WORDS},
            about,
        )

    @property
    def step(self) -> NDArray[np.int64]:
        """The step of every row."""
        return self._all.arrays["step"]

    @property
    def epoch(self) -> Values:
        """The epoch of every row."""
        return self._all.arrays["epoch"]

    @property
    def layer(self) -> Array:
        """The layer of every row."""
        return self._word("layer")

    @property
    def operation(self) -> Array:
        """The operation of every row."""
        return self._word("operation")

    @property
    def quantity(self) -> Array:
        """The quantity of every row."""
        return self._word("quantity")

    @property
    def index(self) -> NDArray[np.int32]:
        """The index of every row."""
        return self._all.arrays["index"]

    @property
    def value(self) -> Values:
        """The value of every row."""
        return self._all.arrays["value"]

    def select(self, **wanted: str | int) -> Records:
        """Return the rows whose columns have the given values, e.g. ``select(quantity="delta_rms", step=0)``."""
        return Records.of(self._rows(wanted), self.about)

    def grid(self, quantity: str) -> tuple[NDArray[np.int64], list[str], Values]:
        """Return the steps, the layers and the values (layers, steps) of a per-layer quantity."""
        rows = self._rows({"quantity": quantity})
        steps, at = np.unique(rows.arrays["step"], return_inverse=True)
        known = rows.words["layer"]
        layers = sorted(rows.present("layer"), key=lambda name: (len(name), name))  # layer_100 after layer_99
        row = np.zeros(len(known), np.intp)
        row[[known.index(name) for name in layers]] = np.arange(len(layers))
        values = np.full((len(layers), len(steps)), np.nan)
        values[row[rows.arrays["layer"]], at] = rows.arrays["value"]
        return steps, layers, values

    def _rows(self, wanted: dict[str, str | int]) -> Columns:
        quantity = wanted.get("quantity")
        rows = self._load(None if quantity is None else str(quantity))
        others = {name: value for name, value in wanted.items() if name != "quantity"}
        return rows.where(others) if others else rows

    @cached_property
    def _all(self) -> Columns:
        return self._load(None)

    def _word(self, name: str) -> Array:
        return np.array(self._all.words[name], object)[self._all.arrays[name]]


def read(path: Path) -> Records:
    """Return the record in a Parquet file; raises ValueError naming the file if it is damaged or claims too much."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _damage(path):
        file = pq.ParquetFile(pa.memory_map(str(path)), pre_buffer=False)  # the map outlives the file's name
        rows = file.metadata.num_rows
        if rows > MOST_ROWS:  # well packed, they take no room in the file
            raise ValueError(f"it claims {rows:,} rows, a record has at most {MOST_ROWS:,}")
        about = _about(file)
        if rows > IN_MEMORY:
            return _on_disk(path, file, about)
        # no threads: where address space is short, Arrow aborts the process when it gets none
        columns = _columns(file.read(columns=list(COLUMNS), use_threads=False))
        file.close()
        return Records.of(columns, about)


def _on_disk(path: Path, file: ParquetFile, about: Json) -> Records:
    """Return a record whose rows are read when a quantity is asked for, from the groups that hold it."""
    import pyarrow as pa

    held: list[set[str]] = []
    words: dict[str, set[str]] = {word: set() for word in WORDS}
    for group in range(file.num_row_groups):
        if (rows := file.metadata.row_group(group).num_rows) > MOST_AT_ONCE:
            raise ValueError(f"it claims {rows:,} rows in one group, a record has at most {MOST_AT_ONCE:,}")
        columns = _columns(file.read_row_group(group, columns=list(WORDS), use_threads=False))
        found = {word: set(columns.present(word)) for word in WORDS}
        words = {word: words[word] | found[word] for word in WORDS}
        held.append(found["quantity"])

    def load(quantity: str | None) -> Columns:
        """Return the rows of one quantity, or all; raises ValueError naming the file."""
        parts, count = [], 0
        with _damage(path):
            for group, names in enumerate(held):
                if quantity is None or quantity in names:
                    table = file.read_row_group(group, columns=list(COLUMNS), use_threads=False)
                    if quantity is not None and len(names) > 1:
                        codes = _columns(table.select(["quantity"]))
                        mask = codes.arrays["quantity"] == codes.words["quantity"].index(quantity)
                        table = table.filter(pa.array(mask))
                    parts.append(table)
                    count += len(table)
                    if count > MOST_AT_ONCE:
                        raise ValueError(f"it claims more than {MOST_AT_ONCE:,} rows of {quantity or 'all quantities'}")
            if not parts:
                parts = [file.schema_arrow.empty_table().select(list(COLUMNS))]
            return _columns(pa.concat_tables(parts))

    return Records(load, words, about)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into a ValueError that names it."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _about(file: ParquetFile) -> Json:
    metadata = file.schema_arrow.metadata or {}
    written = metadata.get(FORMAT_KEY.encode(), b"1").decode()
    if written != str(FORMAT):
        raise ValueError(f"{FORMAT_KEY}: expected {FORMAT}, got {written[:20]!r}")
    about: Json = json.loads(metadata.get(ABOUT.encode(), b"{}"))
    return about


def _columns(table: pyarrow.Table) -> Columns:
    """Return the columns of a table as arrays; raises ValueError for what no record holds."""
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


def aligned(runs: Sequence[tuple[NDArray[np.int64], Values]]) -> tuple[NDArray[np.int64], Values]:
    """Return all steps (n,) of some series, and their values (runs, n), NaN where a run has none."""
    steps = np.unique(np.concatenate([at for at, _ in runs]))
    values = np.full((len(runs), len(steps)), np.nan)
    for row, (at, own) in zip(values, runs, strict=True):
        row[np.searchsorted(steps, at)] = own
    return steps, values


def read_metrics(path: Path) -> Series:
    """Return the steps and values of every metric in a run's ``metrics.jsonl``.

    Raises ValueError that names the first damaged line.
    """
    found: dict[str, tuple[list[int], list[float]]] = {}
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):  # the last may be half written
        try:
            record = json.loads(line)
            for name, value in record["metrics"].items():
                steps, values = found.setdefault(name, ([], []))
                steps.append(int(record["step"]))
                values.append(float(value))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number}: expected a step and its metrics, got {brief(line)}") from error
    return {name: (np.array(s, np.int64), np.array(v)) for name, (s, v) in found.items()}
