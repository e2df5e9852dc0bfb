"""Dense: the affine map z = a W + b."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Layer
from bpx.engine.numbers import require
from bpx.engine.parameters import Parameter, ParameterVector


@final
class Dense(Layer):
    """Mix the units: z = a W + b, with W (n_in, n_out) and b (n_out,).

    Backward, given delta = dJ/dz: dW = a^T delta, db = sum of delta over the batch, da = delta W^T.
    """

    kind, display_name = "dense", "weights"
    output_name, input_grad_name = "z", "da"
    W: Parameter
    b: Parameter | None

    def __init__(self, n_out: int, bias: bool = True) -> None:
        super().__init__()
        require(n_out >= 1, "a layer's width", "at least 1", n_out)
        self.n_out, self.bias = n_out, bias

    def build(self, name: str, n_in: int, parameters: ParameterVector) -> int:
        """Declare W and b."""
        self.W = parameters.declare(f"{name}.W", (n_in, self.n_out), weight=True)
        self.b = parameters.declare(f"{name}.b", (self.n_out,), weight=False) if self.bias else None
        return self.place(name, n_in, self.n_out)

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own z (batch, n_out) and da (batch, n_in)."""
        self._ones = np.ones(batch, dtype)
        if self.needs_input_grad:
            self.allocate_buffers(batch, dtype, y=self.n_out, dx=self.n_in)
        else:
            self.allocate_buffers(batch, dtype, y=self.n_out)
            self.dx = np.zeros((0, self.n_in), dtype)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute z = a W + b."""
        self.x = x
        z = self.y
        np.dot(x, self.W.value, out=z)
        if self.b is not None:
            z += self.b.value
        return z

    def backward(self, dy: Array) -> Array:
        """Compute dW, db and da = delta W^T."""
        np.dot(self.x.T, dy, out=self.W.grad)
        if self.b is not None:
            np.dot(self._ones[: len(dy)], dy, out=self.b.grad)  # a matrix product sums columns fastest
        if self.needs_input_grad:
            np.dot(dy, self.W.value.T, out=self.dx)
        return self.dx
