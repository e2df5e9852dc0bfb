"""Batch normalization at a finite width: the directions that a batch spans, and what is left of delta along them.

A unit's values over the batch have the covariance C (B, B), which n units of the layer before give: its effective rank
r = (tr C)**2 / tr C**2 is below B - 1, and 1 / r = 1 / (B - 1) + e follows

    e_(l+1) = lambda**2 e_l + 1 / n,   lambda = E[phi']**2 / Var phi,

from the rank that the first pre-activation has. The fewer directions, the more a unit's variance fluctuates.
The lengths of the samples part, too, by the noise of n units.
Backward, sum_i z_ij delta_ij = 0 in every unit j, and delta_j goes with 1 / |z_j|: W^T delta loses 2 / n in the span
of the batch, and what is lost there comes back through the layers before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.theory.architecture import Architecture
from bpx.theory.batchnorm import batch_factors, batch_moments, length_growth
from bpx.theory.gaussian import dphi, phi, rule
from bpx.theory.steps import Step

_LOW, _HIGH = 16, 64  # batches between which the moments' slope over 1 / r is taken


@final
@dataclass(frozen=True)
class BatchDrift:
    """What the rank of the batch does, layer by layer from the input on.

    Attributes
    ----------
    shift : ndarray (L,)
        Of ln(||delta_l||**2 / ||delta_(l+1)||**2) through the weights.
    length : ndarray (L, L)
        Covariance of ln of the mean of 1 / (a unit's variance) over a layer's units.
    """

    shift: Array
    length: Array


def batch_drift(
    net: Architecture, q: Sequence[float], steps: Sequence[Step], rank: float, lengths: float
) -> BatchDrift:
    """Follow the effective ``rank`` and the variance of the samples' log ``lengths`` from the first layer on."""
    f, B, L = net.activation, net.batch_size, len(q)
    spread, kept = batch_factors(f, B, net.keep_prob)
    low, high = batch_moments(f, _LOW, net.keep_prob), batch_moments(f, _HIGH, net.keep_prob)
    pair, apart = batch_moments(f, B, net.keep_prob).A_pair, 1 / (_LOW - 1) - 1 / (_HIGH - 1)
    slope_D = math.log(low.D / high.D) / apart
    slope_A = math.log((low.A - pair) / (high.A - pair)) / apart
    u, _, w = rule(1.0, f.kinks)
    mean_slope = float(w @ dphi(f, u)) ** 2
    response = mean_slope / spread
    growth, curved_A, curved_D, parting = _lengths(f)
    parted = max(lengths - 2 / net.hidden[0], 0.0)  # without the noise of n units
    e, dln_q = max(1 / rank - 1 / net.hidden[0] - (1 + parted) / (B - 1), 0.0), 0.0  # without what unequal lengths take
    excess, shift = np.zeros(L), np.zeros(L)
    for layer in range(L):
        excess[layer] = e + parted / (B - 1)
        shift[layer] = 2 * excess[layer] + slope_D * e + curved_D * parted - dln_q
        if layer < L - 1:
            into = steps[layer].forward_share
            dln_q = (1 - into) * dln_q + into * (slope_A * e + curved_A * parted)
            normalized = (1 - 1 / B) ** 2 / (
                1 + 2 * (1 / (B - 1) + e)
            )  # a unit's values: less kurtosis in r directions
            kept_length = (1 - into) + into * growth
            parted = normalized * (kept_length**2 * parted + into * into * parting / net.hidden[layer])
            e = ((1 - into) + into * response) ** 2 * e + into * into / net.hidden[layer]
    inverse = 1 / (B - 1) + excess
    lost = 1.0  # of delta_(l+1) in the span of the batch, in 2 / n
    for layer in reversed(range(L - 1)):
        shift[layer] -= 2 / net.hidden[layer] * lost
        through = response * mean_slope / (kept * (1 + 2 * excess[layer]))
        share = steps[layer].backward_share
        lost = (1 - share) * lost + share * (1 + through * lost)
    qs = np.array(q)
    alike = np.minimum.outer(qs, qs) / np.maximum.outer(qs, qs) if net.residual else np.eye(L)
    known = qs[0] / qs if net.residual else np.eye(L)[0]  # q1 is measured
    noise = 2 * inverse / np.maximum(1 - 4 * inverse, 0.25)
    scale = np.sqrt(np.outer(noise, noise)) / np.array(net.hidden, float)
    return BatchDrift(shift, scale * (alike - np.outer(known, known)))


@lru_cache(maxsize=64)
def _lengths(f: ActivationFunction) -> tuple[float, float, float, float]:
    """Return what samples of unequal length do, V being the variance of the log of their mean z**2.

    Their growth in a layer; ln Var phi and ln E[phi'**2] by V; and n times the variance that n units add.
    """
    h = 0.1

    def moments(t: float) -> tuple[float, float, float]:
        u, _, w = rule(t, f.kinks)
        a = phi(f, u)
        return float(w @ a), float(w @ a**2), float(w @ dphi(f, u) ** 2)

    low, (m, A, D), high = moments(1 - h), moments(1.0), moments(1 + h)
    bend_m, bend_A, bend_D = (np.array(low) - 2 * np.array((m, A, D)) + np.array(high)) / h**2
    u, _, w = rule(1.0, f.kinks)
    variance = A - m * m
    fourth = float(w @ (phi(f, u) - m) ** 4)
    return length_growth(f), (0.5 * bend_A - m * bend_m) / variance, 0.5 * bend_D / D, fourth / variance**2 - 1
