"""Expectations over Gaussian pre-activations, exact to rounding for smooth and kinked functions alike.

Gauss-Legendre panels cut the line where the integrand bends: at 0 and at phi's kinks, at the scale of phi
itself (u = 1, 2, 4, ...) and at the scale of the density (z = 1, 2, 4, ...), so that a variance of 1e-12
and one of 1e6 are served alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array

Function = Callable[[Array], Array]

TAIL = 12.0  # the density beyond is below 1e-31
_BENDS = (1.0, 2.0, 4.0, 7.0)
_OCTAVES = 40  # from there on phi is constant or a line, to rounding
PHASE_VARIANCE = 36.0  # from there on only u modulo the period counts, uniform to exp(-q)
_SMALLEST = 1e-300  # stands for q = 0: the limit from above, which a kink at 0 needs
_FINE = np.polynomial.legendre.leggauss(24)
_NESTED = np.polynomial.legendre.leggauss(16)
_DENSITY = 1 / math.sqrt(2 * math.pi)


def phi(function: ActivationFunction, u: Array) -> Array:
    """Return phi(u), the shape of ``u``."""
    out = np.empty_like(u)
    function.f(u, out)
    return out


def dphi(function: ActivationFunction, u: Array) -> Array:
    """Return phi'(u), the shape of ``u``."""
    a, out = phi(function, u), np.empty_like(u)
    function.df(u, a, out)
    return out


def _landmarks(scale: float, kinks: Sequence[float]) -> list[float]:
    """Return the points u where phi may bend: 0, powers of two up to the tail, and the kinks."""
    octaves = math.ceil(math.log2(max(TAIL * scale, 1.0)))
    powers = [2.0**k for k in range(min(octaves, _OCTAVES) + 1)]
    return [0.0, *powers, *(-p for p in powers), *kinks]


