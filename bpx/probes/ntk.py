"""The neural tangent kernel: how a step on one sample moves the outputs of another, and how training changes that."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

import numpy as np

from bpx.engine.arrays import Array, Values
from bpx.engine.blas import norm
from bpx.engine.models import build
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.probes.probe import Probe, ProbeContext, WeightLayer, weight_layers

MAX_SAMPLES, MIN_SAMPLES = 200, 2
MAX_OUTPUTS = 16  # the first ones; each costs a backward pass
MAX_PASSES = 320  # backward of single samples, one for each output, where gradients are formed
MAX_ENTRIES = 20_000_000  # of all these gradients


@final
class NTK(Probe):
    """Measure the neural tangent kernel of the fixed samples, the mean over the outputs f_k, dropout off.

    K(x, y) = 1/n_out sum_k <df_k(x)/dtheta, df_k(y)/dtheta>, f the last pre-activation, in float64. (Jacot et al. 2018)

    - ntk_eigenvalue: ``index`` is the rank, largest first
    - ntk_condition: the largest over the smallest; NaN where the smallest is below rounding
    - ntk_change: |K - K_0| / |K_0| in the Frobenius norm, K_0 at the first record: near 0 training is lazy, the network
      is its linearization (Chizat et al. 2019); large, it learns features; NaN beyond all numbers
    """

    name = "ntk"
    other_quantities = ("ntk_eigenvalue", "ntk_condition", "ntk_change")
    state_fields = ("start",)

    def __init__(self, context: ProbeContext) -> None:
        self.net = context.net
        spec, n_parameters = self.net.spec, self.net.parameters.theta.size
        own = self.net if spec is None else build(replace(spec, dtype="float64"))
        self.by_layer = _is_dense_only(own)
        n = min(MAX_SAMPLES, len(context.samples))
        if not self.by_layer:
            outputs = min(self.net.n_out, MAX_OUTPUTS)
            n = min(n, MAX_PASSES // outputs, MAX_ENTRIES // (outputs * n_parameters))
        if any(isinstance(layer, Normalization) and layer.over_batch for layer in own.layers()):
            self.left_out = "probes.ntk: batch normalization makes outputs depend on the other samples"
        elif n < MIN_SAMPLES:
            self.left_out = f"probes.ntk: {n_parameters:,} parameters are too many, or {n} samples too few"
        self.start = np.zeros((0 if self.left_out else n,) * 2)
        keys = [("", "", "ntk_eigenvalue", i) for i in range(n)]
        keys += [("", "", quantity, 0) for quantity in self.other_quantities[1:]]
        self.declare([] if self.left_out else keys)
        if not self.left_out:
            self.x = np.asarray(context.samples[:n], np.float64)
            self.replica = ProbeContext(own).replica(n if self.by_layer else 1)
            self.replica.parameters.detach()

    def on_gradient(self, step: int) -> None:
        """Compute the kernel at this step's theta, and its eigenvalues."""
        if not self.keys:
            return
        self.values[:] = math.nan
        self.replica.parameters.theta[:] = self.net.parameters.theta
        with np.errstate(all="ignore"):
            K = tangent_kernel(self.replica, self.x, self.by_layer)
        if not np.isfinite(K).all():
            return
        eigenvalues = np.linalg.eigvalsh(K)[::-1]
        smallest = eigenvalues[-1] if eigenvalues[-1] > len(K) * np.finfo(float).eps * eigenvalues[0] else math.nan
        if not self.start.any():
            self.start[:] = K
        self.values[:-2] = eigenvalues
        before = norm(self.start.reshape(-1))
        change = norm((K - self.start).reshape(-1)) / before if before else math.nan
        self.values[-2:] = eigenvalues[0] / smallest, change if math.isfinite(change) else math.nan


def tangent_kernel(net: Network, x: Array, by_layer: bool) -> Values:
    """Return the kernel of the rows of ``x``, (n, n), the mean over the first MAX_OUTPUTS outputs.

    ``by_layer``: the network has Dense parameters alone, and is bound to all rows; a gradient of W is a_i^T delta_i,
    and no gradient is formed: <a_i, a_j> <delta_i, delta_j>. Otherwise it is bound to one row.
    """
    outputs = min(net.n_out, MAX_OUTPUTS)
    n = len(x)
    K = np.zeros((n, n))
    if by_layer:
        layers = weight_layers(net)
        dz = np.zeros_like(net.forward(x, train=True))
        inputs = [np.asarray(layer.dense.x) for layer in layers]
        grams = [a @ a.T + (layer.dense.b is not None) for a, layer in zip(inputs, layers, strict=True)]
        for k in range(outputs):
            dz[...] = 0
            dz[:, k] = 1
            net.backward_from(dz)
            for gram, layer in zip(grams, layers, strict=True):
                delta = _delta(layer, dz, layers)
                K += gram * (delta @ delta.T)
        return K / outputs
    J = np.empty((outputs, n, net.parameters.theta.size))
    for i in range(n):
        dz = np.zeros_like(net.forward(x[i : i + 1], train=True))
        for k in range(outputs):
            dz[...] = 0
            dz[..., k] = 1
            net.backward_from(dz)
            J[k, i] = net.parameters.grad
    return sum((one @ one.T for one in J), K) / outputs


def _delta(layer: WeightLayer, dz: Array, layers: list[WeightLayer]) -> Array:
    return dz if layer is layers[-1] else np.asarray(layer.following.dx)


def _is_dense_only(net: Network) -> bool:
    """Tell whether every parameter is a W or b of a Dense without positions."""
    own = {p.name for dense in net.dense for p in (dense.W, dense.b) if p is not None}
    return own == {p.name for p in net.parameters} and all(len(dense.shape) == 1 for dense in net.dense)
