"""Layers that reduce positions: pooling over windows, over all positions, and flattening."""

from __future__ import annotations

import math
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
    reduced: Array
    dreduced: Array

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

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y, dx, and what every column of a window is reduced to, with its gradient."""
        column = (self.out_shape[0], *self.shape[1:])
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape, reduced=column, dreduced=column)

    def columns(self, rows: Array) -> list[Array]:
        """Return the columns (rows, H', W', C) of all windows, those at the same place in theirs together."""
        k, width = self.size, self.out_shape[1]
        return [rows[:, :, j : width * k : k] for j in range(k)]

    def rows(self, x: Array) -> list[Array]:
        """Return the rows (rows, H', W, C) of all windows, those at the same place in theirs together."""
        k, height = self.size, self.out_shape[0]
        return [x[:, i : height * k : k] for i in range(k)]


@final
class MaxPool(Pooling):
    """Take the largest of each window: of every column its largest, and of these the largest.

    The gradient goes to the first column that has it, and in it to the first row.
    """

    unpredicted = "max pooling"

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own the buffers of every pooling, and where the largest stand."""
        super().bind(batch, dtype, rng)
        self._masks = [np.zeros(a.shape, bool) for a in (self.y, self.reduced)]

    def sides(self) -> list[Array]:
        """Return which pixels are the largest of their column, and which columns of their window."""
        columns = [np.equal(part, self.y) for part in self.columns(self.reduced)]
        return [*columns, *(np.equal(part, self.reduced) for part in self.rows(self.x))]

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = max over each window."""
        self.x = x
        _largest(self.rows(x), self.reduced)
        _largest(self.columns(self.reduced), self.y)
        return self.y

    def backward(self, dy: Array) -> Array:
        """Send dy to the pixel that was the largest."""
        in_columns, in_rows = (mask[: len(dy)] for mask in self._masks)
        _send(dy, self.y, self.columns(self.reduced), self.columns(self.dreduced), in_columns)
        _send(self.dreduced, self.reduced, self.rows(self.x), self.rows(self.dx), in_rows)
        return self.dx


def _largest(parts: list[Array], out: Array) -> None:
    """Write the largest of ``parts`` into ``out``."""
    np.copyto(out, parts[0])
    for part in parts[1:]:
        np.maximum(part, out, out=out)


def _send(dy: Array, y: Array, parts: list[Array], dparts: list[Array], mask: Array) -> None:
    """Write dy into that of ``dparts`` whose part is y, the first if there are several, and 0 into the others."""
    rest, last = dy, dparts[-1]
    for part, dpart in zip(parts[:-1], dparts[:-1], strict=True):
        np.equal(part, y, out=mask)
        np.multiply(rest, mask, out=dpart)
        rest = np.subtract(rest, dpart, out=last)
    if rest is dy:
        np.copyto(last, dy)


@final
class MeanPool(Pooling):
    """Take the mean of each window."""

    unpredicted = "mean pooling"

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = mean over each window."""
        self.x = x
        for parts, out in ((self.rows(x), self.reduced), (self.columns(self.reduced), self.y)):
            np.copyto(out, parts[0])
            for part in parts[1:]:
                out += part
        self.y *= 1 / self.size**2
        return self.y

    def backward(self, dy: Array) -> Array:
        """Send dy / size**2 to every pixel of a window."""
        for part in self.columns(self.dreduced):
            np.multiply(dy, 1 / self.size**2, out=part)
        for part in self.rows(self.dx):
            np.copyto(part, self.dreduced)
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
