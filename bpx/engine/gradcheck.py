"""Gradient check: the analytic gradient against extrapolated central differences, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bpx.engine.activations import Activation
from bpx.engine.arrays import Array
from bpx.engine.differences import ERROR_FACTOR, MAX_TOLERANCE, ROUND_OFF, TOLERANCE, Difference, derivative
from bpx.engine.layercheck import LayerCheck, check_layers
from bpx.engine.network import Network


@dataclass(frozen=True)
class TensorCheck:
    """One parameter's check: relative difference (None where the differences resolve nothing), entries, kinks.

    ``tolerance`` is 1e-7 plus what the estimated error of the differences explains; ``worst`` entry, and ``error``, its
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
    directional: float
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
    """Compare the gradient of ``net`` at a batch with differences of the cost, extrapolated from three steps.

    Checks along random unit ``directions`` (their cost does not grow with the parameters; ``directional`` is the worst
    relative difference) and per entry, at most ``entries`` of each tensor (all where None), the step being epsilon
    times max(1, abs(theta_i)). An entry whose difference crosses a kink of an activation is left out and counted; a
    tensor whose gradient is below what the differences resolve is reported without a number. At last, every layer's
    backward is checked by itself, which tells where a derivative is wrong.
    Dropout's mask and running statistics hold still. Raises ValueError unless the network is float64.
    """
    if net.dtype != np.float64:
        raise ValueError("the gradient check needs dtype=float64")
    rng = np.random.default_rng(0) if rng is None else rng
    replica = net.replica(len(x))
    theta = replica.parameters.theta
    cost = replica.cost(x, y, train)
    replica.backward()
    grad = replica.parameters.grad.copy()
    floor = ROUND_OFF * max(abs(cost), 1.0) / epsilon

    def difference(direction: Array | float, step: float, index: int | slice = slice(None)) -> Difference:
        kept = theta[index].copy()

        def change(h: float) -> tuple[float, bool]:
            theta[index] = kept + h * direction
            up, sides_up = replica.cost(x, y, train), _sides(replica)
            theta[index] = kept - h * direction
            down, sides_down = replica.cost(x, y, train), _sides(replica)
            theta[index] = kept
            return up - down, all(np.array_equal(a, b) for a, b in zip(sides_up, sides_down, strict=True))

        return derivative(change, step)

    directional = 0.0
    for _ in range(directions):
        d = rng.standard_normal(theta.size)
        d /= np.linalg.norm(d)
        slope, analytic = difference(d, epsilon), float(grad @ d)
        if slope.smooth and max(abs(slope.value), abs(analytic)) > floor:
            directional = max(directional, abs(slope.value - analytic) / abs(slope.value + analytic))

    checks: list[TensorCheck] = []
    left: list[Array] = []  # the errors of the differences
    start = 0
    for p in replica.parameters:
        chosen = np.arange(p.size)
        if entries is not None and p.size > entries:
            chosen = np.sort(rng.choice(p.size, entries, replace=False))
        places = [start + int(i) for i in chosen]
        slopes = [difference(1.0, epsilon * max(1.0, abs(float(theta[i]))), i) for i in places]
        smooth = np.array([s.smooth for s in slopes])
        numeric, error = np.array([s.value for s in slopes]), np.array([s.error for s in slopes])[smooth]
        n, a = numeric[smooth], grad[places][smooth]
        scale, tolerance = max(np.abs(n).max(initial=0.0), np.abs(a).max(initial=0.0)), _tolerance(floor, error, n, a)
        off = np.abs(numeric - grad[places]) * smooth
        worst = int(off.argmax())
        checks.append(
            TensorCheck(
                p.name,
                relative_difference(n, a) if scale > floor and tolerance < MAX_TOLERANCE else None,
                tolerance,
                len(chosen),
                int((~smooth).sum()),
                tuple(int(i) for i in np.unravel_index(chosen[worst], p.shape)),
                float(off[worst]),
                a,
                n,
            )
        )
        left.append(error)
        start += p.size
    n, a = (np.concatenate([getattr(check, kind) for check in checks]) for kind in ("numeric", "analytic"))
    layers = check_layers(replica, x, y, train, rng)
    tolerance = _tolerance(floor, np.concatenate(left), n, a)
    return GradientCheck(relative_difference(n, a), tolerance, directional, tuple(checks), layers)


def _tolerance(floor: float, error: Array, numeric: Array, analytic: Array) -> float:
    """Return the relative difference that the error of the differences, at least their round-off, explains."""
    total = float(np.linalg.norm(numeric + analytic))
    return TOLERANCE + (ERROR_FACTOR * float(np.linalg.norm(np.maximum(error, floor))) / total if total else 0.0)


def _sides(net: Network) -> list[Array]:
    """On which side of each kink every unit stands."""
    return [layer.x > kink for layer in net.layers() if isinstance(layer, Activation) for kink in layer.function.kinks]
