"""The sharpness of the cost: the largest eigenvalue of its Hessian, beside the largest that the optimizer bears."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import final

import numpy as np
from scipy.linalg import eigh_tridiagonal

from bpx.engine.arrays import Array, Values
from bpx.engine.models import build
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.engine.parameters import Parameter
from bpx.probes.probe import Probe, ProbeContext

MAX_PARAMETERS = 1_000_000
MAX_PRODUCTS = 64_000_000  # of a weight and an input, in one pass: 64 samples of a million weights
MIN_SAMPLES = 8
MAX_RESTARTS = 20
VECTORS = 12  # of a Lanczos basis
KEPT = 3  # leading Ritz vectors whose sum the next basis begins with: another may become the largest
TOLERANCE = 5e-5  # relative, of an eigenvalue
STEP = 1e-5  # of the difference of two gradients, times max(1, |theta|)


@final
class Sharpness(Probe):
    """Measure the curvature of the cost of the fixed samples, dropout off, against the optimizer's limit.

    The first of them, where weights are used at many positions: a pass has at most ``MAX_PRODUCTS``.

    - lambda_max: the largest eigenvalue of the Hessian, by Lanczos in a float64 replica, begun where the last one ended
    - lr_lambda_max: learning rate times it, with Adam and RMSprop that of the Hessian preconditioned by their divisors
    - stability_bound: on a quadratic, where lr_lambda_max is larger, the optimizer diverges: 2 for SGD, 2 (1 + beta)
      with momentum, 2 (1 + beta) / (1 + 2 beta) with Nesterov's, 2 (1 + beta1) / (1 - beta1) for Adam

    (Cohen et al. 2021, appendix B; Cohen et al. 2022, section 2.)
    """

    name = "sharpness"
    other_quantities = ("lambda_max", "lr_lambda_max", "stability_bound")
    state_fields = ("start", "start_scaled")

    def __init__(self, context: ProbeContext) -> None:
        self.net = context.net
        n = self.net.parameters.theta.size
        if context.targets is None or (self.net.spec is None and self.net.dtype != np.float64):
            self.left_out = "probes.sharpness: it needs targets, and a network that was built from a NetworkSpec"
        elif n > MAX_PARAMETERS:
            self.left_out = f"probes.sharpness: {n:,} parameters are more than {MAX_PARAMETERS:,}"
        few = MAX_PRODUCTS // max(1, products(self.net))
        if not self.left_out and few < min(MIN_SAMPLES, len(context.samples)):
            self.left_out = f"probes.sharpness: {MIN_SAMPLES} samples need more than {MAX_PRODUCTS:,} products"
        self.declare([] if self.left_out else [("", "", quantity, 0) for quantity in self.other_quantities])
        self.start = self.start_scaled = np.empty(0)
        if self.left_out or context.targets is None:
            return
        self.x, self.y = np.asarray(context.samples[:few], np.float64), context.targets[:few]
        own = self.net if self.net.spec is None else build(replace(self.net.spec, dtype="float64"))
        self.replica = ProbeContext(own).replica(len(self.x))
        self.replica.parameters.detach()
        self.start, self.start_scaled = np.random.default_rng(0).standard_normal((2, n))

    def on_gradient(self, step: int) -> None:
        """Find the largest eigenvalue at this step's theta."""
        if not self.keys:
            return
        self.values[:] = math.nan
        self.replica.parameters.theta[:] = self.net.parameters.theta
        self.values[0], self.start = largest_eigenvalue(hessian_product(self.replica, self.x, self.y), self.start)

    def on_update(self, optimizer: Optimizer) -> None:
        """Multiply it by the learning rate; with a preconditioner, find that of the preconditioned Hessian."""
        if not self.keys:
            return
        largest, divisors = self.values[0], optimizer.preconditioner()
        if divisors is not None and math.isfinite(largest):
            root = np.sqrt(np.asarray(divisors, np.float64))
            product = hessian_product(self.replica, self.x, self.y)
            largest, self.start_scaled = largest_eigenvalue(lambda v: root * product(root * v), self.start_scaled)
        self.values[1:] = optimizer.lr * largest, optimizer.stability_bound


def products(net: Network) -> int:
    """Return how many products of a parameter and an input a forward pass of one sample has."""
    found = ((layer, value) for layer in net.layers() for value in vars(layer).values() if isinstance(value, Parameter))
    return sum(value.value.size * math.prod(layer.shape[:-1]) for layer, value in found)


def hessian_product(net: Network, x: Array, y: Array) -> Callable[[Values], Values]:
    """Return v -> H v, H the Hessian of the cost of (x, y) at theta, by a central difference of gradients.

    ``net`` is a float64 network whose theta is its own: it is moved and put back.
    """
    theta = net.parameters.theta
    kept = theta.copy()
    size = STEP * max(1.0, float(np.linalg.norm(kept)))

    def gradient(at: Values) -> Values:
        theta[:] = at
        net.cost(x, y)
        net.backward()
        theta[:] = kept
        return net.parameters.grad.copy()

    def product(v: Values) -> Values:
        v = v.reshape(-1)
        length = float(np.linalg.norm(v))
        if length == 0:
            return np.zeros_like(v)
        h = size / length
        return (gradient(kept + h * v) - gradient(kept - h * v)) / (2 * h)

    return product


def largest_eigenvalue(product: Callable[[Values], Values], start: Values) -> tuple[float, Values]:
    """Return the largest eigenvalue of a symmetric operator, by Lanczos from ``start``, and the next time's start.

    It ends where the bound of the eigenvalue's error, min(r, r^2 / gap), is below TOLERANCE: r is the residual of the
    Ritz vector, gap the distance to the next Ritz value. Two eigenvalues that are closer than r count as one, whose
    value lies between them. (Parlett 1980, chapters 11 and 13)

    NaN, and ``start`` again, where it is not finite or does not converge.
    """
    begin = start
    for _ in range(MAX_RESTARTS):
        basis, diagonal, below = np.zeros((min(len(start), VECTORS), len(start))), [], []
        q = begin
        for j in range(len(basis)):
            basis[j] = q / np.linalg.norm(q)
            with np.errstate(all="ignore"):
                q = product(basis[j])
            if not np.isfinite(q).all():
                return math.nan, start
            diagonal.append(float(basis[j] @ q))
            for _ in range(2):  # once leaves rounding errors that grow
                q = q - basis[: j + 1].T @ (basis[: j + 1] @ q)
            below.append(float(np.linalg.norm(q)))
            values, vectors = eigh_tridiagonal(diagonal, below[:-1])
            residual, largest = below[-1] * abs(vectors[-1, -1]), float(values[-1])
            gap = largest - values[-2] if j else 0.0
            error = min(residual, residual**2 / gap) if gap > 0 else residual
            done = j >= KEPT and error <= TOLERANCE * abs(largest)
            if done or below[-1] <= len(start) * np.finfo(float).eps * abs(values).max():
                return largest, basis[: j + 1].T @ vectors[:, -KEPT:].sum(axis=1)
        begin = basis.T @ vectors[:, -KEPT:].sum(axis=1)
    return math.nan, start
