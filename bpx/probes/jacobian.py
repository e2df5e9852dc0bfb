"""The input-output Jacobian and its singular values."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array, Values
from bpx.engine.layer import flat
from bpx.engine.network import Network
from bpx.probes.probe import Probe, ProbeContext

MAX_SAMPLES = 4
MAX_PASSES = 500  # backward passes of one measurement: one for each output of each sample
BATCH_SAMPLES = 32  # of the fixed samples, so that batch normalization has a batch


@final
class Jacobian(Probe):
    """Measure jacobian_singular_value: those of dz_L/dx, (n_out, n_in), for the first samples of the fixed set.

    Four samples, fewer where there are more than 125 outputs (of all steps), none where there are more than 500.

    ``index`` = sample * k + rank, k = min(n_in, n_out), largest first. z_L is the last pre-activation; dropout is
    off, and batch normalization works on the fixed samples. (Saxe et al. 2014; Pennington et al. 2017.)
    """

    name = "jacobian"
    other_quantities = ("jacobian_singular_value",)

    def __init__(self, context: ProbeContext) -> None:
        self.samples = context.samples[:BATCH_SAMPLES]
        self.replica = context.replica(len(self.samples), input_grad=True)
        outputs = math.prod(self.replica.out_shape)
        self.few = min(MAX_SAMPLES, len(self.samples), MAX_PASSES // outputs)
        if self.few == 0:
            self.left_out = f"probes.jacobian: {outputs:,} outputs are more than {MAX_PASSES}"
        k = min(self.replica.n_in, outputs)
        self.declare([("", "", "jacobian_singular_value", i) for i in range(self.few * k)])

    def on_gradient(self, step: int) -> None:
        """Send one unit vector after the other backward."""
        if not self.keys:
            return
        self.values[:] = singular_values(jacobian(self.replica, self.samples, self.few)).reshape(-1)


def singular_values(matrices: Array) -> Values:
    """Return those of each matrix (n, rows, columns), largest first, (n, rank); NaN where it is not finite."""
    finite = np.isfinite(matrices).all(axis=(1, 2))
    found = np.full((len(matrices), min(matrices.shape[1:])), np.nan)
    found[finite] = np.linalg.svd(matrices[finite], compute_uv=False)
    return found


def jacobian(net: Network, x: Array, few: int) -> Array:
    """Return dz_L/dx of the first ``few`` rows of ``x`` as (few, n_out, n_in), in float64.

    ``net`` is bound so that its first layer computes the gradient of the data.
    """
    z = net.forward(x, train=True)
    dz = np.zeros_like(z)
    each = flat(dz)
    out = np.empty((few, each.shape[1], net.n_in))
    for i, k in np.ndindex(out.shape[:2]):
        each[i, k] = 1
        net.backward_from(dz)
        out[i, k] = net.blocks[0].dx[i].reshape(-1)
        each[i, k] = 0
    return out
