"""Attention: every token takes a mean of the values of all, weighted by queries and keys; and learned positions."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Layer, Shape
from bpx.engine.numbers import require
from bpx.engine.parameters import Parameter, ParameterVector


@final
class Attention(Layer):
    """Scaled dot-product attention of several heads: (tokens, 3 d) to (tokens, d).

    The input holds queries, keys and values, d columns each, d / heads of them a head. In every head, with c = d /
    heads, P = softmax(Q K^T / sqrt(c)) by rows, and y = P V. Backward: dV = P^T dy, dP = dy V^T,
    dS = P (dP - sum(dP P) by rows) / sqrt(c), dQ = dS K, dK = dS^T Q. (Vaswani et al. 2017, section 3.2.)

    Attributes
    ----------
    heads : int
        Number of heads, which divides d.
    P : ndarray (rows, heads, tokens, tokens)
        The weights of the last pass; rows sum to 1.
    """

    kind, display_name = "attention", "attention"
    unpredicted = "attention"
    P: Array
    dP: Array
    row: Array

    def __init__(self, heads: int) -> None:
        super().__init__()
        require(heads >= 1, "model.heads", "at least 1", heads)
        self.heads = heads

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Return (tokens, d); raises ValueError where the heads do not divide d."""
        if len(shape) != 2:
            raise ValueError(f"attention needs samples (tokens, features), got samples of shape {shape}")
        d = shape[-1] // 3
        if d % self.heads:
            raise ValueError(f"model.heads must divide model.width {d}, got {self.heads}")
        return self.place(name, shape, (shape[0], d))

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y, dx, P and its gradient."""
        square = (self.heads, self.shape[0], self.shape[0])
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape, P=square, dP=square, row=(*square[:2], 1))
        self._ones = np.ones(self.shape[0], dtype)
        self._scale = 1 / math.sqrt(self.out_shape[-1] // self.heads)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute P and y."""
        self.x = x
        q, k, v = self._parts(x)
        P, row = self.P, self.row
        np.matmul(q, k.swapaxes(2, 3), out=P)
        P *= self._scale
        np.maximum.reduce(P, axis=3, keepdims=True, out=row)
        P -= row
        np.exp(P, out=P)
        with np.errstate(invalid="ignore"):  # BLAS may raise the flag for what lies beside short rows
            np.dot(P.reshape(-1, self.shape[0]), self._ones, out=row.reshape(-1))  # sums rows fastest
        P /= row
        np.matmul(P, v, out=self._heads(self.y))
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute the gradients of queries, keys and values."""
        q, k, v = self._parts(self.x)
        dq, dk, dv = self._parts(self.dx)
        P, dP, d = self.P, self.dP, self._heads(dy)
        np.matmul(P.swapaxes(2, 3), d, out=dv)
        np.matmul(d, v.swapaxes(2, 3), out=dP)
        np.einsum("bhij,bhij->bhi", P, dP, out=self.row[..., 0])
        dP -= self.row
        dP *= P
        dP *= self._scale
        np.matmul(dP, k, out=dq)
        np.matmul(dP.swapaxes(2, 3), q, out=dk)
        return self.dx

    def _parts(self, x: Array) -> tuple[Array, Array, Array]:
        """Return queries, keys and values, each (rows, heads, tokens, d / heads), views of ``x``."""
        n, tokens, width = x.shape
        q, k, v = x.reshape(n, tokens, 3, self.heads, width // 3 // self.heads).transpose(2, 0, 3, 1, 4)
        return q, k, v

    def _heads(self, y: Array) -> Array:
        n, tokens, d = y.shape
        return y.reshape(n, tokens, self.heads, d // self.heads).transpose(0, 2, 1, 3)


@final
class Positions(Layer):
    """Add a learned vector to every position: y = x + p, dp = sum of dy over the batch; p starts at zero.

    (Vaswani et al. 2017, section 3.5; Gehring et al. 2017.)
    """

    kind = "positions"
    p: Parameter

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare p, of the shape of a sample."""
        self.p = parameters.declare(f"{name}.p", shape, weight=False)
        return self.place(name, shape, shape)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = x + p."""
        return np.add(x, self.p.value, out=self.y)

    def backward(self, dy: Array) -> Array:
        """Compute dp; the gradient passes unchanged."""
        np.add.reduce(dy, axis=0, out=self.p.grad)
        np.copyto(self.dx, dy)
        return self.dx
