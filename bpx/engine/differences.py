"""Derivatives by central differences, with an estimate of their error from three step sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.layer import Layer

ROUND_OFF = float(np.finfo(np.float64).eps)
TOLERANCE = 1e-7  # of a relative difference, beyond the error of the difference itself
ERROR_FACTOR = 4.0  # the error of a difference may be so many times its estimate
MAX_TOLERANCE = 1e-3  # what is left less than this by the error of the difference is not checked
_STEPS = (0.5, 1.0, 2.0)  # times the step asked for


@dataclass(frozen=True)
class Difference:
    """A derivative's ``value``, the estimate of its ``error``, and whether it was ``smooth``: no kink was crossed."""

    value: float
    error: float
    smooth: bool


def derivative(f: Callable[[float], float], layers: Iterable[Layer], step: float) -> Difference:
    """Return f'(0) by Richardson extrapolation; kinks are those that ``f`` makes the units of ``layers`` cross.

    D(h) = (f(h) - f(-h)) / 2h is off by f''' h**2 / 6 and by round-off / h. R(h) = (4 D(h) - D(2h)) / 3 is free of the
    first; the value is R(step), and its error is estimated by R(step) - R(step / 2), which holds both what is left of
    the series (of order h**4) and, doubled, the round-off. (Richardson 1911.)
    """
    layers = list(layers)
    slopes, smooth = [], True
    for h in (scale * step for scale in _STEPS):
        up, above = f(h), _sides(layers)
        down, below = f(-h), _sides(layers)
        slopes.append((up - down) / (2 * h))
        smooth &= all(map(np.array_equal, above, below))
    half, one, two = slopes
    value = (4 * one - two) / 3
    return Difference(value, abs(value - (4 * half - one) / 3), smooth)


def _sides(layers: Iterable[Layer]) -> list[Array]:
    """On which side of each kink every unit stands."""
    return [side for layer in layers for side in layer.sides()]
