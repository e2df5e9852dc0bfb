"""Gradient check: the analytic gradient against extrapolated central differences, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.differences import ERROR_FACTOR, MAX_TOLERANCE, ROUND_OFF, TOLERANCE, Difference, derivative
from bpx.engine.layercheck import LayerCheck, check_layers
from bpx.engine.network import Network
from bpx.engine.parameters import Parameter


@dataclass(frozen=True)
class TensorCheck:
    """One parameter's check.

    Attributes
    ----------
    name : str
        Of the parameter.
    relative : float or None
        norm(n - a) / norm(n + a); None where the differences resolve nothing.
    tolerance : float
        1e-7 plus what the estimated error of the differences explains.
    entries, kinks : int
        Entries compared, and those of them left out because a unit crosses a kink within the difference.
    worst : tuple of int
        The entry that is off the most.
    error : float
        By how much.
    analytic, numeric : ndarray
        The gradient and the differences of the entries not left out.
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
    """The check of a network.

    Attributes
    ----------
    relative : float
        norm(n - a) / norm(n + a) over all entries not at a kink.
    tolerance : float
        1e-7 plus what the estimated error of the differences explains.
    directional : float
        The worst relative difference along random directions of all parameters.
    tensors, layers : tuple
        The checks of every parameter, and of every layer's backward.
    """

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
    """Return how far the gradient of a network at a batch agrees with differences of the cost.

    The differences are central, extrapolated from three steps, along random directions and entry by entry. An entry
    whose difference crosses a kink of an activation is left out and counted; a tensor whose gradient is below what the
    differences resolve is reported without a number. At last, every layer's backward is checked by itself, which tells
    where a derivative is wrong. Dropout's mask and running statistics hold still.

    Parameters
    ----------
    net : Network
        A float64 network.
    x, y : array
        The batch.
    train : bool
        Whether the pass is one of training or of evaluation.
    directions : int
        Random unit directions; their cost does not grow with the parameters.
    entries : int, optional
        At most so many of each tensor; all where None.
    epsilon : float
        The largest step, times max(1, abs(theta_i)).
    rng : numpy.random.Generator, optional
        Of the directions and the entries.

    Returns
    -------
    GradientCheck
        The relative differences, by tensor and layer.

    Raises
    ------
    ValueError
        The network is not float64, or truncates the gradient.
    """
    if net.dtype != np.float64:
        raise ValueError("the gradient check needs dtype=float64")
    if any(layer.truncate for layer in net.layers()):
        raise ValueError("model.truncate leaves out a part of the gradient: check the network with model.truncate=null")
    rng = np.random.default_rng(0) if rng is None else rng
    replica = net.replica(len(x))
    theta, layers = replica.parameters.theta, list(replica.layers())
    cost = replica.cost(x, y, train)
    replica.backward()
    grad = replica.parameters.grad.copy()
    floor = ROUND_OFF * max(abs(cost), 1.0) / epsilon

    def difference(direction: Array | float, step: float, index: int | slice = slice(None)) -> Difference:
        kept = theta[index].copy()

        def cost_at(h: float) -> float:
            theta[index] = kept + h * direction
            moved = replica.cost(x, y, train)
            theta[index] = kept
            return moved

        return derivative(cost_at, layers, step)

    directional = 0.0
    for _ in range(directions):
        d = rng.standard_normal(theta.size)
        d /= np.linalg.norm(d)
        slope, analytic = difference(d, epsilon), float(grad @ d)
        if slope.smooth and max(abs(slope.value), abs(analytic)) > floor:
            directional = max(directional, abs(slope.value - analytic) / abs(slope.value + analytic))

    checks: list[TensorCheck] = []
    errors: list[Array] = []
    for p in replica.parameters:
        chosen = np.arange(p.size)
        if entries is not None and p.size > entries:
            chosen = np.sort(rng.choice(p.size, entries, replace=False))
        places = p.part.start + chosen
        slopes = [difference(1.0, epsilon * max(1.0, abs(float(theta[i]))), int(i)) for i in places]
        check, error = _compare(p, chosen, grad[places], slopes, floor)
        checks.append(check)
        errors.append(error)
    n, a = (np.concatenate([getattr(check, kind) for check in checks]) for kind in ("numeric", "analytic"))
    tolerance = _tolerance(floor, np.concatenate(errors), n, a)
    passed = check_layers(replica, x, y, train, rng)
    return GradientCheck(relative_difference(n, a), tolerance, directional, tuple(checks), passed)


def _compare(
    p: Parameter, chosen: Array, grad: Array, slopes: Sequence[Difference], floor: float
) -> tuple[TensorCheck, Array]:
    """Return the check of a parameter's ``chosen`` entries, and the errors of the differences that cross no kink."""
    smooth = np.array([s.smooth for s in slopes])
    numeric, error = np.array([s.value for s in slopes]), np.array([s.error for s in slopes])[smooth]
    n, a = numeric[smooth], grad[smooth]
    scale, tolerance = max(np.abs(n).max(initial=0.0), np.abs(a).max(initial=0.0)), _tolerance(floor, error, n, a)
    off = np.abs(numeric - grad) * smooth
    worst = int(off.argmax())
    check = TensorCheck(
        name=p.name,
        relative=relative_difference(n, a) if scale > floor and tolerance < MAX_TOLERANCE else None,
        tolerance=tolerance,
        entries=len(chosen),
        kinks=int((~smooth).sum()),
        worst=tuple(int(i) for i in np.unravel_index(chosen[worst], p.shape)),
        error=float(off[worst]),
        analytic=a,
        numeric=n,
    )
    return check, error


def _tolerance(floor: float, error: Array, numeric: Array, analytic: Array) -> float:
    """Return the relative difference that the error of the differences, at least their round-off, explains."""
    total = float(np.linalg.norm(numeric + analytic))
    return TOLERANCE + (ERROR_FACTOR * float(np.linalg.norm(np.maximum(error, floor))) / total if total else 0.0)
