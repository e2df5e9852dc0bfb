"""Batches: shuffled minibatches through buffers that are used again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpx.data.dataset import DataError

Array = NDArray[Any]


class Batches:
    """Every sample once an epoch, in an order drawn anew each time; the last batch may be short.

    What ``epoch`` yields is valid until the next batch: the buffers are used again.
    """

    def __init__(self, x: Array, y: Array, batch_size: int, rng: np.random.Generator) -> None:
        if len(x) != len(y):
            raise DataError(f"x has {len(x)} samples and y has {len(y)}: they must agree")
        if not 1 <= batch_size <= len(x):
            raise DataError(f"batch_size must be between 1 and the {len(x)} training samples, got {batch_size}")
        self.x, self.y, self.batch_size, self.rng = x, y, batch_size, rng
        self._x = np.empty((batch_size, *x.shape[1:]), x.dtype)
        self._y = np.empty((batch_size, *y.shape[1:]), y.dtype)

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def epoch(self) -> Iterator[tuple[Array, Array]]:
        """Yield (x, y) minibatches, (batch, n_in) and (batch,) or (batch, n_out)."""
        order = self.rng.permutation(len(self.x))
        size = self.batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            x, y = (self._x, self._y) if len(rows) == size else (self._x[: len(rows)], self._y[: len(rows)])
            np.take(self.x, rows, axis=0, out=x, mode="clip")  # other modes make a copy
            np.take(self.y, rows, axis=0, out=y, mode="clip")
            yield x, y
