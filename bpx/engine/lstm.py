"""The LSTM cell: a state that a gate keeps, so that the gradient through time can stay what it is."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.layer import Shape, flat, rows
from bpx.engine.parameters import Parameter
from bpx.engine.recurrent import Recurrent, StepFactors


@final
class LSTM(Recurrent):
    """Long short-term memory: (steps, 4 n) to (steps, n), the columns of the input being i, f, g, o.

    (i, f, g, o)_t = (sigmoid, sigmoid, tanh, sigmoid)(u_t + h_(t-1) W), c_t = f c_(t-1) + i g, h_t = o tanh(c_t).
    Backward: dc_t = dh_t o (1 - tanh(c_t)**2) + f_(t+1) dc_(t+1), of which the gates get dc g, dc c_(t-1) and dc i, and
    o gets dh tanh(c_t), times the derivatives of sigmoid and tanh. (Hochreiter & Schmidhuber 1997; the forget gate of
    Gers et al. 2000.)
    """

    kind, display_name = "lstm", "LSTM cells"
    output_name = "h"
    gates, keep_gate, states, keeps_h = 4, 1, ("h0", "c0"), False
    c0: Parameter
    gate: Array
    c: Array
    tanh_c: Array
    c_previous: Array
    path: Array
    dc: Array
    term: Array

    def kept(self) -> dict[str, Shape]:
        """Keep the gates, the cells, and what links dh and dc."""
        names = ("c", "tanh_c", "c_previous", "path")
        return {"gate": self.shape, **dict.fromkeys(names, self.out_shape)} | dict.fromkeys(
            ("dc", "term"), self.out_shape[1:]
        )

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own the buffers; sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, so that one tanh makes all gates."""
        super().bind(batch, dtype, rng)
        self._half = np.full((batch, 4 * self.n_out), 0.5, dtype)
        self._half[:, 2 * self.n_out : 3 * self.n_out] = 1
        self._shift = 1 - self._half
        self._halved = zeros(self.W.shape, dtype)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute h_1 to h_T."""
        n, W, product = self.n_out, self._halved, self.product
        half, shift = self._half[: len(x)], self._shift[: len(x)]
        np.multiply(self.W.value, half[0], out=W)
        np.multiply(x, half[0], out=self.gate)
        h, c, term = self.start("h0", self.previous), self.start("c0", self.c_previous), self.term
        for t in range(self.shape[0]):
            gate = self.gate[:, t]
            np.dot(h, W, out=product)
            product += gate
            np.tanh(product, out=product)
            product *= half
            np.add(product, shift, out=gate)
            np.multiply(gate[:, n : 2 * n], c, out=term)
            c = self.c[:, t]
            np.multiply(gate[:, :n], gate[:, 2 * n : 3 * n], out=c)
            c += term
            np.tanh(c, out=self.tanh_c[:, t])
            h = self.y[:, t]
            np.multiply(gate[:, 3 * n :], self.tanh_c[:, t], out=h)
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute the gates' gradients of every step, dW, and the gradients of the start."""
        steps, n = self.out_shape
        dx, dh, carry, dc, term, path = self.dx, self.dh, self.carry, self.dc, self.term, self.path
        Wt = self.transposed()
        self.shifted(self.c, self.c_previous)
        self._derivatives()
        split = dx.reshape(len(dx), steps, 4, n)
        carry.fill(0)
        dc.fill(0)
        for t in reversed(range(steps)):
            np.add(dy[:, t], carry, out=dh[:, t])
            np.multiply(dh[:, t], path[:, t], out=term)
            dc += term
            split[:, t, :3] *= dc[:, None]
            split[:, t, 3] *= dh[:, t]
            if t == 0 or not self.stops(t):
                dc *= self.gate[:, t, n : 2 * n]
                np.dot(dx[:, t], Wt, out=carry)
            else:
                dc.fill(0)
                carry.fill(0)
        self.finish("h0", carry)
        self.finish("c0", dc)
        self.shifted(self.y, self.previous)
        np.dot(rows(self.previous).T, rows(dx), out=self.W.grad)
        return dx

    def step_factors(self) -> StepFactors:
        """Return what dc and dh are multiplied by: s is dc, and only the output gate gets dh."""
        n = self.n_out
        i, f, g, o = (np.asarray(self.gate[:, :, k * n : (k + 1) * n], np.float64) for k in range(4))
        tanh_c = np.asarray(self.tanh_c, np.float64)
        none = np.zeros_like(f)
        by_state = np.stack([i * (1 - i) * g, f * (1 - f) * self.c_previous, i * (1 - g * g), none])
        by_source = np.stack([none, none, none, o * (1 - o) * tanh_c])
        return StepFactors(f, o * (1 - tanh_c * tanh_c), by_state, by_source)

    def _derivatives(self) -> None:
        """Write into dx what dc (of i, f, g) and dh (of o) are multiplied by, and into ``path`` dc_t / dh_t."""
        n, gate, dx, path = self.n_out, self.gate, self.dx, self.path
        i, _, g, o = (gate[:, :, k * n : (k + 1) * n] for k in range(4))
        di, df, dg, do = (dx[:, :, k * n : (k + 1) * n] for k in range(4))
        np.multiply(flat(gate), flat(gate), out=flat(dx))
        np.subtract(flat(gate), flat(dx), out=flat(dx))
        np.multiply(g, g, out=dg)
        np.subtract(1, dg, out=dg)
        np.multiply(flat(self.tanh_c), flat(self.tanh_c), out=flat(path))
        np.subtract(1, path, out=path)
        path *= o
        di *= g
        df *= self.c_previous
        dg *= i
        do *= self.tanh_c