def _panels(edges: Array, rule: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return nodes and weights, (..., panels * order), for sorted ``edges`` (..., panels + 1)."""
    x, w = rule
    half = np.diff(edges)[..., None] / 2
    centre = (edges[..., :-1] + edges[..., 1:])[..., None] / 2
    shape = (*edges.shape[:-1], -1)
    return (centre + half * x).reshape(shape), (half * w).reshape(shape)


def rule(q: float, kinks: Sequence[float] = ()) -> tuple[Array, Array, Array]:
    """Return nodes u = sqrt(q) z, the z themselves and weights, so that E[g(u)] = sum of weights * g(u).

    ``kinks`` are the points u where g or a derivative of it jumps; q = 0 is the limit from above.
    """
    if not 0 <= q < math.inf:
        raise ValueError(f"a variance must be finite and not negative, got {q}")
    return _rule(q, tuple(kinks))


@lru_cache(maxsize=256)
def _rule(q: float, kinks: tuple[float, ...]) -> tuple[Array, Array, Array]:
    scale = math.sqrt(max(q, _SMALLEST))
    marks = [u / scale for u in _landmarks(scale, kinks)] + [*_BENDS, TAIL, -TAIL] + [-z for z in _BENDS]
    z, w = _panels(np.unique(np.clip(marks, -TAIL, TAIL)), _FINE)
    nodes = scale * z, z, w * np.exp(-0.5 * z * z) * _DENSITY
    for array in nodes:
        array.flags.writeable = False  # they are shared
    return nodes


def expectation(g: Function, q: float, kinks: Sequence[float] = ()) -> float:
    """Return E[g(u)] for u ~ N(0, q) (Poole et al. 2016, section 2); ``kinks``: where g or its slope jumps."""
    u, _, w = rule(q, kinks)
    return float(w @ g(u))


def pair_expectation(g: Function, q: float, c: float, kinks: Sequence[float] = ()) -> float:
    """Return E[g(u1) g(u2)] for u1, u2 ~ N(0, q) of correlation ``c`` (Poole et al. 2016, section 2).

    Parameters
    ----------
    g : callable
        An elementwise function.
    q : float
        The variance of both.
    c : float
        Their correlation, in [-1, 1].
    kinks : sequence of float
        Where g or its slope jumps.
    """
    if abs(c) >= 1:
        return expectation(lambda u: g(u) * g(math.copysign(1, c) * u), q, [*kinks, *(-k for k in kinks)])
    u1, w1, u2, w2 = pair_rule(q, c, kinks)
    return float((w1 * g(u1)) @ np.sum(g(u2) * w2, axis=1))


def pair_rule(q: float, c: float, kinks: Sequence[float] = ()) -> tuple[Array, Array, Array, Array]:
    """Return nodes and weights u1, w1 (m,) and u2, w2 (m, k), so that E[g(u1) h(u2)] = sum w1 g(u1) sum w2 h(u2).

    u1, u2 ~ N(0, q) of correlation ``c`` in (-1, 1). The inner integral is cut where g bends, the outer one where the
    inner's blurred kinks lie.
    """
    scale, blur = math.sqrt(max(q, _SMALLEST)), math.sqrt((1 - c) * (1 + c))
    marks = _landmarks(scale, kinks)
    outer = [u / scale for u in marks] + [*_BENDS, TAIL, -TAIL] + [-z for z in _BENDS]
    if abs(c) > 1e-3:
        widths = [blur * 2.0**k for k in range(math.ceil(math.log2(TAIL / blur)) + 1)]
        for kink in {0.0, *kinks}:
            centre = kink / scale / c
            outer += [centre, *(centre + b for b in widths), *(centre - b for b in widths)]
    z1, w1 = _panels(np.unique(np.clip(outer, -TAIL, TAIL)), _NESTED)
    inner = (np.array(marks) / scale - c * z1[:, None]) / blur
    fixed = np.broadcast_to([-TAIL, -4.0, -2.0, 0.0, 2.0, 4.0, TAIL], (len(z1), 7))
    edges = np.sort(np.clip(np.hstack([inner, fixed]), -TAIL, TAIL))
    z2, w2 = _panels(edges, _NESTED)
    u2 = scale * (c * z1[:, None] + blur * z2)
    return scale * z1, w1 * np.exp(-0.5 * z1 * z1) * _DENSITY, u2, w2 * np.exp(-0.5 * z2 * z2) * _DENSITY


def resolved(function: ActivationFunction, q: float) -> float:
    """Return the variance at which phi and phi' have the moments that they have at ``q``, and which nodes resolve.

    sin: E[sin(u)**2] = (1 - exp(-2 q)) / 2, and all means over its phase settle likewise.
    """
    return min(q, PHASE_VARIANCE) if function.periodic else q


def resolved_pair(function: ActivationFunction, q: float, c: float) -> tuple[float, float]:
    """Return the like of two samples of correlation ``c``, whose phases differ by q (1 - c): variance, correlation."""
    r = resolved(function, q)
    return r, c if r == q else max(1 - (1 - c) * q / r, 0.0)


def second_moment(function: ActivationFunction, q: float) -> float:
    """Return A(q) = E[phi(sqrt(q) z)**2]."""
    u, _, w = rule(resolved(function, q), function.kinks)
    return float(w @ phi(function, u) ** 2)


def slope_moment(function: ActivationFunction, q: float) -> float:
    """Return D(q) = E[phi'(sqrt(q) z)**2]."""
    u, _, w = rule(resolved(function, q), function.kinks)
    return float(w @ dphi(function, u) ** 2)


def second_moment_slope(function: ActivationFunction, q: float) -> float:
    """Return A'(q) = E[phi phi' z] / sqrt(q), which is E[phi'**2 + phi phi''] without a second derivative."""
    if resolved(function, q) != q:
        return 0.0
    level = abs(float(phi(function, np.zeros(1))[0]))
    q = max(q, 1e-12 if level else _SMALLEST)  # a constant in phi cancels between z and -z, to rounding only
    u, z, w = rule(q, function.kinks)
    return float(w @ (phi(function, u) * dphi(function, u) * z)) / math.sqrt(q)


@lru_cache(maxsize=64)
def scale_free(function: ActivationFunction) -> bool:
    """Return whether phi' is the same at every scale (linear, ReLU, leaky ReLU)."""
    small, large = slope_moment(function, 1e-6), slope_moment(function, 1e6)
    return abs(small - large) < 1e-12 * large


@lru_cache(maxsize=64)
def scale_free_beyond(function: ActivationFunction, q: float) -> bool:
    """Return whether phi' is the same, to 1 %, at every variance from ``q`` on (GELU, softplus: two straight lines)."""
    near, far = slope_moment(function, q), slope_moment(function, 1e10 * q)
    return abs(near - far) < 0.01 * far
