"""Residual: a branch beside the identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.dense import Dense
from bpx.engine.layer import Layer, Shape
from bpx.engine.parameters import ParameterVector


@final
class Residual(Layer):
    """Add a branch to its input: y = x + branch(x), dx = dy + branch'(dy).

    The addition passes the gradient on unchanged: delta of the branch's last Dense is the gradient at the
    block's output. (He et al. 2016, the pre-activation form.)
    """

    kind, display_name, part = "residual", "residual blocks", "shortcuts"

    def __init__(self, branch: Sequence[Layer]) -> None:
        super().__init__()
        self.branch = list(branch)

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Build the branch, and check that it keeps the width.

        Its layers have names of their own: ``name`` begins with that of its first Dense and counts on with the others.
        """
        first, _, kind = name.partition(".")
        number = int(first.removeprefix("layer_"))
        last = number + sum(isinstance(layer, Dense) for layer in self.branch) - 1
        out = shape
        for layer in self.branch:
            out = layer.build(f"layer_{number:02d}.{kind}.{layer.kind}", out, parameters)
            number = min(number + isinstance(layer, Dense), max(number, last))
        if out != shape:
            inside, outside = (s[0] if len(s) == 1 else s for s in (shape, out))
            raise ValueError(f"a residual block must keep its width: {inside} goes in, {outside} comes out")
        return self.place(name, shape, shape)

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y and dx, both of the input's shape."""
        for layer in self.branch:
            layer.bind(batch, dtype, rng)
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = x + branch(x)."""
        y = x
        for layer in self.branch:
            y = layer.forward(y, train)
        return np.add(x, y, out=self.y)

    def backward(self, dy: Array) -> Array:
        """Compute dx = dy + the branch's gradient."""
        dx = dy
        for layer in reversed(self.branch):
            dx = layer.backward(dx)
        return np.add(dy, dx, out=self.dx)
