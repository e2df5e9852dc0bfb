"""Layers that reduce positions: pooling over windows, over all positions, and flattening."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.layer import Layer, Shape
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector


class Pooling(Layer):
    """Reduce every size x size window of an image, which do not overlap: (H, W, C) to (H // size, W // size, C).

    Rows and columns that fill no window are left out, and get no gradient.
    """

    kind, display_name = "pooling", "pooling"

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        require(size >= 1, "model.pool_size", "at least 1", size)
        self.size = size

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Return (H // size, W // size, C); raises ValueError where there is no image, or it is smaller."""
        if len(shape) != 3:
            raise ValueError(f"pooling needs images (height, width, channels), got samples of shape {shape}")
        H, W, C = shape
        if self.size > min(H, W):
            raise ValueError(f"model: pooling needs images of at least {self.size} x {self.size}, got {H} x {W}")
        return self.place(name, shape, (H // self.size, W // self.size, C))

    def _windows(self, x: Array) -> Iterator[Array]:
        """Yield the pixels of all windows, those at the same place in theirs together."""
        (rows, columns, _), k = self.out_shape, self.size
        for i in range(k):
            for j in range(k):
                yield x[:, i : rows * k : k, j : columns * k : k]


@final
class MaxPool(Pooling):
    """Take the largest of each window; its gradient goes to the first pixel that is the largest."""

    unpredicted = "max pooling"

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y, dx, and which pixel of a window was the largest."""
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape)
        self._first = np.zeros((batch, *self.out_shape), np.intp if self.size > 15 else np.uint8)
        self._mask = np.zeros((batch, *self.out_shape), bool)

    def sides(self) -> list[Array]:
        """Return which pixel of each window was the largest."""
        return [self._first[: len(self.y)].copy()]

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = max over each window."""
        self.x = x
        first, mask = self._first[: len(x)], self._mask[: len(x)]
        for k, part in enumerate(self._windows(x)):
            if k == 0:
                np.copyto(self.y, part)
                first.fill(0)
            else:
                np.greater(part, self.y, out=mask)
                np.copyto(first, k, where=mask)
                np.maximum(self.y, part, out=self.y)
        return self.y

    def backward(self, dy: Array) -> Array:
        """Send dy to the pixel that was the largest."""
        first, mask = self._first[: len(dy)], self._mask[: len(dy)]
        for k, part in enumerate(self._windows(self.dx)):
            np.equal(first, k, out=mask)
            np.multiply(dy, mask, out=part)
        return self.dx


@final
class MeanPool(Pooling):
    """Take the mean of each window."""

    unpredicted = "mean pooling"

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = mean over each window."""
        self.x = x
        for k, part in enumerate(self._windows(x)):
            if k == 0:
                np.copyto(self.y, part)
            else:
                self.y += part
        self.y *= 1 / self.size**2
        return self.y

    def backward(self, dy: Array) -> Array:
        """Send dy / size**2 to every pixel of a window."""
        for part in self._windows(self.dx):
            np.multiply(dy, 1 / self.size**2, out=part)
        return self.dx


@final
class MeanPositions(Layer):
    """Take the mean over all positions: (*positions, n) to (n,); of an image, global mean pooling (Lin et al. 2014)."""

    kind, display_name = "mean", "mean over positions"
    unpredicted = "a mean over positions"

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Return (n,)."""
        return self.place(name, shape, shape[-1:])

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = mean of x over the positions."""
        self.x = x
        np.add.reduce(x.reshape(len(x), -1, self.n_in), axis=1, out=self.y)
        self.y *= 1 / math.prod(self.shape[:-1])
        return self.y

    def backward(self, dy: Array) -> Array:
        """Send dy / positions to every position."""
        np.multiply(dy[:, None], 1 / math.prod(self.shape[:-1]), out=self.dx.reshape(len(dy), -1, self.n_in))
        return self.dx


@final
class Flatten(Layer):
    """Write all positions of a sample into one row: (*positions, n) to (positions times n); nothing is copied."""

    kind = "flatten"

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Return the number of all values of a sample."""
        return self.place(name, shape, (math.prod(shape),))

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own nothing: y and dx are views of what comes in."""
        self.y, self.dx = zeros((0, *self.out_shape), dtype), zeros((0, *self.shape), dtype)

    def forward(self, x: Array, train: bool) -> Array:
        """Return ``x`` in another shape."""
        self.y = x.reshape(len(x), *self.out_shape)
        return self.y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` in the shape of the input."""
        self.dx = dy.reshape(len(dy), *self.shape)
        return self.dx
