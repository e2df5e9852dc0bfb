"""Mean-field theory of wide random networks: length and correlation map, fixed points, depth scales.

W ~ N(0, sigma_w**2 / fan_in), b ~ N(0, sigma_b**2); q is the variance of a pre-activation; with inverted
dropout that keeps a unit with probability rho, sigma_w**2 becomes sigma_w**2 / rho where one sample is
followed, but not between two samples, whose masks differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.numbers import require
from bpx.theory.gaussian import (
    dphi,
    pair_expectation,
    phi,
    resolved_pair,
    second_moment,
    second_moment_slope,
    slope_moment,
)
from bpx.theory.roots import root

LengthLimit = Literal["fixed", "any", "vanishes", "diverges"]
Q_MIN, Q_MAX = 1e-10, 1e10  # a length that leaves this range has vanished or diverged
MAX_SIGMA = 1e60  # of a sigma: the fourth power, which V makes of it, is a number still
_Q_INFINITE = 1e20  # stands for q = inf in a limit
_STEP = 1.25
_FLAT = 1e-12  # |V(q)/q - 1| below this is rounding: q stays where it is


@final
@dataclass(frozen=True)
class Ensemble:
    """Wide random layers (Poole et al. 2016; Schoenholz et al. 2017).

    Attributes
    ----------
    function : ActivationFunction
        The activation.
    sigma_w, sigma_b : float
        Standard deviation of the weights times sqrt(fan_in), and of the biases.
    keep_prob : float
        The share of units that dropout keeps.
    """

    function: ActivationFunction
    sigma_w: float
    sigma_b: float = 0.0
    keep_prob: float = 1.0

    def __post_init__(self) -> None:
        for key, value in (("sigma_w", self.sigma_w), ("sigma_b", self.sigma_b)):
            require(0 <= value <= MAX_SIGMA, key, f"a number of at least 0 and at most {MAX_SIGMA:g}", value)
        require(0 < self.keep_prob <= 1, "keep_prob", "in (0, 1]", self.keep_prob)

    @property
    def _scale(self) -> float:
        return self.sigma_w**2 / self.keep_prob

    def length(self, q: float) -> float:
        """Return V(q) = sigma_w**2 E[phi(sqrt(q) z)**2] / keep_prob + sigma_b**2, the next layer's variance."""
        return self._scale * second_moment(self.function, q) + self.sigma_b**2

    def length_slope(self, q: float) -> float:
        """Return V'(q) = sigma_w**2 E[phi'**2 + phi phi''] / keep_prob."""
        return self._scale * second_moment_slope(self.function, q)

    def chi(self, q: float) -> float:
        """Return chi(q) = sigma_w**2 E[phi'(sqrt(q) z)**2] / keep_prob, the factor of ||delta||**2 per layer."""
        return self._scale * slope_moment(self.function, q)

    def correlation(self, c: float, q: float) -> float:
        """Return (sigma_w**2 E[phi(u1) phi(u2)] + sigma_b**2) / V(q), ``c`` being u1 and u2's correlation."""
        at = resolved_pair(self.function, q, c)
        product = pair_expectation(lambda u: phi(self.function, u), *at, self.function.kinks)
        return (self.sigma_w**2 * product + self.sigma_b**2) / self.length(q)

    def correlation_slope(self, c: float, q: float) -> float:
        """Return sigma_w**2 E[phi'(u1) phi'(u2)], the slope of the correlation map at ``c``, q fixed."""
        at = resolved_pair(self.function, q, c)
        return self.sigma_w**2 * pair_expectation(lambda u: dphi(self.function, u), *at, self.function.kinks)

    def growth(self, q: float) -> float:
        """Return V(q) / q - 1, zero at a fixed point; 0 where it is rounding only."""
        g = self.length(q) / q - 1
        return 0.0 if abs(g) < _FLAT else g

    def iterate_to_fixed_point(self, start: float) -> tuple[float, LengthLimit]:
        """Return the length that layers converge to from the variance ``start``, and what became of it.

        V is walked from ``start`` in the direction in which it moves; the first fixed point there is the one
        reached. ``any``: every length is a fixed point. ``vanishes`` and ``diverges`` come with 0 and inf.
        """
        if start <= 0:
            start = max(self.length(0.0), Q_MIN)
        g = self.growth(start)
        if g == 0 and self.growth(4 * start) == 0:
            return start, "any"
        q = start
        while g != 0:
            following = q * _STEP if g > 0 else q / _STEP
            h = self.growth(following)
            lost = following > Q_MAX if g > 0 else following < Q_MIN
            if lost or (h == 0 and self.growth(following * following / q) == 0):  # a drift below rounding
                return (math.inf, "diverges") if g > 0 else (0.0, "vanishes")
            if h * g < 0:
                a, b = sorted((q, following))
                return root(lambda x: self.length(x) / x - 1, a, b, xtol=1e-15, rtol=1e-14), "fixed"
            q, g = following, h
        return q, "fixed"

    def unstable_lengths(self) -> list[float]:
        """Return the fixed points of V that lengths flee (V' > 1), between 1e-6 and 1e6."""
        grid = np.geomspace(1e-6, 1e6, 120)
        values = [self.growth(float(q)) for q in grid]
        return [
            root(lambda x: self.length(x) / x - 1, grid[i], grid[i + 1], rtol=1e-13)
            for i in range(len(grid) - 1)
            if values[i] < 0 < values[i + 1]
        ]


