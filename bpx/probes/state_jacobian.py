"""The Jacobian from every step's state to the last one, by its singular values."""

from __future__ import annotations

from typing import final

import numpy as np

from bpx.probes.jacobian import singular_values
from bpx.probes.probe import Probe, ProbeContext
from bpx.probes.through_time import recurrent_layers

MAX_UNITS = 64
MAX_VALUES = 4096  # singular values of one measurement


@final
class StateJacobian(Probe):
    """Measure state_jacobian_singular_value: those of dh_T/dh_t, (n, n), of the last recurrent layer, for one sample.

    ``index`` = (t - 1) n + rank, t from 1 to T - 1, largest first; the sample is the first of the fixed set. Layers of
    more than 64 units, and sequences of more than 4096 / n steps, are left out. A gradient explodes only if the largest
    exceeds 1 (Pascanu et al. 2013, section 2.1).
    """

    name = "state_jacobian"
    other_quantities = ("state_jacobian_singular_value",)

    def __init__(self, context: ProbeContext) -> None:
        cells, keys = recurrent_layers(context.net), []
        if cells and len(context.samples):
            steps, n = cells[-1].out_shape
            layer, kind = cells[-1].name.partition(".")[0], cells[-1].kind
            if n > MAX_UNITS or n * steps > MAX_VALUES:
                self.left_out = f"probes.state_jacobian: {steps} steps of {n} units are more than {MAX_VALUES} values"
            else:
                keys = [(layer, kind, "state_jacobian_singular_value", i) for i in range((steps - 1) * n)]
                self.replica = context.replica(n)
                self.samples = context.samples[:1].repeat(n, axis=0)
        self.declare(keys)

    def on_gradient(self, step: int) -> None:
        """Send all unit vectors backward from the last state at once, each in a row of its own."""
        if not self.keys:
            return
        with np.errstate(all="ignore"):
            self.replica.forward(self.samples, train=True)
            cell = recurrent_layers(self.replica)[-1]
            dy = np.zeros_like(cell.y)
            dy[:, -1] = np.eye(len(dy))
            cell.backward(dy)
            J = np.asarray(cell.dh[:, :-1], np.float64).swapaxes(0, 1)
        self.values[:] = singular_values(J).reshape(-1)
