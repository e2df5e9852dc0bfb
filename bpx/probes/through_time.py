"""The gradient through time: dJ/dh_t at every step of the last recurrent layers."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Values
from bpx.engine.blas import norm
from bpx.engine.network import Network
from bpx.engine.recurrent import Recurrent
from bpx.probes.probe import Key, Probe, ProbeContext


@final
class ThroughTime(Probe):
    """Measure state_grad_l2 of every recurrent layer: sqrt(mean over the samples of |dJ_i/dh_t|**2).

    ``index`` is the step t, from 1; J comes from the last step alone, and the gradient is over all ways that h_t has to
    it, those through the layers above too. (Bengio et al. 1994; Pascanu et al. 2013, equation 4.)
    """

    name = "through_time"
    other_quantities = ("state_grad_l2",)

    def __init__(self, context: ProbeContext) -> None:
        self.cells = recurrent_layers(context.net)
        keys: list[Key] = []
        for cell in self.cells:
            layer = cell.name.partition(".")[0]
            keys += [(layer, cell.kind, "state_grad_l2", t) for t in range(1, cell.shape[0] + 1)]
        self.declare(keys)

    def on_gradient(self, step: int) -> None:
        """Take the norms of what backward has left."""
        if self.cells:
            self.values[:] = np.concatenate([state_grad_l2(cell) for cell in self.cells])


def recurrent_layers(net: Network) -> list[Recurrent]:
    """Return the recurrent layers of a network, from the input on."""
    return [layer for layer in net.layers() if isinstance(layer, Recurrent)]


def state_grad_l2(cell: Recurrent) -> Values:
    """Return sqrt(mean_i |dJ_i/dh_t|**2) by step, (steps,), of the last backward."""
    root = math.sqrt(len(cell.dh))  # the buffers hold the gradient / batch
    return np.array([norm(np.ascontiguousarray(cell.dh[:, t]).reshape(-1)) * root for t in range(cell.shape[0])])
