"""Check every layer's backward by itself: what tells where in a network a derivative is wrong.

A wrong derivative makes the gradient of everything nearer to the input wrong, but only one layer's backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bpx.engine.activations import Activation
from bpx.engine.arrays import Array
from bpx.engine.differences import ERROR_FACTOR, MAX_TOLERANCE, ROUND_OFF, TOLERANCE, derivative
from bpx.engine.layer import Layer
from bpx.engine.network import Network

_STEP, _N_DIRECTIONS, _MAX_TRIES = 1e-5, 3, 10


@dataclass(frozen=True)
class LayerCheck:
    """One backward: |n - a| / norm(dx), n and a being the slope of dy . y along a random direction of the input.

    ``relative`` is None where it cannot be said: dx is zero, every direction tried crosses a kink, or the error of the
    differences leaves less than three digits. ``tolerance`` is 1e-7 plus what that error explains.
    """

    name: str
    relative: float | None
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether backward is the derivative of forward, as far as the difference can tell."""
        return self.relative is None or self.relative <= self.tolerance


@dataclass
class _Passed:
    """What a step sends through a layer: its input, the gradient at its output, the gradient at its input."""

    x: Array
    dy: Array
    dx: Array


def check_layers(net: Network, x: Array, y: Array, train: bool, rng: np.random.Generator) -> tuple[LayerCheck, ...]:
    """Check the backward of every layer and of the loss at the values of one step; ``net`` is a replica, in float64.

    A layer without a gradient at its input (the first) is left out: its parameters are checked as tensors.
    """
    passed = _step(net, x, y, train)
    z, dz = net.blocks[-1].y.copy(), passed[net.blocks[-1].name].dy
    checks = []
    for layer in net.layers():
        values = passed[layer.name]
        if values.dx.size:
            checks.append(_check(layer.name, values.x, values.dx, values.dy, _output(layer, train), [layer], rng))
    cost = _check("loss", z, dz, np.ones(1), lambda v: np.array([net.loss.forward(v, y)]), [], rng)
    return (*checks, cost)


def _output(layer: Layer, train: bool) -> Callable[[Array], Array]:
    return lambda x: layer.forward(x, train)


def _step(net: Network, x: Array, y: Array, train: bool) -> dict[str, _Passed]:
    """Make a step and return what went through each layer, by name."""
    passed: dict[str, _Passed] = {}

    def listen(layer: Layer) -> None:
        forward, backward = layer.forward, layer.backward
        inputs: list[Array] = []

        def heard_forward(x: Array, train: bool) -> Array:
            inputs.append(x.copy())
            return forward(x, train)

        def heard_backward(dy: Array) -> Array:
            dx = backward(dy)
            passed[layer.name] = _Passed(inputs[-1], dy.copy(), dx.copy())
            return dx

        vars(layer).update(forward=heard_forward, backward=heard_backward)

    for layer in net.layers():
        listen(layer)
    net.cost(x, y, train)
    net.backward()
    for layer in net.layers():
        del vars(layer)["forward"], vars(layer)["backward"]
    return passed


def _check(
    name: str,
    x: Array,
    dx: Array,
    dy: Array,
    output: Callable[[Array], Array],
    layers: list[Layer],
    rng: np.random.Generator,
) -> LayerCheck:
    """Compare dx with differences of dy . output(x) along random directions."""
    h = _STEP * (float(np.linalg.norm(x)) / math.sqrt(x.size) or 1.0)
    size, off = float(np.linalg.norm(dx)), []
    error = ROUND_OFF * float(np.linalg.norm(dy)) * max(float(np.linalg.norm(output(x))), 1.0) / h
    for _ in range(_MAX_TRIES):
        v = rng.standard_normal(x.shape)

        def change(step: float, v: Array = v) -> tuple[float, bool]:
            up = float(np.vdot(dy, output(x + step * v)))
            sides = _sides(layers)
            down = float(np.vdot(dy, output(x - step * v)))
            return up - down, all(np.array_equal(a, b) for a, b in zip(sides, _sides(layers), strict=True))

        slope = derivative(change, h)
        if slope.smooth:
            off.append(abs(slope.value - float(np.vdot(dx, v))))
            error = max(error, slope.error)
        if len(off) == _N_DIRECTIONS:
            break
    tolerance = TOLERANCE + (ERROR_FACTOR * error / size if size else 0.0)
    if not off or size == 0 or tolerance > MAX_TOLERANCE:
        return LayerCheck(name, None, tolerance)
    return LayerCheck(name, max(off) / size, tolerance)


def _sides(layers: list[Layer]) -> list[Array]:
    """On which side of each kink every unit of these layers stands."""
    inner = [part for layer in layers for part in layer.layers() if isinstance(part, Activation)]
    return [a.x > kink for a in inner for kink in a.function.kinks]
