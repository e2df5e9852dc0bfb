"""Check every layer's backward by itself: what tells where in a network a derivative is wrong.

A wrong derivative makes the gradient of everything nearer to the input wrong, but only one layer's backward.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bpx.engine.activations import Activation
from bpx.engine.layer import Array, Layer
from bpx.engine.network import Network

ROUND_OFF = float(np.finfo(np.float64).eps)
TOLERANCE = 1e-7  # of a relative difference, beyond what round-off explains
SLACK = 4.0  # the errors of a cost may be so many times its round-off
_STEP, _DIRECTIONS, _TRIES = 1e-5, 3, 10


@dataclass(frozen=True)
class LayerCheck:
    """One backward: |n - a| / norm(dx), n and a being the slope of dy . y along a random direction of the input.

    ``relative`` is None where it cannot be said: dx is zero, or every direction tried crosses a kink.
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
    """Compare dx with central differences of dy . output(x) along random directions."""
    h = _STEP * (float(np.linalg.norm(x)) / math.sqrt(x.size) or 1.0)
    size, found, noise = float(np.linalg.norm(dx)), [], 0.0
    for _ in range(_TRIES):
        v = rng.standard_normal(x.shape)
        up = float(np.vdot(dy, output(x + h * v)))
        sides = _sides(layers)
        y = output(x - h * v)
        if all(np.array_equal(a, b) for a, b in zip(sides, _sides(layers), strict=True)):
            found.append(abs((up - float(np.vdot(dy, y))) / (2 * h) - float(np.vdot(dx, v))))
            noise = ROUND_OFF * float(np.linalg.norm(dy)) * max(float(np.linalg.norm(y)), 1.0) / h
        if len(found) == _DIRECTIONS:
            break
    if not found or size == 0:
        return LayerCheck(name, None, TOLERANCE)
    return LayerCheck(name, max(found) / size, TOLERANCE + SLACK * noise / size)


def _sides(layers: list[Layer]) -> list[Array]:
    """On which side of each kink every unit of these layers stands."""
    inner = [part for layer in layers for part in layer.layers() if isinstance(part, Activation)]
    return [a.x > kink for a in inner for kink in a.function.kinks]
