"""What a finite width changes: the mean of ln ||delta||**2 between two layers, and the noise around it.

Forward and backward share their weights. Given z = W a, W = z a^T / |a|**2 + (a random matrix that a knows nothing of),
so that W^T delta has a part (z . delta) a / |a|**2 that comes back along a, beside a part as random as theory takes it.
kappa = E (z . delta)**2 / (q E |delta|**2) measures it: 1 where delta is random, its part along z then being 1/n.
(For one sample of a linear net and squared error, ||delta||**2 grows by (kappa - 1) / n a layer.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from bpx.engine.activations import ActivationFunction
from bpx.engine.arrays import Array
from bpx.theory.architecture import Architecture
from bpx.theory.fluctuation import CORRELATIONS, LayerNoise, Moments, layer_covariance, moments
from bpx.theory.gaussian import dphi, expectation, phi, second_moment, second_moment_slope, slope_moment
from bpx.theory.steps import Step, log_slope


@final
@dataclass(frozen=True)
class Ends:
    """What a pass shows at the two ends of a network, from which theory follows it through the layers.

    ``correlation``: of two samples' first pre-activations, mean over pairs (images have 0.3 to 0.6, noise 0), and
    ``correlation_variance``, the variance of it among pairs;
    ``kappa``: of the output layer; ``alike``: squared correlation of two samples' delta there (None: that of a random
    delta or of classes, 1 / (n_out - 1)); ``uneven``: B sum |delta_i|**4 / (sum |delta_i|**2)**2, 1 where the samples'
    deltas are equally long; ``rank``: the first pre-activation's effective rank over the batch, (tr C)**2 / tr C**2 of
    its covariance C (two features give at most 2).
    """

    correlation: float = 0.5
    correlation_variance: float = 0.0
    kappa: float = 1.0
    alike: float | None = None
    uneven: float = 1.0
    rank: float = math.inf


@final
@dataclass(frozen=True)
class FiniteWidth:
    """The ``noise`` of every hidden layer, from the input on, and what else finite width does.

    ``along``: the largest share of delta that comes back along z in a layer, beyond that of a random delta;
    ``between`` (2, L, L): covariance of epsilon_f, and of epsilon_b, between different layers of a net with shortcuts,
    whose units keep part of their z.
    """

    noise: list[LayerNoise]
    along: float
    between: Array


_OUTPUT = Step(
    q=1.0, factor=1.0, backward_share=1.0, dln_q=0.0, forward_share=1.0, dln_chi=0.0
)  # what follows the last hidden layer


@final
@dataclass(frozen=True)
class _Forward:
    """A layer's moments, correlation c of a pair, weight of one sample among a batch, and noise of ln q."""

    m: Moments
    c: float
    rms: float  # of that correlation over the pairs
    weight: float
    single: float  # variance of one sample's ln q
    mean: float  # of its mean over the batch


def finite_width(net: Architecture, q: Sequence[float], steps: Sequence[Step], ends: Ends) -> FiniteWidth:
    """Follow the pairs of a batch forward, and kappa and the pairs of delta backward, through all hidden layers."""
    forward = _forward(net, q, steps, ends)
    f, L, B = net.activation, len(q), net.batch_size
    held = net.normalization in ("layer", "rms")  # the length of z, for every sample
    kappa, weight = ends.kappa, min(ends.uneven / B, 1.0)
    r2 = 1 / max(net.fans[-1] - 1, 1) if ends.alike is None else ends.alike
    noise, along = [], 0.0
    for layer in reversed(range(L)):
        at, n = forward[layer], net.hidden[layer]
        m, c, length = at.m, at.rms, q[layer] if net.normalization == "none" else 1.0
        A, D, scaled = max(m.A, 1e-300), max(m.D, 1e-300), _scaled_slope(f, length)
        back = length * second_moment_slope(f, length) / A  # d ln A / d ln q: what z . delta keeps on its way back
        s = steps[layer] if layer < L - 1 else _OUTPUT
        shortcut = net.residual and layer < L - 1
        excess = s.forward_share * (kappa - 1)
        comes_back = (m.AD / net.keep_prob - (back * back * A / (length * D) if held else 0.0)) * excess / n
        lost = scaled / (D * n) if held else 0.0  # the part along z, which the normalization's backward takes out
        weights_gain = max(1 + comes_back - lost, 1 / n)
        straight = 2 * back * (1 - s.forward_share) * excess * s.q / (n * q[layer]) if shortcut and not held else 0.0
        gain = (1 - s.backward_share) * (1 + straight) + s.backward_share * weights_gain
        along = max(along, (kappa - 1) * m.AD / net.keep_prob / n)
        dln_chi = -1.0 if held else s.dln_chi
        own = 2 * (weight + (1 - weight) * c * c) / n  # variance of ln of the mean of z**2 over this layer's units
        curved = 0.5 * (dln_chi * dln_chi - dln_chi) * (at.single - at.mean) + (2 / n - 0.5 * own if held else 0.0)
        pairs = [(1 + (B - 1) * x) / B for x in (c * c, r2)]
        noise.append(
            LayerNoise(
                layer_covariance(
                    m,
                    n,
                    c,
                    r2,
                    keep_prob=net.keep_prob,
                    weights=(at.weight, weight),
                    orthogonal=net.orthogonal,
                    fixed=(back if held or net.orthogonal else 0.0, log_slope(f, length) if held else 0.0),
                ),
                dln_q=s.dln_q,
                forward_share=s.forward_share,
                dln_chi=dln_chi,
                backward_share=s.backward_share,
                cross_variance=(
                    4 * (q[layer] / s.q) * s.forward_share * pairs[0] / n if shortcut else 0.0,
                    4 * s.backward_share * (1 - s.backward_share) * pairs[1] / n
                    + (s.backward_share * s.backward_share * own if held else 0.0),
                ),
                q_variance=2 * pairs[0] / n,
                mean_shift=math.log(gain) + s.backward_share * curved if layer < L - 1 else 0.0,
            )
        )
        if net.normalization == "batch":
            kappa = 1.0  # a unit's z . delta over the batch is zero, a sample's over the units is not
        elif not shortcut:
            kappa = 0.0 if held else (back * back * A * excess + scaled) / (length * D * weights_gain)
        else:
            kept, given = 1 - s.forward_share, s.forward_share
            through = 0.0 if held else 2 * kept * back * excess + given * (back * back * excess + scaled / A)
            kappa = s.q * (kept * kept * kappa + kept * given + through) * (1 - s.backward_share) / (q[layer] * gain)
        alone = s.backward_share * s.backward_share * (3 * m.D4 / net.keep_prob - m.D22 * (1 + 2 * r2)) / n
        weight = _grown(weight, alone)
        passed = 1 - s.backward_share + s.backward_share * net.keep_prob * m.D11 / D
        r2 = min(r2 * passed * passed + s.backward_share * (1 - r2) * m.D22 / n, 1.0)  # random weights align the rest
    return FiniteWidth(noise[::-1], along, _between(net, q, forward))