@final
@dataclass(frozen=True)
class MeanField:
    """What theory says of infinitely many layers, reached from a given start.

    Attributes
    ----------
    q_star : float
        The length: 0 where it vanishes, inf where it diverges, the start where any stays.
    limit : str
        fixed, any, vanishes or diverges: what becomes of the length.
    chi_1 : float
        Factor of ||delta||**2 per layer.
    slope : float
        V'(q_star).
    c_star, chi_c : float or None
        The correlation that two samples end at, and the map's slope there; None where the length gives no answer.
    xi_q, xi_c : float or None
        Layers over which length and correlation forget by a factor e, inf at criticality (Schoenholz et al. 2017,
        section 3); None where the length gives no answer.
    note : str
        What else to know.
    """

    q_star: float
    limit: LengthLimit
    chi_1: float
    slope: float
    c_star: float | None
    chi_c: float | None
    xi_q: float | None
    xi_c: float | None
    note: str


def mean_field(
    function: ActivationFunction,
    sigma_w: float,
    sigma_b: float = 0.0,
    *,
    keep_prob: float = 1.0,
    start: float | None = None,
) -> MeanField:
    """Return q*, chi_1, c* and the depth scales xi = -1 / ln(slope) of the two maps.

    Parameters
    ----------
    function : ActivationFunction
        The activation.
    sigma_w, sigma_b : float
        Standard deviation of the weights times sqrt(fan_in), and of the biases.
    keep_prob : float
        The share of units that dropout keeps.
    start : float, optional
        Variance of the first pre-activation; sigma_w**2 + sigma_b**2 unless given (inputs of unit second moment).

    Returns
    -------
    MeanField
        What infinitely many layers end at.

    Raises
    ------
    ValueError
        A sigma is negative.

    References
    ----------
    Schoenholz, Gilmer, Ganguli and Sohl-Dickstein (2017), Deep Information Propagation, sections 3 and 4.
    """
    net = Ensemble(function, sigma_w, sigma_b, keep_prob)
    q, limit = net.iterate_to_fixed_point(sigma_w**2 + sigma_b**2 if start is None else start)
    at = min(q, _Q_INFINITE)
    chi_1, slope = net.chi(at), net.length_slope(at)
    note = _note(net, limit, q)
    if limit == "diverges":
        return MeanField(q, limit, chi_1, slope, None, None, None, None, note)
    c, chi_c = _correlation_fixed_point(net, q, chi_1)
    return MeanField(q, limit, chi_1, slope, c, chi_c, _depth_scale(slope), _depth_scale(chi_c), note)


def _correlation_fixed_point(net: Ensemble, q: float, chi_1: float) -> tuple[float, float]:
    """Return the stable fixed point c* of the correlation map and its slope; the map is convex."""
    q = max(q, Q_MIN)
    top = 1 - 1e-9
    if (net.keep_prob == 1 and chi_1 <= 1 + 1e-6) or net.length(q) == 0 or net.correlation(top, q) >= top:
        return 1.0, net.correlation_slope(1.0, q)
    c = 0.0
    if net.correlation(0.0, q) > 1e-12:
        c = root(lambda x: net.correlation(x, q) - x, 0.0, top, xtol=1e-13, rtol=1e-13)
    return c, net.correlation_slope(c, q)


def _depth_scale(slope: float) -> float:
    """Return -1 / ln(slope), inf where the slope is 1 or more, 0 where it is 0."""
    if slope >= 1 - 1e-9:
        return math.inf
    return -1 / math.log(slope) if slope > 0 else 0.0


def _note(net: Ensemble, limit: LengthLimit, q: float) -> str:
    if limit == "any":
        return "every length is a fixed point: a net keeps the one it starts with"
    unstable = [f"{u:.4g}" for u in net.unstable_lengths()]
    flee = f"; unstable fixed point at q = {', '.join(unstable)}, which no net shows" if unstable else ""
    if limit == "diverges":
        return "the length grows without bound; chi_1 is its limit" + flee
    if limit == "vanishes":
        return "the length decays to 0; chi_1 is its limit" + flee
    return flee.removeprefix("; ")
