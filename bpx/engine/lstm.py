"""The LSTM cell: a state that a gate keeps, so that the gradient through time can stay what it is."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.layer import Shape
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
    c: Array  # (steps + 1, rows, n), the start first
    tanh_c: Array
    path: Array
    dc: Array
    term: Array

    def kept(self) -> dict[str, Shape]:
        """Keep the cells, and what links dh and dc."""
        steps = self.shape[0]
        return {"c": (steps + 1,), "tanh_c": (steps,), "path": (steps,), "dc": (), "term": ()}

    def forward(self, x: Array, train: bool) -> Array:
        """Compute h_1 to h_T; sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, so that one tanh makes all gates."""
        W, gate, h, c, products, term = self.weights(), self.gate, self.h, self.c, self.products, self.term
        self.start("h0", h[0])
        self.start("c0", c[0])
        np.copyto(gate, self.by_step(x))
        for k in (0, 1, 3):
            W[k] *= 0.5
            gate[k] *= 0.5
        for t in range(self.shape[0]):
            g, c_t, tanh_c = gate[:, t], c[t + 1], self.tanh_c[t]
            np.matmul(h[t], W, out=products)
            products += g
            np.tanh(products, out=g)
            for sigmoid in (g[:2], g[3]):
                sigmoid *= 0.5
                sigmoid += 0.5
            np.multiply(g[1], c[t], out=term)
            np.multiply(g[0], g[2], out=c_t)
            c_t += term
            np.tanh(c_t, out=tanh_c)
            np.multiply(g[3], tanh_c, out=h[t + 1])
        np.copyto(self.y, h[1:].swapaxes(0, 1))
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute the gates' gradients of every step, dW, and the gradients of the start."""
        dgate, dh, carry, dc, term, products = (
            self.dgate,
            self.dh_by_step,
            self.carry,
            self.dc,
            self.term,
            self.products,
        )
        Wt = self.transposed()
        np.copyto(dh, dy.swapaxes(0, 1))
        self._derivatives()
        carry.fill(0)
        dc.fill(0)
        for t in reversed(range(self.shape[0])):
            dh_t, d = dh[t], dgate[:, t]
            dh_t += carry
            np.multiply(dh_t, self.path[t], out=term)
            dc += term
            d[:3] *= dc
            d[3] *= dh_t
            if t == 0 or not self.stops(t):
                dc *= self.gate[1, t]
                np.matmul(d, Wt, out=products)
                np.add.reduce(products, axis=0, out=carry)
            else:
                dc.fill(0)
                carry.fill(0)
        self.finish("h0", carry)
        self.finish("c0", dc)
        self.weight_gradient(dgate)
        np.copyto(self.by_step(self.dx), dgate)
        return self.dx

    def step_factors(self) -> StepFactors:
        """Return what dc and dh are multiplied by: s is dc, and only the output gate gets dh."""
        i, f, g, o = np.asarray(self.gate.swapaxes(1, 2), np.float64)
        tanh_c, before = (np.asarray(a.swapaxes(0, 1), np.float64) for a in (self.tanh_c, self.c[:-1]))
        none = np.zeros_like(f)
        by_state = np.stack([i * (1 - i) * g, f * (1 - f) * before, i * (1 - g * g), none])
        by_source = np.stack([none, none, none, o * (1 - o) * tanh_c])
        return StepFactors(f, o * (1 - tanh_c * tanh_c), by_state, by_source)

    def _derivatives(self) -> None:
        """Write into dgate what dc (of i, f, g) and dh (of o) are multiplied by, and into ``path`` dc_t / dh_t."""
        (i, _, g, o), (di, df, dg, do), path = self.gate, self.dgate, self.path
        np.multiply(self.gate, self.gate, out=self.dgate)
        np.subtract(self.gate[:2], self.dgate[:2], out=self.dgate[:2])
        np.subtract(o, do, out=do)
        np.subtract(1, dg, out=dg)
        np.multiply(self.tanh_c, self.tanh_c, out=path)
        np.subtract(1, path, out=path)
        path *= o
        di *= g
        df *= self.c[:-1]
        dg *= i
        do *= self.tanh_c
