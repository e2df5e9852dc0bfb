"""Dense: the affine map z = a W + b."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.initializer import Initializer
from bpx.engine.layer import Layer, Shape, flat, rows
from bpx.engine.numbers import require
from bpx.engine.parameters import Parameter, ParameterVector


class Dense(Layer):
    """Mix the units: z = a W + b, with W (n_in, n_out) and b (n_out,), at every position of a sample alike.

    Backward, given delta = dJ/dz: dW = a^T delta, db = sum of delta over the batch and the positions, da = delta W^T.

    Parameters
    ----------
    n_out : int
        Width of the output.
    bias : bool
        Whether there is a b.
    bias_start : sequence of float
        What b is drawn around, (n_out,); zero where it is empty.
    """

    kind, display_name = "dense", "weights"
    output_name, input_grad_name = "z", "da"
    W: Parameter
    b: Parameter | None

    def __init__(self, n_out: int, bias: bool = True, bias_start: Sequence[float] = ()) -> None:
        super().__init__()
        require(n_out >= 1, "a layer's width", "at least 1", n_out)
        self.n_out, self.bias, self.bias_start = n_out, bias, bias_start

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare W and b."""
        self.W = parameters.declare(f"{name}.W", (shape[-1], self.n_out), weight=True)
        self.b = parameters.declare(f"{name}.b", (self.n_out,), weight=False) if self.bias else None
        return self.place(name, shape, (*shape[:-1], self.n_out))

    def draw(self, initializer: Initializer, rng: np.random.Generator) -> None:
        """Draw W and b."""
        initializer(rng, self.W.value)
        if self.b is not None:
            initializer.draw_bias(rng, self.b.value, self.n_in)
            if len(self.bias_start):
                self.b.value += np.asarray(self.bias_start, self.b.value.dtype)

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own z (batch, *positions, n_out) and da (batch, *positions, n_in)."""
        positions = math.prod(self.out_shape[:-1])
        self._ones = np.ones(batch * positions, dtype)
        self._biases = np.zeros((positions, self.n_out), dtype)
        self.dx = np.zeros((0, *self.shape), dtype)
        own = {"dx": self.shape} if self.needs_input_grad else {}
        self.allocate_buffers(batch, dtype, y=self.out_shape, **own)

    def set_batch_size(self, n: int) -> None:
        """Use the first rows of every buffer, whose views by row are made once."""
        super().set_batch_size(n)
        self._z, self._da = rows(self.y), rows(self.dx)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute z = a W + b."""
        self.x, z = x, self.y
        self._a = a = x if x.ndim == 2 else rows(x)  # no call where there is nothing to do: small nets show it
        np.dot(a, self.W.value, out=self._z)
        if self.b is not None:
            if z.ndim == 2:
                z += self.b.value
            else:
                self.add_bias(z)
        return z

    def backward(self, dy: Array) -> Array:
        """Compute dW, db and da = delta W^T."""
        delta = dy if dy.ndim == 2 else rows(dy)
        np.dot(self._a.T, delta, out=self.W.grad)
        if self.b is not None:
            np.dot(self._ones[: len(delta)], delta, out=self.b.grad)  # a matrix product sums columns fastest
        if self.needs_input_grad:
            np.dot(delta, self.W.value.T, out=self._da)
        return self.dx

    def inputs(self) -> Array:
        """Return what the last pass multiplied by W, (batch, *positions, n_in)."""
        return self.x

    def overlaps(self) -> tuple[Array, ...]:
        """Return, by axis of positions, the share of a unit's inputs that joins one position with another; none."""
        return ()

    def add_bias(self, z: Array) -> None:
        """Add b at every position: a bias for each, so that the loop is long."""
        if self.b is not None:
            self._biases[...] = self.b.value
            np.add(flat(z), self._biases.reshape(-1), out=flat(z))
