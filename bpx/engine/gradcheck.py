"""Gradient check: the analytic gradient against central differences, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bpx.engine.activations import Activation
from bpx.engine.layer import Array
from bpx.engine.layercheck import ROUND_OFF, SLACK, TOLERANCE, LayerCheck, check_layers
from bpx.engine.network import Network

RESOLVED = 1e-3  # a tensor for which round-off leaves less than this is not checked: it is below the floor


@dataclass(frozen=True)
class TensorCheck:
    """One parameter's check: relative difference (None below the round-off floor), entries, kinks, worst entry.

    ``tolerance`` is 1e-7 plus what the difference's round-off explains; ``error`` is the worst entry's
    absolute difference.
    """

    name: str
    relative: float | None
    tolerance: float
    entries: int
    kinks: int
    worst: tuple[int, ...]
    error: float
    analytic: Array
    numeric: Array

    @property
    def passed(self) -> bool:
        """Whether the gradient is right, as far as the difference can tell."""
        return self.relative is None or self.relative <= self.tolerance


@dataclass(frozen=True)
class GradientCheck:
    """The check of a network: ``relative`` = norm(n - a) / norm(n + a) over all entries not at a kink."""

    relative: float
    tolerance: float
    along: float
    tensors: tuple[TensorCheck, ...]
    layers: tuple[LayerCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether the whole, every tensor and every layer's backward are right."""
        parts = [t.passed for t in self.tensors] + [layer.passed for layer in self.layers]
        return self.relative <= self.tolerance and all(parts)

    @property
    def worst(self) -> TensorCheck:
        """The tensor that exceeds its tolerance the most, or comes nearest to it."""
        return max(self.tensors, key=lambda t: (t.relative or 0.0) / t.tolerance)

    @property
    def kinks(self) -> int:
        """The number of entries left out because a unit crosses a kink within the difference."""
        return sum(t.kinks for t in self.tensors)


def relative_difference(numeric: Array, analytic: Array) -> float:
    """Return norm(n - a) / norm(n + a), and 0 where both are zero."""
    total = float(np.linalg.norm(numeric + analytic))
    return float(np.linalg.norm(numeric - analytic)) / total if total else 0.0


def gradcheck(
    net: Network,
    x: Array,
    y: Array,
    *,
    train: bool = True,
    directions: int = 5,
    entries: int | None = None,
    epsilon: float = 1e-5,
    rng: np.random.Generator | None = None,
) -> GradientCheck:
    """Compare the gradient of ``net`` at a batch with central differences (J(theta + h) - J(theta - h)) / 2h.

    Checks along random unit ``directions`` (their cost does not grow with the parameters; ``along`` is the worst
    relative difference) and per entry, at most ``entries`` of each tensor (all where None), h being epsilon times
    max(1, abs(theta_i)). An entry whose difference crosses a kink of an activation is left out and counted; a
    tensor whose gradient is below the round-off floor of the difference is reported without a number. At last,
    every layer's backward is checked by itself, which tells where a derivative is wrong.
    Dropout's mask and running statistics hold still. Raises ValueError unless the network is float64.
    """
    if net.dtype != np.float64:
        raise ValueError("the gradient check needs dtype=float64")
    rng = np.random.default_rng(0) if rng is None else rng
    replica = net.replica(len(x))
    theta = replica.store.theta
    cost = replica.cost(x, y, train)
    replica.backward()
    grad = replica.store.grad.copy()
    floor = ROUND_OFF * max(abs(cost), 1.0) / epsilon

    def difference(step: Array, index: int | slice = slice(None)) -> tuple[float, bool]:
        kept = theta[index].copy()
        theta[index] = kept + step
        up, sides_up = replica.cost(x, y, train), _sides(replica)
        theta[index] = kept - step
        down, sides_down = replica.cost(x, y, train), _sides(replica)
        theta[index] = kept
        same = all(np.array_equal(a, b) for a, b in zip(sides_up, sides_down, strict=True))
        return up - down, not same

    along = 0.0
    for _ in range(directions):
        d = rng.standard_normal(theta.size)
        d /= np.linalg.norm(d)
        change, kink = difference(epsilon * d)
        numeric, analytic = change / (2 * epsilon), float(grad @ d)
        if not kink and max(abs(numeric), abs(analytic)) > floor:
            along = max(along, abs(numeric - analytic) / abs(numeric + analytic))

    checks: list[TensorCheck] = []
    start = 0
    for p in replica.store.parameters:
        chosen = np.arange(p.size)
        if entries is not None and p.size > entries:
            chosen = np.sort(rng.choice(p.size, entries, replace=False))
        numeric_entries = np.zeros(len(chosen))
        smooth = np.ones(len(chosen), bool)
        for k, i in enumerate(chosen):
            h = epsilon * max(1.0, abs(float(theta[start + i])))
            change, kink = difference(np.array(h), start + int(i))
            numeric_entries[k], smooth[k] = change / (2 * h), not kink
        analytic_entries = grad[start + chosen]
        n, a = numeric_entries[smooth], analytic_entries[smooth]
        scale, tolerance = max(np.abs(n).max(initial=0.0), np.abs(a).max(initial=0.0)), _tolerance(floor, n, a)
        errors = np.abs(numeric_entries - analytic_entries) * smooth
        worst = int(errors.argmax())
        checks.append(
            TensorCheck(
                p.name,
                relative_difference(n, a) if scale > floor and tolerance < RESOLVED else None,
                tolerance,
                len(chosen),
                int((~smooth).sum()),
                tuple(int(i) for i in np.unravel_index(chosen[worst], p.shape)),
                float(errors[worst]),
                a,
                n,
            )
        )
        start += p.size
    n, a = (np.concatenate([getattr(check, kind) for check in checks]) for kind in ("numeric", "analytic"))
    layers = check_layers(replica, x, y, train, rng)
    return GradientCheck(relative_difference(n, a), _tolerance(floor, n, a), along, tuple(checks), layers)


def _tolerance(floor: float, numeric: Array, analytic: Array) -> float:
    total = float(np.linalg.norm(numeric + analytic))
    return TOLERANCE + (SLACK * floor * math.sqrt(numeric.size) / total if total else 0.0)


def _sides(net: Network) -> list[Array]:
    """On which side of each kink every unit stands."""
    return [layer.x > kink for layer in net.layers() if isinstance(layer, Activation) for kink in layer.function.kinks]
