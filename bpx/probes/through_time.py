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
    it, those through the layers above too. Where there is a loss at every step, a pass of its own takes the last one.
    (Bengio et al. 1994; Pascanu et al. 2013, equation 4.)
    """

    name = "through_time"
    other_quantities = ("state_grad_l2",)

    def __init__(self, context: ProbeContext) -> None:
        self.net = context.net
        cells = recurrent_layers(self.net)
        self.replica = context.replica(self.net.batch) if cells and len(self.net.out_shape) > 1 else None
        keys: list[Key] = []
        for cell in cells:
            layer = cell.name.partition(".")[0]
            keys += [(layer, cell.kind, "state_grad_l2", t) for t in range(1, cell.shape[0] + 1)]
        self.declare(keys)

    def on_gradient(self, step: int) -> None:
        """Take the norms of what backward has left."""
        if self.keys:
            self.values[:] = np.concatenate([state_grad_l2(cell) for cell in from_last_step(self.net, self.replica)])


def recurrent_layers(net: Network) -> list[Recurrent]:
    """Return the recurrent layers of a network, from the input on."""
    return [layer for layer in net.layers() if isinstance(layer, Recurrent)]


def from_last_step(net: Network, replica: Network | None = None) -> list[Recurrent]:
    """Return the recurrent layers, dh being that of the last batch's loss at the last step alone.

    Where ``net`` has a loss at every step, they are those of ``replica``, or of a new one, with all its units.
    """
    if len(net.out_shape) == 1 or net.last_batch is None:
        return recurrent_layers(net)
    x, y = net.last_batch
    replica = ProbeContext(net).replica(len(x)) if replica is None else replica
    with np.errstate(all="ignore"):
        replica.cost(x, y)
        replica.loss.backward()
        dz = np.zeros_like(replica.loss.dx)
        dz[:, -1] = replica.loss.dx[:, -1] * dz.shape[1]  # J is the mean over the steps
        replica.backward_from(dz)
    return recurrent_layers(replica)


def state_grad_l2(cell: Recurrent) -> Values:
    """Return sqrt(mean_i |dJ_i/dh_t|**2) by step, (steps,), of the last backward."""
    root = math.sqrt(len(cell.dh))  # the buffers hold the gradient / batch
    return np.array([norm(np.ascontiguousarray(cell.dh[:, t]).reshape(-1)) * root for t in range(cell.shape[0])])


def blank_steps(net: Network, l2: Values) -> int:
    """Return the first states of the last recurrent layer with no gradient because nothing has come in yet.

    Where input sums and state are zero in all samples that have a gradient (the blank rows above a digit), a ReLU,
    whose slope at zero is 0, passes nothing back, and nothing is to learn. ``l2`` (steps,) holds the norms of dJ/dh_t.
    """
    if l2[0] > 0:
        return 0
    layers, cell = list(net.layers()), recurrent_layers(net)[-1]
    sent = cell.dh[:, -1].any(axis=-1)  # not by a sample that the network is sure of
    filled = np.asarray(layers[layers.index(cell) - 1].y)[sent].any(axis=(0, 2))
    first = int(filled.argmax())  # 0 where nothing comes in at all
    blank = max(first - 1, 0)  # dJ/dh_t comes through step t + 1
    return 0 if l2[:blank].any() else blank
