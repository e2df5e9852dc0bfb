"""Batches: shuffled minibatches in reused buffers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bpx.data.dataset import DataError
from bpx.engine.arrays import Array


class Batches:
    """Minibatches of every sample once per epoch, in a new random order; the last batch may be smaller.

    What ``epoch`` yields is valid until the next batch: the buffers are used again. ``position`` counts the
    samples of the epoch that are out already.

    Parameters
    ----------
    x, y : array
        Samples (n, n_in), and labels (n,) or targets (n, n_out).
    batch_size : int
        Samples a batch.
    rng : numpy.random.Generator
        Of the orders.
    replacement : bool
        Draw every sample from all of them, whatever was drawn before; an epoch has as many.
    """

    def __init__(
        self, x: Array, y: Array, batch_size: int, rng: np.random.Generator, replacement: bool = False
    ) -> None:
        if len(x) != len(y):
            raise DataError(f"x has {len(x)} samples and y has {len(y)}: they must agree")
        if not 1 <= batch_size <= len(x):
            raise DataError(f"batch_size must be between 1 and the {len(x)} training samples, got {batch_size}")
        self.x, self.y, self.batch_size, self.rng, self.replacement = x, y, batch_size, rng, replacement
        self._x = np.empty((batch_size, *x.shape[1:]), x.dtype)
        self._y = np.empty((batch_size, *y.shape[1:]), y.dtype)
        self.order = np.arange(len(x))
        self.position = len(x)

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Yield minibatches without end, epoch after epoch."""
        while True:
            yield from self.epoch()

    def epoch(self) -> Iterator[tuple[Array, Array]]:
        """Yield (x, y) minibatches, (batch, n_in) and (batch,) or (batch, n_out): the rest of the epoch, or a new one.

        An interrupted epoch continues from there.
        """
        if self.position >= len(self.order):
            n = len(self.x)
            self.order = self.rng.integers(0, n, n) if self.replacement else self.rng.permutation(n)
            self.position = 0
        size = self.batch_size
        while self.position < len(self.order):
            rows = self.order[self.position : self.position + size]
            x, y = (self._x, self._y) if len(rows) == size else (self._x[: len(rows)], self._y[: len(rows)])
            self.x.take(rows, axis=0, out=x, mode="clip")  # other modes make a copy
            self.y.take(rows, axis=0, out=y, mode="clip")
            self.position += len(rows)
            yield x, y

    def state_dict(self) -> dict[str, Array]:
        """Return the order of the epoch and the position in it; the state of the generator is not included."""
        return {"order": self.order, "position": np.array(self.position)}  # no order is written to once it is drawn

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Restore a state; raises ValueError if its order does not fit the samples."""
        n = len(self.x)
        try:
            order, position = state["order"], state["position"]
            fits = order.dtype == self.order.dtype and order.shape == (n,) and 0 <= order.min() <= order.max() < n
            whole = self.replacement or np.array_equal(np.sort(order), np.arange(n))
            if not (fits and whole and position.shape == () and position.dtype.kind == "i" and 0 <= position <= n):
                raise ValueError(f"state['order']: expected a permutation of {n} samples and a position in it")
        except KeyError as error:
            raise ValueError(f"state[{error}]: missing") from error
        self.order, self.position = order, int(position)
