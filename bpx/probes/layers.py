"""The per-layer scales of a step: gradients, deltas, activations, weights, updates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpx.engine.activations import Activation
from bpx.engine.dense import Dense
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer, norm

QUANTITIES = (
    "grad_norm",
    "grad_norm_bias",
    "delta_rms",
    "delta_l2",
    "activation_mean",
    "activation_abs_mean",
    "activation_std",
    "weight_norm",
    "update_ratio",
)


class LayerProbe:
    """Measure every weight layer of a network, from the buffers that a training step leaves behind.

    - grad_norm, grad_norm_bias: L2 norm of dJ/dW and dJ/db, before clipping
    - delta_rms: root mean square over samples and units of delta = dJ_i/dz, not divided by the batch size
    - delta_l2: sqrt(mean over the samples of |delta_i|**2)
    - activation_mean, _abs_mean, _std: over samples and units of the layer's output a (z for the output layer)
    - weight_norm: L2 norm of W; update_ratio: |dW| / |W| of the step the optimizer is about to make

    Sums accumulate in float64.
    """

    def __init__(self, net: Network) -> None:
        self.net = net
        self.keys = tuple(
            (f"layer_{i:02d}", "", quantity, 0) for i in range(1, len(net.dense) + 1) for quantity in QUANTITIES
        )
        self.values = np.zeros((len(net.dense), len(QUANTITIES)))
        self._deltas = delta_sources(net)
        self._outputs = output_layers(net)

    def gradient(self) -> None:
        """Measure what backward left: to be called before the optimizer proposes."""
        for row, dense, source, output in zip(self.values, self.net.dense, self._deltas, self._outputs, strict=True):
            delta = source.dz if source is self.net.loss else source.dx
            n, width = delta.shape
            total = norm(delta.reshape(-1)) * n  # the buffers hold delta / n
            a = output.y
            mean, square = float(a.mean(dtype=np.float64)), norm(a.reshape(-1)) ** 2 / a.size
            row[0] = norm(dense.W.grad.reshape(-1))
            row[1] = norm(dense.b.grad) if dense.b is not None else math.nan
            row[2] = total / math.sqrt(n * width)
            row[3] = total / math.sqrt(n)
            row[4] = mean
            row[5] = float(np.abs(a).mean(dtype=np.float64))
            row[6] = math.sqrt(max(square - mean**2, 0.0))
            row[7] = norm(dense.W.value.reshape(-1))

    def update(self, optimizer: Optimizer) -> NDArray[np.float64]:
        """Measure the proposed update and return all values, in the order of ``keys``."""
        u, scale = optimizer.u, abs(optimizer.factor)
        start = 0
        for row, dense in zip(self.values, self.net.dense, strict=True):
            step = norm(u[start : start + dense.W.size]) * scale  # weights lie first in theta, in network order
            row[8] = step / row[7] if row[7] > 0 else math.nan
            start += dense.W.size
        return self.values.reshape(-1).copy()


def delta_sources(net: Network) -> list[Any]:
    """Return, for each weight layer, whatever holds dJ/dz at its output as ``dx`` (the loss, as ``dz``).

    That is what stands behind it in the chain; behind a residual branch's last Dense it is what stands behind
    the block, because the addition passes the gradient on unchanged.
    """
    chain: list[tuple[Any, Any]] = list(zip(net.ops, [*net.ops[1:], net.loss], strict=True))
    return [after for op, after in chain if any(isinstance(layer, Dense) for layer in op.layers())]


def output_layers(net: Network) -> list[Any]:
    """Return, for each weight layer, the activation that follows it, or the layer itself where none does."""
    layers = list(net.layers())
    found = []
    for i, layer in enumerate(layers):
        if isinstance(layer, Dense):
            behind = layers[i + 1 :]
            until = next((k for k, other in enumerate(behind) if isinstance(other, Dense)), len(behind))
            found.append(next((a for a in behind[:until] if isinstance(a, Activation)), layer))
    return found
