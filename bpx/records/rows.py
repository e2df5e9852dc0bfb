"""Values collected by step while a network trains."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bpx.engine.arrays import Values
from bpx.records.records import Records
from bpx.records.tables import Key, Keys, empty_table, make_table, to_columns
from bpx.system.files import Json

if TYPE_CHECKING:
    import pyarrow


class Rows:
    """Values collected by step, in memory; ``about`` describes the run, as JSON."""

    def __init__(self) -> None:
        import pyarrow.parquet  # noqa: F401  (here, so that the end of a run need not wait for it)

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
        """Return a copy of the rows of some steps, which another thread may read while more are appended."""
        part = Rows()
        part.about = dict(about)
        for keys, (at, epochs, values) in self._groups.items():
            chosen = [i for i, step in enumerate(at) if step in steps]
            if chosen:
                part._groups[keys] = ([at[i] for i in chosen], [epochs[i] for i in chosen], [values[i] for i in chosen])
        return part

    def records(self) -> Records:
        """Return the rows collected so far, as ``read`` would return them."""
        import pyarrow as pa

        return Records.of(to_columns(pa.concat_tables([empty_table(), *self.tables()])), self.about)

    def news(self) -> list[tuple[Keys, NDArray[np.int64], Values, Values]]:
        """Return the rows appended since the last call: keys, steps (n,), epochs (n,) and values (n, keys)."""
        found = []
        for keys, (steps, epochs, rows) in self._groups.items():
            start = self._told.get(keys, 0)
            self._told[keys] = len(steps)
            if start < len(steps):
                values = np.array(rows[start:])
                found.append((keys, np.array(steps[start:], np.int64), np.array(epochs[start:]), values))
        return found

    def tables(self) -> Iterator[pyarrow.Table]:
        """Yield the rows by quantity, in alphabetical order."""
        parts: dict[str, list[tuple[Keys, list[int]]]] = {}
        for keys in self._groups:
            of: dict[str, list[int]] = {}
            for i, key in enumerate(keys):
                of.setdefault(key[2], []).append(i)
            for quantity, places in of.items():
                parts.setdefault(quantity, []).append((keys, places))
        for quantity in sorted(parts):
            for keys, places in parts[quantity]:
                yield make_table([Key._make(keys[i]) for i in places], places, *self._groups[keys])
