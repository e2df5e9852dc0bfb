"""Finite width: how far the gradient of one random net strays from theory's line.

A mean over n units has a relative variance of order 1/n in every layer. Written for the logarithms:
epsilon_f is the noise of the mean of phi**2 over a layer's units, epsilon_b that of ||delta||**2 there.
delta_l2 averages over a batch, which removes what its samples do not share: noise is averaged over the pairs
of a batch, whose forward correlation c and backward correlation r are followed through the layers.
(For one sample of a ReLU net the variance of ln ||delta||**2 grows by 5/n a layer: Hanin & Nica 2020.)
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import final

import numpy as np
from scipy.special import digamma, polygamma

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.theory.gaussian import dphi, pair_rule, phi, resolved_pair, rule, scale_free, scale_free_beyond

CORRELATIONS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.87, 0.93, 0.97, 0.99, 1.0)
_NEAR, _FAR = 1e-12, 1e6  # variances at which most units stand near 0, and far from every bend of phi


@final
@dataclass(frozen=True)
class Moments:
    """Second and fourth moments of phi and phi' at one length, of one sample and of a pair of samples.

    Attributes
    ----------
    A, D : float
        E[phi**2], E[phi'**2].
    A4, D4, AD : float
        E[phi**4] / A**2, E[phi'**4] / D**2, E[phi**2 phi'**2] / (A D), of one sample.
    A11, D11 : float
        E[phi phi], E[phi' phi'] of a pair.
    A22, D22, AD22 : float
        The same of their squares, over A**2, D**2 and A D.
    """

    A: float
    D: float
    A4: float
    D4: float
    AD: float
    A11: float
    D11: float
    A22: float
    D22: float
    AD22: float


def moments(function: ActivationFunction, q: float, c: float) -> Moments:
    """Return the moments of phi and phi' for u1, u2 ~ N(0, q) of correlation ``c``.

    q to two digits, c interpolated between tabulated values: right to about 1 %, which a band's width can bear.
    """
    q, c = resolved_pair(function, q, c)
    if q != (unit := unit_variance(function, q)):
        m = moments(function, unit, c)
        return replace(m, A=q / unit * m.A, A11=q / unit * m.A11)
    q, c = float(f"{q:.2g}"), min(max(c, 0.0), 1.0)
    above = max(bisect_left(CORRELATIONS, c), 1)
    low, high = CORRELATIONS[above - 1], CORRELATIONS[above]
    share = (c - low) / (high - low)
    a, b = astuple(_moments(function, q, low)), astuple(_moments(function, q, high))
    return Moments(*((1 - share) * x + share * y for x, y in zip(a, b, strict=True)))


def unit_variance(function: ActivationFunction, q: float) -> float:
    """Return the variance whose moments are those of ``q`` but for A's scale: there phi is one line or two from 0."""
    if scale_free(function):
        return 1.0
    if q > _FAR and scale_free_beyond(function, _FAR):
        return _FAR
    return _NEAR if q < _NEAR and phi(function, np.zeros(1))[0] == 0 else q


@lru_cache(maxsize=1024)
def _moments(function: ActivationFunction, q: float, c: float) -> Moments:
    u, _, w = rule(q, function.kinks)
    a, d = phi(function, u), dphi(function, u)
    A, D = float(w @ a**2), float(w @ d**2)
    scale_a, scale_d = 1 / max(A, 1e-300), 1 / max(D, 1e-300)
    alone = {
        "A4": float(w @ a**4) * scale_a**2,
        "D4": float(w @ d**4) * scale_d**2,
        "AD": float(w @ (a * d) ** 2) * scale_a * scale_d,
    }
    if c == 1:
        return Moments(A=A, D=D, A11=A, D11=D, A22=alone["A4"], D22=alone["D4"], AD22=alone["AD"], **alone)
    u1, w1, u2, w2 = pair_rule(q, c, function.kinks)
    a, d = phi(function, u1), dphi(function, u1)
    a2, d2 = phi(function, u2), dphi(function, u2)
    across = [np.einsum("ij,ij->i", w2, v) for v in (a2, d2, a2 * a2, d2 * d2)]
    return Moments(
        A=A,
        D=D,
        A11=float(w1 @ (a * across[0])),
        D11=float(w1 @ (d * across[1])),
        A22=float(w1 @ (a * a * across[2])) * scale_a**2,
        D22=float(w1 @ (d * d * across[3])) * scale_d**2,
        AD22=float(w1 @ (a * a * across[3])) * scale_a * scale_d,
        **alone,
    )


@final
@dataclass(frozen=True)
class Alone:
    """The noise of one sample in a net with shortcuts, beside that of the batch's mean: by layers.

    Attributes
    ----------
    cov : ndarray (L, 2, 2)
        Covariance of (epsilon_f, epsilon_b).
    cross_variance : ndarray (L,)
        Variance of ``cross``.
    between : ndarray (5, L, L)
        Covariances between different layers.
    length_variance : float
        Variance of ln of a sample's length in the first layer.
    length_noise : float
        What of it is the noise of the units.
    bend : ndarray (L, 2), or None
        q**2 A'' / 2A and q**2 D'' / 2D: what unequal lengths add to the means; None where a normalization holds them.
    lift : ndarray (L, 2), or None
        What E[phi**2] / A and E[phi'**2] / D have beyond 1 as a unit is among those that make the length.
    """

    cov: Array
    cross_variance: Array
    between: Array
    length_variance: float = 0.0
    length_noise: float = 0.0
    bend: Array | None = None
    lift: Array | None = None


@final
@dataclass(frozen=True)
class LayerNoise:
    """How one hidden layer's noise enters ln q of the next layer, and ln ||delta||**2 here.

    x being the noise of ln q, the next layer's is ``dln_q * x + forward_share * epsilon_f``, and that of
    ln(||delta_l||**2 / ||delta_(l+1)||**2) is ``backward_share * (epsilon_b + dln_chi * x - length) + cross``,
    ``length`` being that of the mean of z**2 over the layer's units, where a normalization divides by it.

    Attributes
    ----------
    cov : ndarray (2, 2)
        Covariance of (epsilon_f, epsilon_b).
    dln_q : float
        d ln q_(l+1) / d ln q_l.
    forward_share : float
        Share of the weights in q_(l+1).
    dln_chi : float
        d ln chi / d ln q_l.
    backward_share : float
        Share of ||delta_l||**2 that comes through the weights, 1 without a shortcut.
    cross_variance : float
        Variance of ``cross``: of a residual block's cross term 2 g . J xi, and of what samples weigh unevenly.
    q_variance : float
        Variance of ln of the mean of z**2 over this layer's units, its own q being given.
    kappa : float
        E (z . delta)**2 / (q E |delta|**2) of the next layer.
    kappa_gain : float
        d ln(||delta_l||**2 / ||delta_(l+1)||**2) / d kappa.
    kappa_kept : float
        Share of (z . delta)**2 of the next layer that is (z . delta)**2 here: delta that has grown by chance has
        less of it, relative to its length.
    mean_shift : float
        What the mean of ln(||delta_l||**2 / ||delta_(l+1)||**2) has besides.
    """

    cov: Array
    dln_q: float
    forward_share: float
    dln_chi: float
    backward_share: float = 1.0
    cross_variance: float = 0.0
    q_variance: float = 0.0
    kappa: float = 1.0
    kappa_gain: float = 0.0
    kappa_kept: float = 0.0
    mean_shift: float = 0.0


def layer_covariance(
    m: Moments,
    n: int,
    c: float,
    r2: float,
    *,
    keep_prob: float,
    weights: tuple[float, float] = (1.0, 1.0),
    orthogonal: bool,
    held: Array,
) -> Array:
    """Return the covariance (2, 2) of (epsilon_f, epsilon_b) for ``n`` units, averaged over pairs of samples.

    ``weights``: sum of w_i**2 over the batch, w_i the share of a sample in the mean, forward and backward (1 / B where
    all are alike); ``fixed``: d ln A / d ln q and d ln D / d ln q where the length of z is held (layer norm; orthogonal
    W, forward), else 0.
    """

    def one(A22: float, D22: float, AD22: float, c: float, r2: float) -> Array:
        forward = A22 - 1
        backward = D22 * (1 + 2 * r2) - 1 - (2 * r2 if orthogonal else 0)
        both = AD22 - 1
        out = c * np.outer(held[0], held[0]) + c * c * np.outer(held[1], held[1])
        return (np.array([[forward, both], [both, backward]]) - out) / n

    alone = one(m.A4 / keep_prob, m.D4 / keep_prob, m.AD / keep_prob, 1, 1)
    pair = one(m.A22, m.D22, m.AD22, c, r2)
    share = np.array([[weights[0], weights[1]], [weights[1], weights[1]]])
    return np.asarray(share * alone + (1 - share) * pair)


@final
@dataclass(frozen=True)
class Spread:
    """The noise of every layer: of ln ||delta_l||**2 relative to the last one's, and of ln q_l to the first one's.

    ``mean`` (L,) and ``covariance`` (L, L) of the one, ``q_mean`` and ``q_variance`` (L,) of the other.
    """

    mean: Array
    covariance: Array
    q_mean: Array
    q_variance: Array


def spread(
    layers: Sequence[LayerNoise],
    between: Array | None = None,
    grown: float | None = None,
    alone: Alone | None = None,
) -> Spread:
    """Return the noise of ln ||delta_l||**2 and of ln q_l.

    A mean of squares is taken as a gamma variable of the same relative variance v, so that
    E ln = digamma(1/v) + ln v and Var ln = trigamma(1/v), which holds for narrow layers too. ``between`` (5, L, L) is
    the covariance of epsilon_f, and of epsilon_b, between different layers, that of ``length`` and ``cross``, and of
    epsilon_f with epsilon_b. ``grown`` is the measured ln of the output's length beside the line: forward and backward
    noise are correlated, so that it tells of delta.
    """
    L = len(layers)
    cov = np.array([layer.cov for layer in layers], float)
    crosses = np.array([layer.cross_variance for layer in layers])
    v = np.maximum(np.diagonal(cov, axis1=1, axis2=2), 1e-9)
    std = np.sqrt(polygamma(1, 1 / v))
    rho = np.clip(cov[:, 0, 1] / np.sqrt(v[:, 0] * v[:, 1]), -1, 1)
    logs = std[:, :, None] * std[:, None, :] * np.where(np.eye(2) > 0, 1.0, rho[:, None, None])
    cov_e, mean_e = _joint(logs, crosses, between), np.zeros(4 * L + 1)
    mean_e[: 2 * L] = (digamma(1 / v) + np.log(v)).T.ravel()
    steps, lengths = _responses(layers)
    first = steps[-1].copy()  # of ln S_L, where the line starts
    steps[-1] = 0.0
    x, own = lengths[-1], lengths  # what is left of the lengths' noise where the output's is known
    if (known := float(x @ cov_e @ x)) > 0 and grown is not None and alone is None:
        own = lengths - np.outer(lengths @ cov_e @ x / known, x)
    grows, kappa = steps.copy(), np.zeros(4 * L + 1)
    for i in reversed(range(L)):
        layer = layers[i]
        grows[i] += layer.kappa_gain * kappa * (i < L - 1)
        kappa = layer.kappa_kept * (kappa + layer.kappa * (own[i + 1] - own[i] - grows[i]))
    shift = np.cumsum([0.0, *(layer.mean_shift for layer in layers[-2::-1])])[::-1]
    profile = np.cumsum(grows[::-1], axis=0)[::-1]  # ln S_l - ln S_L adds up the steps from l on
    variance = ((lengths[:-1] @ cov_e) * lengths[:-1]).sum(axis=1) + [layer.q_variance for layer in layers]
    variance[0] = 0.0  # where the line starts
    mean, q_mean, covariance = profile @ mean_e, lengths @ mean_e, profile @ cov_e @ profile.T
    if alone is not None:
        pairs, single = _joint(cov, crosses, between), _joint(alone.cov, alone.cross_variance, alone.between)
        single[-1, -1] = alone.length_variance
        if alone.bend is None or alone.lift is None:
            mean = mean + _parted(single - pairs, steps)
        else:
            mean, q_mean = _second_order(layers, alone, single, pairs, steps, lengths, first)
    if grown is not None and known > 0:
        shared = profile @ cov_e @ x
        mean = mean + shared / known * (grown - q_mean[-1])
        covariance = covariance - np.outer(shared, shared) / known
    return Spread(mean + shift, covariance, q_mean[:-1], variance)


def _joint(cov: Array, cross_variance: Array, between: Array | None) -> Array:
    """Return the covariance of epsilon_f, epsilon_b, length and cross of all layers, and of the first length, 0."""
    L = len(cov)
    joint = np.zeros((4 * L + 1, 4 * L + 1))
    blocks = [slice(i * L, (i + 1) * L) for i in range(4)]
    for i in range(2):
        for j in range(2):
            joint[blocks[i], blocks[j]] = np.diag(cov[:, i, j])
    joint[blocks[3], blocks[3]] = np.diag(cross_variance)
    if between is not None:
        for block, of in zip(blocks, between, strict=False):
            joint[block, block] += of
        joint[blocks[0], blocks[1]] += between[4]
        joint[blocks[1], blocks[0]] += between[4]
    return joint


def _responses(layers: Sequence[LayerNoise]) -> tuple[Array, Array]:
    """Return what the noises of ``_joint`` do: (L, :) to ln of a step's ||delta||**2, (L + 1, :) to ln q."""
    L = len(layers)
    steps, lengths = np.zeros((L, 4 * L + 1)), np.zeros((L + 1, 4 * L + 1))
    lengths[0, -1] = 1.0
    for i, layer in enumerate(layers):
        steps[i] = layer.backward_share * layer.dln_chi * lengths[i]
        steps[i, L + i] += layer.backward_share
        steps[i, 2 * L + i] = -layer.backward_share
        steps[i, 3 * L + i] = 1
        lengths[i + 1] = layer.dln_q * lengths[i]
        lengths[i + 1, i] += layer.forward_share
    return steps, lengths


def _parted(apart: Array, steps: Array) -> Array:
    """Return what ln of the batch's mean ||delta_l||**2 has (L,) as a sample's steps are correlated by ``apart``."""
    profile = np.cumsum(steps[::-1], axis=0)[::-1]
    own = np.cumsum(((steps @ apart) * steps).sum(axis=1)[::-1])[::-1]
    return np.asarray((((profile @ apart) * profile).sum(axis=1) - own) / 2)


def _second_order(
    layers: Sequence[LayerNoise],
    alone: Alone,
    single: Array,
    pairs: Array,
    steps: Array,
    lengths: Array,
    first: Array,
) -> tuple[Array, Array]:
    """Return E ln ||delta_l||**2 (L,) and E ln q_l (L + 1,) beside the line, to order 1/n.

    S_l is the mean over the samples of prod_k (1 + s_k). Steps are correlated over the layers, as a unit keeps part of
    its z, most of all those of one sample, whose delta grows the longer for it:

        E ln S_l = sum_k E s_k + sum_(k < m) Cov(s_k, s_m) of one sample - 1/2 Var(sum_k s_k) of the batch's mean.
    """
    assert alone.bend is not None and alone.lift is not None
    squares = ((lengths @ single) * lengths).sum(axis=1)  # E (q_i / q - 1)**2 over the samples
    squares -= alone.length_noise * lengths[:, -1] ** 2
    own, q_mean = np.zeros(len(layers)), np.zeros(len(layers) + 1)
    for i, layer in enumerate(layers):
        q_mean[i + 1] = layer.dln_q * q_mean[i]
        q_mean[i + 1] += layer.forward_share * (alone.bend[i, 0] * squares[i] + alone.lift[i, 0])
    for i, layer in enumerate(layers[:-1]):
        v = max(layer.backward_share**2 * layer.cov[1, 1], 1e-9)  # narrow layers': beyond -v/2
        own[i] = float(digamma(1 / v)) + math.log(v) + v / 2
        own[i] += layer.backward_share * (layer.dln_chi * q_mean[i] + alone.bend[i, 1] * squares[i] + alone.lift[i, 1])
    own -= ((steps @ pairs) * steps).sum(axis=1) / 2
    profile = np.cumsum(steps[::-1], axis=0)[::-1]
    mean = np.cumsum(own[::-1])[::-1] + _parted(single - pairs, steps) + profile @ (single - pairs) @ first
    return mean, q_mean - ((lengths @ pairs) * lengths).sum(axis=1) / 2
