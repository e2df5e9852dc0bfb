"""The gradient through time: the mean-field map of a plain recurrence, and how it differs from draw to draw of W."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array, Values
from bpx.theory.gaussian import second_moment, second_moment_slope, slope_moment
from bpx.theory.prediction import backward_slope

DRAWS = 20
_LONGEST = 1e100  # variance of z beyond which nothing is followed
_DIGITS = 4  # of a variance: steps whose variances agree to them share their integrals
_TWO_SIDED_95 = 2.145  # of one more draw beside DRAWS: Student's t of 19 times sqrt(1 + 1 / 20)
_ALIKE = 1e-9  # decades a step: draws that differ by rounding
Draw = Callable[[np.random.Generator], Array]


class RecurrentMap(NamedTuple):
    """What the map of a plain recurrence says.

    Attributes
    ----------
    slope : float
        Least-squares slope of log10 ||dJ/dh_t||, decades a step, signed going backward.
    memory : float
        V'(q) at the last step: the share of a difference in length that the next step keeps.
    """

    slope: float
    memory: float


def recurrent_map(function: ActivationFunction, sigma_w: float, drive: Values) -> RecurrentMap | None:
    """Follow lengths and gradients through h_t = phi(u_t + h_(t-1) U); None where they leave the range of numbers.

    q_1 = v_1, q_t = sigma_w**2 E[phi(sqrt(q_(t-1)) z)**2] + v_t, and ||dJ/dh_(t-1)|| is sqrt(chi_t) ||dJ/dh_t||, with
    chi_t = sigma_w**2 E[phi'(sqrt(q_t) z)**2]: that U is the same at every step does not matter to first order in wide
    layers. (Poole et al. 2016, eq. 3; Chen et al. 2018, section 3.)

    Parameters
    ----------
    function : ActivationFunction
        phi.
    sigma_w : float
        sqrt(n var(U)).
    drive : ndarray (steps,)
        The variance v_t of the input sums over the units, by step.
    """
    q, logs = float(drive[0]), list[float]()
    for v in drive[1:]:
        q = sigma_w**2 * second_moment(function, q) + float(v)
        if not q < _LONGEST:
            return None
        q = float(f"{q:.{_DIGITS}e}")
        chi = sigma_w**2 * slope_moment(function, q)
        if not chi > 0:
            return None
        logs.append(math.log10(chi) / 2)
    slope = backward_slope(np.cumsum([0.0, *reversed(logs)])[::-1].tolist())
    return RecurrentMap(slope, sigma_w**2 * second_moment_slope(function, q))


def drawn_band(
    keep: Array, enter: Array, by_state: Array, by_source: Array, draw: Draw, source_is_h: bool
) -> tuple[float, float] | None:
    """Return between which slopes 95 % of draws of W have theirs, decades a step; None where one has none.

    The forward pass is kept, and a random gradient of the last step is sent back through W drawn anew, independent of
    what it meets, as theory takes it: in layers of n units the slope differs from draw to draw, and over many steps it
    comes to that of the largest eigenvalues. (Mean and standard deviation of DRAWS draws.) Also None where all draws
    are alike: orthogonal weights without an activation.

    Parameters
    ----------
    keep, enter : ndarray (steps, rows, n)
        As for ``gradient_through_time``.
    by_state, by_source : ndarray (gates, steps, rows, n)
        Likewise.
    draw : callable
        Returns W^T by gate, (gates, n, n), of a random generator.
    source_is_h : bool
        Whether dJ/dh_t is e_t, not s_t.
    """
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(DRAWS):
        Wt, e, s = draw(rng), rng.standard_normal(keep.shape[1:]), np.zeros(keep.shape[1:])
        logs, log = np.zeros(len(keep)), 0.0
        for t in reversed(range(len(keep))):
            s += enter[t] * e
            size = float(np.linalg.norm(e if source_is_h else s))
            if not 0 < size < math.inf:
                return None
            e, s, log = e / size, s / size, log + math.log10(size)
            logs[t] = log
            e = np.matmul(by_state[:, t] * s + by_source[:, t] * e, Wt).sum(axis=0)
            s *= keep[t]
        slopes.append(backward_slope(logs.tolist()))
    mean, give = float(np.mean(slopes)), _TWO_SIDED_95 * float(np.std(slopes, ddof=1))
    return (mean - give, mean + give) if give > _ALIKE else None
