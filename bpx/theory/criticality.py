"""The edge of chaos: where chi_1(q*) = 1, and the plane of (sigma_w, sigma_b) around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.theory.gaussian import phi, scale_free, second_moment, second_moment_slope, slope_moment
from bpx.theory.meanfield import Q_MAX, Q_MIN, Ensemble
from bpx.theory.roots import root

_POINTS = 401
_NARROWINGS = 5


def _edge(function: ActivationFunction, q: float) -> tuple[float, float]:
    """Return the (sigma_w, sigma_b**2) whose edge of chaos has the length q: sigma_w**2 = 1 / E[phi'**2]."""
    D = slope_moment(function, q)
    return 1 / math.sqrt(D), q - second_moment(function, q) / D


def critical_sigma_w(function: ActivationFunction, sigma_b: float = 0.0, keep_prob: float = 1.0) -> float:
    """Return the sigma_w on the edge of chaos: chi_1(q*) = 1 with q* a fixed point that lengths converge to.

    For linear, ReLU and leaky ReLU any length will do; with sigma_b > 0 it grows linearly with depth. Raises
    ValueError where no sigma_w does it. (Schoenholz et al. 2017; Hayou et al. 2019.)
    """
    Ensemble(function, 0.0, sigma_b, keep_prob)  # checks the numbers
    if scale_free(function):
        return math.sqrt(keep_prob / slope_moment(function, 1.0))
    at_zero = float(phi(function, np.zeros(1))[0])
    if sigma_b == 0 and at_zero == 0:
        sigma_w = 1 / math.sqrt(slope_moment(function, 0.0))
        if Ensemble(function, sigma_w).growth(1e-3) <= 0:
            return sigma_w * math.sqrt(keep_prob)
        raise _no_edge(function, sigma_b)
    grid = np.geomspace(Q_MIN, Q_MAX, 81)
    values = [_edge(function, float(q))[1] - sigma_b**2 for q in grid]
    for i in range(len(grid) - 1):
        if values[i] < 0 <= values[i + 1]:
            q = root(lambda x: _edge(function, x)[1] - sigma_b**2, grid[i], grid[i + 1], rtol=1e-14)
            if second_moment_slope(function, q) <= slope_moment(function, q):  # V' <= 1
                return _edge(function, q)[0] * math.sqrt(keep_prob)
    raise _no_edge(function, sigma_b)


def _no_edge(function: ActivationFunction, sigma_b: float) -> ValueError:
    """Return the error that says from which sigma_b on the edge is stable, if from any."""
    hint = "give initializer.sigma_w"
    grid = [float(q) for q in np.geomspace(1e-3, 1e4, 141)]
    excess = [second_moment_slope(function, q) - slope_moment(function, q) for q in grid]
    for i in range(len(grid) - 1):
        if excess[i] > 0 >= excess[i + 1]:
            q = root(lambda x: second_moment_slope(function, x) - slope_moment(function, x), grid[i], grid[i + 1])
            if (least := _edge(function, q)[1]) > 0:
                hint += f" or a bias_std of at least {math.ceil(1000 * math.sqrt(least)) / 1000:g}"
                break
    return ValueError(
        f"{function.name} has no critical sigma_w at bias_std = {sigma_b:g}: where chi_1 = 1 its length"
        f" runs away from the fixed point; {hint}"
    )


@final
@dataclass(frozen=True)
class PhaseDiagram:
    """chi_1 over the plane of sigma_w and sigma_b, and the edge of chaos in it (Poole et al. 2016).

    Attributes
    ----------
    sigma_w, sigma_b : ndarray (n,), (m,)
        The axes.
    chi_1 : ndarray (m, n)
        Factor of ||delta||**2 per layer.
    edge : ndarray (2, k)
        sigma_w and sigma_b along chi_1 = 1.
    stable : ndarray (k,)
        Whether lengths converge there.
    """

    sigma_w: Array
    sigma_b: Array
    chi_1: Array
    edge: Array
    stable: Array


def phase_diagram(function: ActivationFunction, sigma_w: Array, sigma_b: Array, keep_prob: float = 1.0) -> PhaseDiagram:
    """Return chi_1 over a grid, from a start at sigma_w**2 + sigma_b**2.

    Lengths are looked up in a table of 20 a decade, which leaves chi_1 right to about 1e-3.
    (Poole et al. 2016; Schoenholz et al. 2017.)

    Parameters
    ----------
    function : ActivationFunction
        The activation.
    sigma_w, sigma_b : array (n,), (m,)
        The grid.
    keep_prob : float
        The share of units that dropout keeps.
    """
    q = np.geomspace(Q_MIN, Q_MAX, _POINTS)
    A = np.array([second_moment(function, float(x)) for x in q])
    D = np.array([slope_moment(function, float(x)) for x in q])
    chi_1 = np.empty((len(sigma_b), len(sigma_w)))
    rows = np.arange(len(sigma_b))
    for j, s in enumerate(sigma_w):
        growth = np.log((s**2 / keep_prob * A + sigma_b[:, None] ** 2) / q + 1e-300)  # (m, q)
        growth[np.abs(growth) < 1e-12] = 0
        start = np.clip(np.searchsorted(q, s**2 + sigma_b**2), 1, _POINTS - 2)
        up = growth[rows, start] > 0
        index = np.arange(_POINTS)
        ahead = np.where(up[:, None], index >= start[:, None], index <= start[:, None])
        turned = ahead & np.where(up[:, None], growth <= 0, growth >= 0)
        end = np.where(up, _first(turned, _POINTS - 1), _POINTS - 1 - _first(turned[:, ::-1], _POINTS - 1))
        before = np.clip(end + np.where(up, -1, 1), 0, _POINTS - 1)
        here, there = growth[rows, end], growth[rows, before]
        share = np.where(here * there < 0, here / np.where(here == there, 1, here - there), 0)
        chi_1[:, j] = s**2 / keep_prob * np.exp((1 - share) * np.log(D[end]) + share * np.log(D[before]))
    if scale_free(function):
        edge = np.array([np.full(len(sigma_b), 1 / math.sqrt(D[0])), sigma_b])
        stable = np.ones(len(sigma_b), bool)
    else:
        fine, points = _edge_in_view(function, q, q - A / D, float(np.max(sigma_b)) ** 2)
        edge = np.array([points[:, 0], np.sqrt(np.maximum(points[:, 1], 0))])
        stable = np.array([second_moment_slope(function, x) <= slope_moment(function, x) for x in fine], bool)
    edge[0] *= math.sqrt(keep_prob)
    return PhaseDiagram(sigma_w, sigma_b, chi_1, edge, stable)


def phase_diagram_around(
    function: ActivationFunction, sigma_w: float, sigma_b: float, keep_prob: float = 1.0, points: int = 160
) -> PhaseDiagram:
    """Return the plane around one point, so wide that it holds the critical sigma_w too, if there is one.

    Parameters
    ----------
    function : ActivationFunction
        The activation.
    sigma_w, sigma_b : float
        The point.
    keep_prob : float
        The share of units that dropout keeps.
    points : int
        Of the grid, in either direction.
    """
    widest = max(3.0, 1.3 * sigma_w)
    try:
        widest = max(widest, 1.3 * critical_sigma_w(function, sigma_b, keep_prob))
    except ValueError:
        pass  # the plane then shows where it would be, unstable, or not at all
    across, up = np.linspace(0.02, widest, points), np.linspace(0, max(1.0, 1.3 * sigma_b), 3 * points // 4)
    return phase_diagram(function, across, up, keep_prob)


def _edge_in_view(function: ActivationFunction, q: Array, squared: Array, highest: float) -> tuple[list[float], Array]:
    """Return lengths along the edge and its (sigma_w, sigma_b**2), (k, 2), for sigma_b**2 from 0 to ``highest``.

    ``squared`` is sigma_b**2 at the lengths ``q``. The edge may cross the plane between two of them (sigmoid's
    does), so the lengths are narrowed down until most are in view.
    """
    for _ in range(_NARROWINGS):
        low, high = np.minimum(squared[1:], squared[:-1]), np.maximum(squared[1:], squared[:-1])
        cells = np.flatnonzero((high >= 0) & (low <= highest))
        if not len(cells):
            return [], np.empty((0, 2))
        q = np.geomspace(q[cells[0]], q[cells[-1] + 1], 200)
        points = np.array([_edge(function, float(x)) for x in q])
        squared = points[:, 1]
        if np.mean((squared >= 0) & (squared <= highest)) > 0.5:
            break
    return [float(x) for x in q], points


def _first(found: Array, otherwise: int) -> Array:
    """Return the index of the first True in each row of ``found`` (m, n), ``otherwise`` if there is none."""
    return np.where(found.any(axis=1), found.argmax(axis=1), otherwise)
