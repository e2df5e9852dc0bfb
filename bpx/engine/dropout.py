"""Dropout: silence units at random in training."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Layer
from bpx.engine.numbers import require_fraction


@final
class Dropout(Layer):
    """Inverted dropout: y = x m, each m being 1 / (1 - rate) with probability 1 - rate, else 0.

    The mean of y is x, so that evaluation changes nothing. (Srivastava et al. 2014, section 10.)
    """

    kind = part = "dropout"
    mask: Array

    def __init__(self, rate: float) -> None:
        super().__init__()
        require_fraction("dropout.rate", rate)
        self.rate = rate

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y, dx and the mask, all of the input's shape, and draw a first mask."""
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape, mask=self.shape)
        self.rng = rng
        self._draw()

    def forward(self, x: Array, train: bool) -> Array:
        """Silence units in training, return ``x`` itself in evaluation."""
        self.train = train
        if not train:
            return x
        if not self.frozen:
            self._draw()
        return np.multiply(x, self.mask, out=self.y)

    def backward(self, dy: Array) -> Array:
        """Pass the gradient through the units that were kept."""
        return np.multiply(dy, self.mask, out=self.dx) if self.train else dy

    def _draw(self) -> None:
        keep = 1 - self.rate
        self.rng.random(out=self.mask, dtype=self.mask.dtype.type)
        np.less(self.mask, keep, out=self.mask)
        self.mask *= 1 / keep
