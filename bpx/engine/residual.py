"""Residual: a branch beside the identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.dense import Dense
from bpx.engine.layer import Layer
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

    def build(self, name: str, n_in: int, parameters: ParameterVector) -> int:
        """Build the branch, and check that it keeps the width.

        Its layers have names of their own: ``name`` begins with that of its first Dense and counts on with the others.
        """
        first, _, kind = name.partition(".")
        number = int(first.removeprefix("layer_"))
        last = number + sum(isinstance(layer, Dense) for layer in self.branch) - 1
        width = n_in
        for layer in self.branch:
            width = layer.build(f"layer_{number:02d}.{kind}.{layer.kind}", width, parameters)
            number = min(number + isinstance(layer, Dense), max(number, last))
        if width != n_in:
            raise ValueError(f"a residual block must keep its width: {n_in} goes in, {width} comes out")
        return self.place(name, n_in, n_in)

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y and dx, both (batch, n)."""
        self.allocate_buffers(batch, dtype, y=self.n_out, dx=self.n_in)
        for layer in self.branch:
            layer.bind(batch, dtype, rng)

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
