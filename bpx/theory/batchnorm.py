"""Batch normalization at a finite batch size: moments over the sphere of a unit's normalized values.

Deep in a batch-normalized net all samples are alike to each other, so the values of a unit over a batch of B,
normalized, are uniform on the sphere of radius sqrt(B) in the B - 1 dimensions orthogonal to (1, ..., 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
from scipy.special import betaln

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.theory.gaussian import dphi, phi, rule

ROUNDED_BATCH = 3  # of two samples a unit keeps none of delta, of three one direction: the rest is rounding
MIN_BATCH = 8  # the mean of 1 / variance and the density below need some samples
_NODES = np.polynomial.legendre.leggauss(16)


@final
@dataclass(frozen=True)
class BatchMoments:
    """Moments of the normalized values x, y of two samples.

    Attributes
    ----------
    A, A_pair : float
        E[phi(x)**2], E[phi(x) phi(y)].
    D, D_pair : float
        E[phi'(x)**2], E[phi'(x) phi'(y)].
    M, M_pair : float
        E[(x phi'(x))**2], E[x phi'(x) y phi'(y)].
    """

    A: float
    A_pair: float
    D: float
    D_pair: float
    M: float
    M_pair: float


def _coordinate(dimension: int, cuts: Array) -> tuple[Array, Array]:
    """Return nodes t and weights for one coordinate of the unit sphere in ``dimension`` dimensions.

    The density is (1 - t**2)**((dimension - 3) / 2); ``cuts`` (..., k) are where the integrand bends.
    """
    width = 1 / math.sqrt(dimension)
    fixed = np.clip(np.array([-40, -8, -4, -2, -1, 0, 1, 2, 4, 8, 40]) * width, -1, 1)
    cuts = np.clip(cuts, -1, 1)
    edges = np.sort(np.concatenate([np.broadcast_to(fixed, (*cuts.shape[:-1], len(fixed))), cuts], axis=-1))
    half = np.diff(edges)[..., None] / 2
    t = (edges[..., :-1, None] + half + half * _NODES[0]).reshape(*edges.shape[:-1], -1)
    w = (half * _NODES[1]).reshape(t.shape)
    inside = np.maximum(1 - t * t, 1e-300)
    power = (dimension - 3) / 2
    return t, w * np.exp(power * np.log(inside) - betaln(0.5, power + 1))


@lru_cache(maxsize=64)
def batch_moments(function: ActivationFunction, batch: int, keep_prob: float = 1.0) -> BatchMoments:
    """Return the moments for a batch of ``batch`` samples (at least 8), dropout included in A and D.

    The fixed point is that of Yang et al. 2019.
    """
    marks = np.array([0.0, *function.kinks, 1.0, -1.0])
    radius, c = math.sqrt(batch - 1), -1 / (batch - 1)
    t, w = _coordinate(batch - 1, marks / radius)
    x = radius * t
    # what is left of the second sample's coordinate
    rest = math.sqrt((1 - c) * (1 + c)) * np.sqrt(np.maximum(1 - t * t, 1e-30))
    s, v = _coordinate(batch - 2, (marks / radius - c * t[:, None]) / rest[:, None])
    y = radius * (c * t[:, None] + rest[:, None] * s)
    a, slope = phi(function, x), dphi(function, x)
    a_pair, slope_pair = phi(function, y), dphi(function, y)
    D = float(w @ slope**2) / keep_prob
    return BatchMoments(
        A=float(w @ a**2) / keep_prob,
        A_pair=float(w @ (a * np.sum(v * a_pair, axis=1))),
        D=D,
        D_pair=float(w @ (slope * np.sum(v * slope_pair, axis=1))),
        M=float(w @ (x * slope) ** 2) / keep_prob,
        M_pair=float(w @ (x * slope * np.sum(v * y * slope_pair, axis=1))),
    )


def batch_factors(function: ActivationFunction, batch: int, keep_prob: float = 1.0) -> tuple[float, float]:
    """Return (spread, slope), so that ||delta||**2 has the factor slope / spread per layer at any sigma_w.

    ``sigma_w**2 * spread`` is the variance of a unit over the batch, A - A_pair (B -> infinity: Var phi(z)).
    ``slope`` is what backward keeps, D less the parts along (1, ..., 1) and along x, times B / (B - 3) for
    the mean of 1 / variance (B -> infinity: E[phi'**2]). The limit is Yang et al.'s (2019).
    """
    m = batch_moments(function, batch, keep_prob)
    kept = m.D - (m.D - m.D_pair + m.M - m.M_pair) / batch
    return m.A - m.A_pair, kept * batch / (batch - 3)


@lru_cache(maxsize=64)
def length_growth(function: ActivationFunction) -> float:
    """Return what multiplies a sample's log length, away from the batch's, in a layer: E[z phi' (phi - m)] / Var phi.

    z ~ N(0, 1), m = E phi (batch -> infinity). 1 for what is homogeneous, below 1 for what saturates.
    """
    z, _, w = rule(1.0, function.kinks)
    centred = phi(function, z) - float(w @ phi(function, z))
    return float(w @ (z * dphi(function, z) * centred)) / float(w @ centred**2)
