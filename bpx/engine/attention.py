"""Attention: every token takes a mean of the values of all, weighted by queries and keys; and learned positions."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Layer, Shape
from bpx.engine.numbers import require
from bpx.engine.parameters import Parameter, ParameterVector

MAX_EXPONENT = 60  # exp of it and of its negative, summed over the tokens, is far from what float32 cannot hold


@final
class Attention(Layer):
    """Scaled dot-product attention of several heads: (tokens, 3 d) to (tokens, d).

    The input holds queries, keys and values, d columns each, d / heads of them a head. In every head, with c = d /
    heads, P = softmax(Q K^T / sqrt(c)) by rows, and y = P V. Backward: dV = P^T dy, dP = dy V^T,
    dS = P (dP - dy y summed by head) / sqrt(c), dQ = dS K, dK = dS^T Q. (Vaswani et al. 2017, section 3.2.)

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
    turned: Array
    term: Array
    along: Array

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
        (tokens, d), heads = self.out_shape, self.heads
        square, turned = (heads, tokens, tokens), (heads, d // heads, tokens)
        rooms = {"P": square, "dP": square, "row": (*square[:2], 1), "turned": turned, "term": self.out_shape}
        rooms["along"] = (tokens, heads)
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape, **rooms)
        self._scale = 1 / math.sqrt(d // heads)
        self._ones, self._scales = np.ones(tokens, dtype), np.full(d // heads, self._scale, dtype)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute P and y."""
        self.x = x
        q, k, v = self._parts(x)
        P, row = self.P, self.row
        self._product(q, k, P)
        if max(P.max(), -P.min()) > MAX_EXPONENT:  # a softmax is the same whatever is taken from a row
            P -= P.max(axis=3, keepdims=True, out=row)
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
        P, dP, d, term = self.P, self.dP, self._heads(dy), self.term
        np.matmul(P.swapaxes(2, 3), d, out=dv)
        self._product(d, v, dP)
        np.multiply(dy, self.y, out=term)
        np.dot(term.reshape(-1, len(self._scales)), self._scales, out=self.along.reshape(-1))
        dP -= self.along.swapaxes(1, 2)[..., None]
        dP *= P
        np.matmul(dP, k, out=dq)
        np.matmul(dP.swapaxes(2, 3), q, out=dk)
        return self.dx

    def _product(self, a: Array, b: Array, out: Array) -> None:
        """Write a b^T / sqrt(c); b^T is copied, as a product of many small matrices with a view takes twice as long."""
        np.multiply(b.swapaxes(2, 3), self._scale, out=self.turned)
        np.matmul(a, self.turned, out=out)

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
