"""The scales of a step by layer: delta, gradients, signals forward, weights, updates, saturation."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.activation import Activation
from bpx.engine.blas import norm
from bpx.engine.layer import flat
from bpx.engine.optimizers import Optimizer
from bpx.probes.moments import TensorMoments
from bpx.probes.probe import Probe, ProbeContext

SATURATION_THRESHOLD = 0.05  # of the largest slope

QUANTITIES = (
    "delta_rms",
    "delta_l2",
    "grad_norm",
    "grad_norm_bias",
    "weight_norm",
    "update_ratio",
    "saturation",
    "preactivation_mean",
    "preactivation_abs_mean",
    "preactivation_std",
    "preactivation_rms",
    "activation_mean",
    "activation_abs_mean",
    "activation_std",
    "activation_rms",
)
RMS, L2, DW, DB, W, UPDATE, SATURATION = range(7)
Z, A = slice(7, 11), slice(11, 15)


@final
class Scales(Probe):
    """Measure every weight layer from the buffers of a training step.

    (Signals, gradients and saturation by layer: Glorot & Bengio 2010, sections 3 and 4.2.)

    - delta_rms: root mean square over samples, positions and units of delta = dJ_i/dz, not divided by the batch size;
      delta_l2: sqrt(mean over the samples of |delta_i|**2)
    - grad_norm, grad_norm_bias: L2 norm of dJ/dW and dJ/db, before clipping
    - weight_norm: |W|; update_ratio: |dW| / |W| of the step that the optimizer makes
    - saturation: share of (sample, unit) with |phi'(z)| below 5 % of the largest |phi'|, at phi's input
    - preactivation_..., activation_...: mean, mean magnitude, standard deviation and RMS of z and a
    """

    name = "scales"
    layer_quantities = QUANTITIES

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self.net = context.net
        widest = max(math.prod(p.dense.out_shape) for p in self.layers)
        self._moments = TensorMoments(widest, self.net.dtype)
        self._slope = np.empty(self.net.batch * widest, self.net.dtype)
        self._under = np.empty(self.net.batch * widest, bool)

    def on_gradient(self, step: int) -> None:
        """Measure z, a, delta, the gradient and the weights."""
        n = len(self.layers[0].dense.y)
        root, moments = math.sqrt(n), self._moments
        for row, layer in zip(self.table, self.layers, strict=True):
            dense = layer.dense
            l2 = norm(layer.next.dx.reshape(-1)) * root  # the buffers hold delta / n
            row[RMS], row[L2] = l2 / math.sqrt(math.prod(dense.out_shape)), l2
            row[DW] = norm(dense.W.grad.reshape(-1))
            row[DB] = norm(dense.b.grad) if dense.b is not None else math.nan
            row[W] = norm(dense.W.value.reshape(-1))
            moments(flat(dense.y), row[Z])
            if layer.activation is None:
                row[A] = row[Z]
            else:
                row[SATURATION] = self._saturation(layer.activation)
                moments(flat(layer.activation.y), row[A])

    def on_update(self, optimizer: Optimizer) -> None:
        """Measure the proposed update."""
        scale, u = abs(optimizer.factor), optimizer.u
        for row, layer in zip(self.table, self.layers, strict=True):
            # a direction that is the gradient itself need not be measured twice
            step = scale * (row[DW] if optimizer.rescales_only else norm(u[layer.dense.W.part]))
            row[UPDATE] = step / row[W] if row[W] > 0 else math.nan

    def _saturation(self, activation: Activation) -> float:
        x, function = activation.x, activation.function
        slope, under = self._slope[: x.size].reshape(x.shape), self._under[: x.size].reshape(x.shape)
        function.df(x, activation.y, slope)
        if not function.monotone:
            np.abs(slope, out=slope)
        np.less(slope, SATURATION_THRESHOLD * function.max_slope, out=under)
        return np.count_nonzero(under) / x.size
