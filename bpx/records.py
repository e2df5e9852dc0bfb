"""The tidy record of a run: one Parquet row per step, layer, operation, quantity and index.

Columns: step (int64), epoch (float64), layer, operation, quantity (dictionary-encoded strings), index (int32,
for histogram bins and spectra, else 0) and value (float64).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bpx.engine.arrays import Array, Values
from bpx.system.files import Json, replaced
from bpx.system.text import brief

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Key", "Outcome", "RecordWriter", "Records", "Rows", "Series", "read", "read_metrics"]

FORMAT = 1  # of the file, in its metadata under bpx.format; a file without it is of the first format
FORMAT_KEY = "bpx.format"
ABOUT = "bpx"  # the file's metadata under this name is JSON: what the run was, and its finding
Keys = tuple[tuple[str, str, str, int], ...]  # layer, operation, quantity, index of every value
Series = dict[str, tuple[NDArray[np.int64], Values]]  # the steps and values of every metric
COLUMNS = ("step", "epoch", "layer", "operation", "quantity", "index", "value")
MOST_ROWS = 10**8
WORDS = ("layer", "operation", "quantity")


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
        return _records(self._table())

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

    def _table(self) -> pyarrow.Table:
        pa, _ = self._arrow
        parts = [_table(pa, tuple(map(Key._make, keys)), *group) for keys, group in self._groups.items()]
        table = pa.concat_tables(parts, promote_options="default") if parts else _table(pa, (), [], [], [])
        return table.unify_dictionaries().replace_schema_metadata(
            {ABOUT: json.dumps(self.about), FORMAT_KEY: str(FORMAT)}
        )


class RecordWriter(Rows):
    """Rows that become one Parquet file when closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def close(self) -> None:
        """Write the file, whole or not at all; an OSError names it."""
        _, pq = self._arrow
        repeated = [name for name in COLUMNS if name != "value"]
        with replaced(self.path) as file:
            pq.write_table(self._table(), file, compression="zstd", use_dictionary=repeated)


def _table(
    pa: ModuleType, keys: tuple[Key, ...], steps: list[int], epochs: list[float], rows: list[Values]
) -> pyarrow.Table:
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
    columns["value"] = pa.array(np.concatenate(rows) if rows else np.zeros(0))
    return pa.table(columns)


@dataclass(frozen=True)
class Records:
    """The rows of a record, one array a column, and what they are about.

    Attributes
    ----------
    step, epoch : array
        When the value was measured.
    layer, operation, quantity, index : array
        What the value is of.
    value : array
        The values, NaN where a quantity did not exist.
    about : dict
        The run: its network, its finding.
    """

    step: NDArray[np.int64]
    epoch: Values
    layer: Array
    operation: Array
    quantity: Array
    index: NDArray[np.int32]
    value: Values
    about: Json

    def select(self, **wanted: str | int) -> Records:
        """Return the rows whose columns have the given values, e.g. ``select(quantity="delta_rms", step=0)``."""
        mask = np.ones(len(self.step), bool)
        for column, value in wanted.items():
            mask &= getattr(self, column) == value
        return replace(self, **{name: getattr(self, name)[mask] for name in COLUMNS})

    def grid(self, quantity: str) -> tuple[NDArray[np.int64], list[str], Values]:
        """Return the steps, the layers and the values (layers, steps) of a per-layer quantity."""
        rows = self.select(quantity=quantity)
        steps, at = np.unique(rows.step, return_inverse=True)
        layers = sorted(set(rows.layer), key=lambda name: (len(name), name))  # layer_100 after layer_99
        row = {name: i for i, name in enumerate(layers)}
        of = np.array([row[name] for name in rows.layer], np.intp)
        values = np.full((len(layers), len(steps)), np.nan)
        values[of, at] = rows.value
        return steps, layers, values


def read(path: Path) -> Records:
    """Return the record in a Parquet file; raises ValueError naming the file if it is damaged or claims too much."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            rows = file.metadata.num_rows
            if rows > MOST_ROWS:  # well packed, they take no room in the file
                raise ValueError(f"it claims {rows:,} rows, a record has at most {MOST_ROWS:,}")
            # no threads: where address space is short, Arrow aborts the process when it gets none
            return _records(file.read(columns=list(COLUMNS), use_threads=False))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _records(table: pyarrow.Table) -> Records:
    metadata = table.schema.metadata or {}
    written = metadata.get(FORMAT_KEY.encode(), b"1").decode()
    if written != str(FORMAT):
        raise ValueError(f"{FORMAT_KEY}: expected {FORMAT}, got {written[:20]!r}")
    about = json.loads(metadata.get(ABOUT.encode(), b"{}"))
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in COLUMNS}
    return Records(**columns, about=about)


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