def first_along(net: Architecture, q: float, ends: Ends) -> float:
    """Return the share of delta that comes back along z in the last hidden layer, of length ``q``, without a band."""
    f = net.activation
    if net.normalization != "none":
        return 0.0
    both = expectation(lambda u: (phi(f, u) * dphi(f, u)) ** 2, q, f.kinks)
    apart = second_moment(f, q) * slope_moment(f, q)
    return (ends.kappa - 1) * both / max(apart, 1e-300) / net.keep_prob / net.hidden[-1]


def _forward(net: Architecture, q: Sequence[float], steps: Sequence[Step], ends: Ends) -> list[_Forward]:
    f, weight, single, mean = net.activation, 1 / net.batch_size, 0.0, 0.0
    c, parted = ends.correlation, ends.correlation_variance
    found = []
    for layer in range(len(q)):
        if net.normalization == "batch":
            c, parted = 0.0, 0.0
        c = min(max(c, 0.0), 1.0)
        length = q[layer] if net.normalization == "none" else 1.0
        m, even = moments(f, length, c), moments(f, length, math.sqrt(min(c * c + parted, 1.0)))
        m = replace(m, A22=even.A22, D22=even.D22, AD22=even.AD22)  # even in a pair's correlation where phi is odd
        found.append(_Forward(m, c, math.sqrt(min(c * c + parted, 1.0)), weight, single, mean))
        if layer < len(q) - 1:
            s, n, A = steps[layer], net.hidden[layer], max(m.A, 1e-300)
            one, pair = (
                s.forward_share * s.forward_share * (m.A4 / net.keep_prob - 1) / n,
                s.forward_share * s.forward_share * (m.A22 - 1) / n,
            )
            single = s.dln_q * s.dln_q * single + one
            mean = s.dln_q * s.dln_q * mean + weight * one + (1 - weight) * pair
            weight = _grown(weight, max(one - pair, 0.0))
            kept = q[layer] / s.q if net.residual else 0.0
            slope = s.forward_share * net.keep_prob * length * m.D11 / A + kept
            parted = (
                slope * slope * parted
                + s.forward_share * s.forward_share * (m.A22 - (net.keep_prob * m.A11 / A) ** 2) / n
            )
            c = s.forward_share * net.keep_prob * m.A11 / A + net.bias_variance / s.q + kept * c
    return found


def _between(net: Architecture, q: Sequence[float], forward: Sequence[_Forward]) -> Array:
    L, found = len(q), np.zeros((2, len(q), len(q)))
    if not net.residual:
        return found
    length = math.exp(float(np.mean(np.log(q)))) if net.normalization == "none" else 1.0
    known = [moments(net.activation, length, c) for c in CORRELATIONS]
    tables = [m.A22 for m in known], [m.D22 for m in known]
    for layer in range(L - 1):
        at, rho = forward[layer], np.sqrt(q[layer] / np.array(q[layer + 1 :]))  # of one unit's z, here and there
        for i, table in enumerate(tables):
            own, pair = (np.interp(r, CORRELATIONS, table) - 1 for r in (rho, rho * at.rms))
            found[i, layer, layer + 1 :] = (at.weight * own + (1 - at.weight) * pair) / net.hidden[layer]
    return found + found.transpose(0, 2, 1)


def _grown(weight: float, alone: float) -> float:
    """Return the mean weight of one sample when lengths have parted by a log-normal factor of variance ``alone``."""
    grown = weight * math.exp(min(max(alone, 0.0), 50.0))
    return grown / (1 - weight + grown)


def _scaled_slope(f: ActivationFunction, q: float) -> float:
    """Return E[(u phi'(u))**2] for u ~ N(0, q)."""
    return expectation(lambda u: (u * dphi(f, u)) ** 2, q, f.kinks)
