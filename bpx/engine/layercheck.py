"""Check every layer's backward by itself: what tells where in a network a derivative is wrong.

A wrong derivative makes the gradient of everything nearer to the input wrong, but only one layer's backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.differences import ERROR_FACTOR, MAX_TOLERANCE, ROUND_OFF, TOLERANCE, derivative
from bpx.engine.layer import Layer
from bpx.engine.network import Network

_STEP, _N_DIRECTIONS, _MAX_TRIES = 1e-5, 3, 10


@dataclass(frozen=True)
class LayerCheck:
    """One backward: |n - a| / norm(dx), n and a being the slope of dy . y along a random direction of the input.

    Attributes
    ----------
    name : str
        Of the layer, or ``loss``.
    relative : float or None
        The largest over the directions; None where it cannot be said: dx is zero, every direction tried crosses a kink,
        or the error of the differences leaves less than three digits.
    tolerance : float
        1e-7 plus what that error explains.
    """

    name: str
    relative: float | None
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether backward is the derivative of forward, as far as the difference can tell."""
        return self.relative is None or self.relative <= self.tolerance


@dataclass
class _Pass:
    """What a step sends through a layer: its input, the gradient at its output, the gradient at its input."""

    layer: Layer
    x: Array
    dy: Array
    dx: Array


def check_layers(net: Network, x: Array, y: Array, train: bool, rng: np.random.Generator) -> tuple[LayerCheck, ...]:
    """Check the backward of every layer and of the loss at the values of one step; ``net`` is a replica, in float64.

    A layer without a gradient at its input (the first) is left out: its parameters are checked as tensors.
    """
    net.cost(x, y, train)
    net.loss.backward()
    z, dz = net.blocks[-1].y.copy(), net.loss.dx.copy()

    def cost(z: Array) -> Array:
        return np.array([net.loss.cost(z, y)])

    passes = [p for p in _passes(net.blocks, net.shaped(x), dz, train) if p.dx.size]
    checks = [_check(p.layer.name, p.x, p.dx, p.dy, _forward(p.layer, train), [*p.layer.layers()], rng) for p in passes]
    return (*checks, _check("loss", z, dz, np.ones(1), cost, [], rng))


def _forward(layer: Layer, train: bool) -> Callable[[Array], Array]:
    return lambda x: layer.forward(x, train)


def _passes(layers: Sequence[Layer], x: Array, dy: Array, train: bool) -> list[_Pass]:
    """Send ``x`` forward and ``dy`` backward through a chain; return what went through each, and those inside it."""
    inputs: list[Array] = []
    for layer in layers:
        inputs.append(x.copy())
        x = layer.forward(x, train)
    found: list[_Pass] = []
    for layer, entered in zip(reversed(layers), reversed(inputs), strict=True):
        dx = layer.backward(dy).copy()
        found = [_Pass(layer, entered, dy, dx), *_passes(layer.branch, entered, dy, train), *found]
        dy = dx
    return found


def _check(
    name: str,
    x: Array,
    dx: Array,
    dy: Array,
    output: Callable[[Array], Array],
    layers: Sequence[Layer],
    rng: np.random.Generator,
) -> LayerCheck:
    """Compare dx with differences of dy . output(x) along random directions."""
    h = _STEP * (float(np.linalg.norm(x)) / math.sqrt(x.size) or 1.0)
    size, off = float(np.linalg.norm(dx)), []
    error = ROUND_OFF * float(np.linalg.norm(dy)) * max(float(np.linalg.norm(output(x))), 1.0) / h
    for _ in range(_MAX_TRIES):
        v = rng.standard_normal(x.shape)

        def value_at(step: float, v: Array = v) -> float:
            return float(np.vdot(dy, output(x + step * v)))

        slope = derivative(value_at, layers, h)
        if slope.smooth:
            off.append(abs(slope.value - float(np.vdot(dx, v))))
            error = max(error, slope.error)
        if len(off) == _N_DIRECTIONS:
            break
    tolerance = TOLERANCE + (ERROR_FACTOR * error / size if size else 0.0)
    if not off or size == 0 or tolerance > MAX_TOLERANCE:
        return LayerCheck(name, None, tolerance)
    return LayerCheck(name, max(off) / size, tolerance)
