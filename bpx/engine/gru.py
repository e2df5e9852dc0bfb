"""The gated recurrent unit: one gate mixes the old state with a candidate, another one resets what it sees."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Shape, flat, rows
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
    gate: Array
    q: Array
    dproduct: Array
    term: Array

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare W and the candidate's b."""
        out = super().build(name, shape, parameters)
        self.b = parameters.declare(f"{name}.b", out[1:], weight=False)
        return out

    def kept(self) -> dict[str, Shape]:
        """Keep the gates with the candidate, q, and the gradient of h_(t-1) W."""
        return {"gate": self.shape, "dproduct": self.shape, "q": self.out_shape, "term": self.out_shape[1:]}

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own the buffers."""
        super().bind(batch, dtype, rng)
        self._all = np.ones(batch * self.shape[0], dtype)
        self._sums = np.zeros(self.shape[1], dtype)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute h_1 to h_T."""
        n, W, product, term = self.n_out, self.W.value, self.product, self.term
        h = self.start("h0", self.previous)
        for t in range(self.shape[0]):
            u, gate, q = x[:, t], self.gate[:, t], self.q[:, t]
            np.dot(h, W, out=product)
            rz, m = gate[:, : 2 * n], gate[:, 2 * n :]
            np.add(product[:, : 2 * n], u[:, : 2 * n], out=rz)
            rz *= 0.5
            np.tanh(rz, out=rz)
            rz *= 0.5
            rz += 0.5
            np.add(product[:, 2 * n :], self.b.value, out=q)
            np.multiply(gate[:, :n], q, out=m)
            m += u[:, 2 * n :]
            np.tanh(m, out=m)
            np.subtract(h, m, out=term)
            term *= gate[:, n : 2 * n]
            h = self.y[:, t]
            np.add(term, m, out=h)
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute the gates' gradients of every step, dW, db, and the start's gradient."""
        steps, n = self.out_shape
        dx, dh, carry, term, Wt = self.dx, self.dh, self.carry, self.term, self.transposed()
        self.shifted(self.y, self.previous)
        self._derivatives()
        by_input, by_state = (d.reshape(len(dx), steps, 3, n) for d in (dx, self.dproduct))
        carry.fill(0)
        for t in reversed(range(steps)):
            np.add(dy[:, t], carry, out=dh[:, t])
            by_state[:, t] *= dh[:, t, None]
            if t == 0 or not self.stops(t):
                np.multiply(dh[:, t], self.gate[:, t, n : 2 * n], out=term)
                np.dot(self.dproduct[:, t], Wt, out=carry)
                carry += term
            else:
                carry.fill(0)
        by_input *= dh[:, :, None]
        self.finish("h0", carry)
        np.dot(rows(self.previous).T, rows(self.dproduct), out=self.W.grad)
        np.dot(self._all[: len(dx) * steps], rows(self.dproduct), out=self._sums)
        self.b.grad[...] = self._sums[2 * n :]
        return dx

    def step_factors(self) -> StepFactors:
        """Return what dh is multiplied by: s is dh itself."""
        n = self.n_out
        r, z, m = (np.asarray(self.gate[:, :, k * n : (k + 1) * n], np.float64) for k in range(3))
        dm = (1 - z) * (1 - m * m)
        by_state = np.stack([dm * self.q * r * (1 - r), (self.previous - m) * z * (1 - z), dm * r])
        return StepFactors(z, np.ones_like(z), by_state, np.zeros_like(by_state))

    def _derivatives(self) -> None:
        """Write into dx and dproduct what dh is multiplied by."""
        n, d = self.n_out, self.dproduct
        r, z, m = (self.gate[:, :, k * n : (k + 1) * n] for k in range(3))
        dr, dz, dm = (d[:, :, k * n : (k + 1) * n] for k in range(3))
        np.multiply(flat(self.gate), flat(self.gate), out=flat(d))
        np.subtract(r, dr, out=dr)
        np.subtract(z, dz, out=dz)
        np.subtract(1, dm, out=dm)
        hold = self.dh  # free until the steps are gone through
        np.subtract(1, z, out=hold)
        dm *= hold
        dr *= dm
        dr *= self.q
        np.subtract(self.previous, m, out=hold)
        dz *= hold
        np.copyto(flat(self.dx), flat(d))
        dm *= r
