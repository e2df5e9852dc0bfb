"""The gated recurrent unit: one gate mixes the old state with a candidate, another one resets what it sees."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Shape, rows
from bpx.engine.parameters import Parameter, ParameterVector
from bpx.engine.recurrent import Recurrent, StepFactors


@final
class GRU(Recurrent):
    """Gated recurrent unit: (steps, 3 n) to (steps, n), the columns of the input being r, z and the candidate's.

    (r, z)_t = sigmoid(u_t + h_(t-1) W), q_t = h_(t-1) W + b, m_t = tanh(u_t + r q), h_t = m + z (h_(t-1) - m).
    Backward: dm = dh (1 - z)(1 - m**2), dr = dm q r (1 - r), dz = dh (h_(t-1) - m) z (1 - z); dh_(t-1) gets dh z and
    (dr, dz, dm r) W^T. (Cho et al. 2014; the reset after the product, as in cuDNN and PyTorch.)
    """

    kind, display_name = "gru", "GRU cells"
    output_name = "h"
    gates, keep_gate = 3, 1
    b: Parameter
    q: Array
    by_state: Array  # the gradient of h_(t-1) W, as dgate is that of the input
    term: Array

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare W and the candidate's b."""
        out = super().build(name, shape, parameters)
        self.b = parameters.declare(f"{name}.b", out[1:], weight=False)
        return out

    def kept(self) -> dict[str, Shape]:
        """Keep q, and the gradient of h_(t-1) W."""
        steps = self.shape[0]
        return {"q": (steps,), "by_state": (self.gates, steps), "term": ()}

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own the buffers."""
        super().bind(batch, dtype, rng)
        self._all = np.ones(batch * self.shape[0], dtype)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute h_1 to h_T; sigmoid(x) = tanh(x / 2) / 2 + 1 / 2."""
        W, gate, h, products, term, b = self.weights(), self.gate, self.h, self.products, self.term, self.b.value
        self.start("h0", h[0])
        np.copyto(gate, self.by_step(x))
        W[:2] *= 0.5
        gate[:2] *= 0.5
        for t in range(self.shape[0]):
            g, m, q, after = gate[:2, t], gate[2, t], self.q[t], h[t + 1]
            np.matmul(h[t], W, out=products)
            g += products[:2]
            np.tanh(g, out=g)
            g *= 0.5
            g += 0.5
            np.add(products[2], b, out=q)
            np.multiply(g[0], q, out=term)
            m += term
            np.tanh(m, out=m)
            np.subtract(h[t], m, out=term)
            term *= g[1]
            np.add(term, m, out=after)
        np.copyto(self.y, h[1:].swapaxes(0, 1))
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute the gates' gradients of every step, dW, db, and the start's gradient."""
        dh, carry, term, products, Wt = self.dh_by_step, self.carry, self.term, self.products, self.transposed()
        self._derivatives()
        np.copyto(dh, dy.swapaxes(0, 1))
        carry.fill(0)
        for t in reversed(range(self.shape[0])):
            dh_t, d = dh[t], self.by_state[:, t]
            dh_t += carry
            d *= dh_t
            if t == 0 or not self.stops(t):
                np.multiply(dh_t, self.gate[1, t], out=term)
                np.matmul(d, Wt, out=products)
                np.add.reduce(products, axis=0, out=carry)
                carry += term
            else:
                carry.fill(0)
        np.copyto(self.dgate[:2], self.by_state[:2])
        self.dgate[2] *= dh
        self.finish("h0", carry)
        self.weight_gradient(self.by_state)
        np.dot(self._all[: dh.size // self.n_out], rows(self.by_state[2]), out=self.b.grad)
        np.copyto(self.by_step(self.dx), self.dgate)
        return self.dx

    def step_factors(self) -> StepFactors:
        """Return what dh is multiplied by: s is dh itself."""
        r, z, m = np.asarray(self.gate.swapaxes(1, 2), np.float64)
        q, before = self.q.swapaxes(0, 1), self.h[:-1].swapaxes(0, 1)
        dm = (1 - z) * (1 - m * m)
        by_state = np.stack([dm * q * r * (1 - r), (before - m) * z * (1 - z), dm * r])
        return StepFactors(z, np.ones_like(z), by_state, np.zeros_like(by_state))

    def _derivatives(self) -> None:
        """Write into by_state, and for the candidate into dgate, what dh is multiplied by."""
        (r, z, m), (dr, dz, dm), hold = (
            self.gate,
            self.by_state,
            self.dh_by_step,
        )  # free until the steps are gone through
        np.multiply(self.gate, self.gate, out=self.by_state)
        np.subtract(r, dr, out=dr)
        np.subtract(z, dz, out=dz)
        np.subtract(1, dm, out=dm)
        np.subtract(1, z, out=hold)
        dm *= hold
        dr *= dm
        dr *= self.q
        np.subtract(self.h[:-1], m, out=hold)
        dz *= hold
        np.copyto(self.dgate[2], dm)
        dm *= r
