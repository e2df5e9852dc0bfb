"""The rows of a record as arrays: selected by layer, operation, quantity and step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from bpx.engine.arrays import Array, Values
from bpx.system.files import Json

COLUMNS = ("step", "epoch", "layer", "operation", "quantity", "index", "value")
WORDS = ("layer", "operation", "quantity")  # the columns that hold text


class Columns(NamedTuple):
    """Rows, one array per column; text columns hold indices into the lists of ``words``."""

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
        """Return the distinct words of a column."""
        return [self.words[word][i] for i in np.bincount(self.arrays[word]).nonzero()[0]]


@final
class Records:
    """The rows of a record, one array per column, and facts about the run.

    Rows of a long file are read on access: by ``select`` or ``grid`` those of one quantity, by a column all of them.

    Attributes
    ----------
    step, epoch : array
        When each value was measured.
    layer, operation, quantity, index : array
        What each value is of.
    value : array
        The values, NaN where a quantity was undefined.
    layers, operations, quantities : frozenset
        The distinct words of these columns.
    about : dict
        Facts about the run: its network, its finding.
    """

    def __init__(
        self, load: Callable[[str | None], Columns], words: Mapping[str, Collection[str]], about: Json
    ) -> None:
        self._load, self.about = load, about
        self.layers, self.operations, self.quantities = (frozenset(words[word]) for word in WORDS)

    @classmethod
    def of(cls, columns: Columns, about: Json) -> Records:
        """Return the record with the given columns."""
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
