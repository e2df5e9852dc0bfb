"""What a finite width changes: the mean of ln ||delta||**2 between two layers, and the noise around it.

Forward and backward share their weights. Given z = W a, W = z a^T / |a|**2 + (a random matrix that a knows nothing of),
so that W^T delta has a part (z . delta) a / |a|**2 that comes back along a, beside a part as random as theory takes it.
kappa = E (z . delta)**2 / (q E |delta|**2) measures it: 1 where delta is random, its part along z then being 1/n.
(For one sample of a linear net and squared error, ||delta||**2 grows by (kappa - 1) / n a layer.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.theory.architecture import Architecture
from bpx.theory.batch_rank import batch_drift
from bpx.theory.fluctuation import CORRELATIONS, Alone, LayerNoise, Moments, layer_covariance, moments, unit_variance
from bpx.theory.gaussian import dphi, expectation, phi, resolved, rule, second_moment, second_moment_slope, slope_moment
from bpx.theory.shortcuts import lifts, overlaps, resolves_overlaps
from bpx.theory.steps import Step, log_slope


@final
@dataclass(frozen=True)
class Ends:
    """What a pass shows at the two ends of a network, from which theory follows it through the layers.

    Attributes
    ----------
    correlation, correlation_variance : float
        Of two samples' first pre-activations: mean over pairs (images have 0.3 to 0.6, noise 0), and variance
        among pairs.
    length_variance : float
        Variance of the log of a sample's mean z**2 there.
    kappa : float
        Of the output layer.
    alike : float or None
        Squared correlation of two samples' delta there; None: that of a random delta or of classes, 1 / (n_out - 1).
    uneven : float
        B sum |delta_i|**4 / (sum |delta_i|**2)**2, 1 where the samples' deltas are equally long.
    length : float or None
        Mean square of the last hidden layer's activations; None: that of the line.
    rank : float
        The first pre-activation's effective rank over the batch, (tr C)**2 / tr C**2 of its covariance C: two features
        give at most 2.
    """

    correlation: float = 0.5
    correlation_variance: float = 0.0
    length_variance: float = 0.0
    kappa: float = 1.0
    alike: float | None = None
    uneven: float = 1.0
    length: float | None = None
    rank: float = math.inf


@final
@dataclass(frozen=True)
class FiniteWidth:
    """What finite width does.

    Attributes
    ----------
    noise : list of LayerNoise
        Of every hidden layer, from the input on.
    along : float
        The largest share of delta that comes back along z in a layer, beyond that of a random delta.
    between : ndarray (5, L, L)
        Covariance of epsilon_f, and of epsilon_b, between different layers of a net with shortcuts, whose units keep
        part of their z; of the length of z, by which a normalization divides; of a block's overlaps;
        of epsilon_f and epsilon_b.
    grown: float or None
        ln of the output's measured length beside the line.
    alone : Alone or None
        The noise of one sample of a net with shortcuts.
    """

    noise: list[LayerNoise]
    along: float
    between: Array
    grown: float | None
    alone: Alone | None = None


_SMALL_GAIN = 0.5  # above which a layer is so narrow that chance along z is not followed to first order
_LASTING = 0.5  # share of the lengths in the noise of the output's, from which on it tells of delta
_CHANCE_STDS = 6.0  # standard deviations within which a length may be beside the line by chance
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
    held = net.role.holds_length  # the length of z, for every sample
    kappa, weight = ends.kappa, min(ends.uneven / B, 1.0)
    r2 = 1 / max(net.fans[-1] - 1, 1) if ends.alike is None else ends.alike
    if net.role.over_batch:  # backward takes out what the samples of a batch share
        r2 = min(r2, 1 / max(net.fans[-1] - 1, 1))
    known = _known(net, q)
    drift = batch_drift(net, q, steps, ends.rank, ends.length_variance) if net.role.over_batch else None
    beside, grown = _length_noise(net, q, steps, forward, _grown_length(net, q[-1], ends.length))
    follows = net.residual and L > 1 and resolves_overlaps(net, q)
    lined_up = overlaps(net, q, steps, kappa) if follows else None
    second_order = lined_up is not None and not net.normalizes  # whose means ``spread`` takes from ``alone``
    noise, along, pulled = [], lined_up.along if lined_up else 0.0, 0.0
    for layer in reversed(range(L)):
        at, n = forward[layer], net.hidden[layer]
        m, c, length = at.m, at.rms, net.activation_variance(q[layer])
        A, D, scaled = max(m.A, 1e-300), max(m.D, 1e-300), _scaled_slope(f, length)
        back = length * second_moment_slope(f, length) / A  # d ln A / d ln q: what z . delta keeps on its way back
        s = steps[layer] if layer < L - 1 else _OUTPUT
        share, dln_chi = s.backward_share, -1.0 if held else s.dln_chi
        if layer == L - 1 and not net.normalizes:
            dln_chi = log_slope(f, length)
        excess = s.forward_share * (kappa - 1)
        comes_back = (m.AD / net.keep_prob - (back * back * A / (length * D) if held else 0.0)) * excess / n
        lost = scaled / (D * n) if held else 0.0  # the part along z, which the normalization's backward takes out
        shift = math.log(max(1 + comes_back - lost, 1 / n))
        before, gain, kept_kappa = 1.0, 0.0, 0.0
        if lined_up and not net.normalizes:
            kept_kappa = 1.0
            gain = float(lined_up.returned[layer]) if layer < L - 1 else 0.0
            gain *= 0 < gain < _SMALL_GAIN
        elif not net.residual and not net.normalizes:
            before, gain = kappa, m.AD / net.keep_prob * s.forward_share / n / math.exp(shift)
            gain *= gain < _SMALL_GAIN
            kept_kappa = min(back * back * A * s.forward_share / (length * D * math.exp(shift)), 1.0)
        alike = at.weight + (1 - at.weight) * c * c  # of the noise of one sample, what the batch's mean keeps
        cross, masked = 0.0, 1.0
        if net.residual:
            shift = math.log(max(1 - share * lost, 1 / n))
        if layer < L - 1 and lined_up:
            shift += lined_up.growth[layer] if drift is None else 0.0
            masked = float(lined_up.masked[layer])
        if net.residual:
            cross += 4 * share * (1 - share) * masked * (weight + (1 - weight) * r2 * net.keep_prob * m.D11 / D) / n
        else:
            along = max(along, (kappa - 1) * m.AD / net.keep_prob / n)
        if drift is not None:
            shift += share * float(drift.shift[layer])
        parted = at.single - at.mean  # variance of ln q over the samples
        curved = 0.5 * (dln_chi * dln_chi - dln_chi) * parted * (not second_order)
        if held:
            kept = (q[0] / q[layer]) ** 2 if net.residual else float(layer == 0)  # q1 is measured
            curved += (2 - alike) * (1 - kept) / n
            parted += 2 * (1 - alike) * (1 - kept) / n
            if layer == 0:
                curved += net.role.holds_mean / n
                cross += share * share * weight * ends.length_variance
        pulled = s.dln_q * pulled if layer < L - 1 else 0.0  # d ln |delta_(l+1)|**2 / d ln q_l of a sample
        curved += dln_chi * pulled * parted * (not second_order)  # long deltas belong to samples of some lengths
        pulled += share * dln_chi
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
                    held=_held(net, length, known=float(known[layer])),
                )
                - _of_scale(net, layer, length),
                dln_q=s.dln_q if layer < L - 1 else back * (not net.normalizes),
                forward_share=s.forward_share,
                dln_chi=dln_chi,
                backward_share=share,
                cross_variance=cross,
                q_variance=2 * (1 + (B - 1) * c * c) / B / n,
                kappa=before,
                kappa_gain=gain,
                kappa_kept=kept_kappa,
                mean_shift=shift + share * curved if layer < L - 1 else 0.0,
            )
        )
        if net.role.over_batch:
            kappa = 1.0  # a unit's z . delta over the batch is zero, a sample's over the units is not
        else:
            kappa = 0.0 if held else (back * back * A * excess + scaled) / (length * D * math.exp(shift))
            longer = math.exp(min(max(grown[layer + 1] - grown[layer], -50.0), 50.0))
            kappa *= longer  # (z . delta)**2 is kept, the length of z is not
        single = share * share * (3 * m.D4 / net.keep_prob - m.D22 * (1 + 2 * r2)) / n
        weight = _grown(weight, single)
        passed = 1 - share + share * net.keep_prob * m.D11 / D
        mixed = share * share * m.D22 + 2 * share * (1 - share) * masked
        r2 = min(r2 * passed * passed + (1 - r2) * mixed / n, 1.0)  # random weights align the rest
    between, own = _between(net, q, forward)
    if drift is not None:
        between[2] = own[2] = drift.length
    alone = None
    if lined_up:
        samples = np.sqrt([at.weight + (1 - at.weight) * at.rms * at.rms for at in forward[:-1]])
        between[3, :-1, :-1] = np.outer(samples, samples) * lined_up.noise
        own[3, :-1, :-1] = np.diag(np.diag(lined_up.noise))
        alone = _alone(net, q, steps, forward, own, lined_up.masked, ends.length_variance)
    return FiniteWidth(noise[::-1], along, between, beside, alone)


def _alone(
    net: Architecture,
    q: Sequence[float],
    steps: Sequence[Step],
    forward: Sequence[_Forward],
    between: Array,
    masked: Array,
    length_variance: float,
) -> Alone:
    """Return the noise of one sample, where ``layer_covariance`` has the mean over the batch: c = r = 1, weights of 1.

    ``between`` (5, L, L) are its covariances between different layers, ``masked`` (L - 1,) how delta stands where phi'
    of the layers before stood, ``length_variance`` that of ln of the samples' first lengths, which is measured.
    """
    f, n, known = net.activation, np.array(net.hidden), _known(net, q)
    scales = [net.activation_variance(v) for v in q]
    cov = [
        layer_covariance(
            at.m, int(width), 1.0, 1.0,
            keep_prob=net.keep_prob, orthogonal=net.orthogonal, held=_held(net, scale, known=float(share)),
        )
        for at, width, scale, share in zip(forward, n, scales, known, strict=True)
    ]  # fmt: skip
    share = np.array([s.backward_share for s in steps])
    cross = np.append(4 * share * (1 - share) * masked / n[:-1], 0.0)
    if net.normalizes:
        return Alone(np.array(cov), cross, between)
    bend = np.array([_bend(f, float(f"{v:.2g}")) for v in q])
    lift = np.zeros((len(q), 2))
    lengths = np.array(q)
    table = lifts(f, unit_variance(f, float(f"{math.exp(float(np.log(lengths).mean())):.2g}")))
    sent = np.array([s.forward_share * s.q for s in steps]) / n[:-1]
    for i in range(1, len(q)):
        rho = np.sqrt(lengths[:i] / lengths[i])
        lift[i] = [sent[:i] @ np.interp(rho, CORRELATIONS, t) / lengths[i] for t in table]
    return Alone(np.array(cov), cross, between, length_variance, 2 / n[0], bend, lift)


@lru_cache(maxsize=1024)
def _bend(f: ActivationFunction, q: float) -> tuple[float, float]:
    """Return q**2 A'' / 2A and q**2 D'' / 2D at q."""
    h = 0.1

    def bend(moment: Callable[[ActivationFunction, float], float]) -> float:
        low, middle, high = (moment(f, q * t) for t in (1 - h, 1.0, 1 + h))
        return (low - 2 * middle + high) / (2 * h * h * max(middle, 1e-300))

    return bend(second_moment), bend(slope_moment)


def sent_back(net: Architecture, q: Sequence[float], steps: Sequence[Step], kappa: float) -> tuple[Array, float]:
    """Return ln of what ||delta||**2 gains by its part along z, (L,) from the output on, and the largest share.

    What ``finite_width`` follows, without the tables of pairs; for networks without normalization and shortcuts.
    """
    f, gained, along = net.activation, np.zeros(len(q)), 0.0
    for layer in reversed(range(len(q))):
        r = resolved(f, q[layer])
        A, D = second_moment(f, r), slope_moment(f, r)
        both = expectation(lambda u: (phi(f, u) * dphi(f, u)) ** 2, r, f.kinks) / max(A * D, 1e-300)
        share = (steps[layer].forward_share if layer < len(steps) else 1.0) * (kappa - 1)
        back = q[layer] * second_moment_slope(f, q[layer]) / max(A, 1e-300)
        returned = both * share / net.keep_prob / net.hidden[layer]
        along = max(along, returned)
        gain = max(1 + returned, 1 / net.hidden[layer])
        gained[layer] = math.log(gain) if layer < len(steps) else 0.0
        kappa = (back * back * A * share + _scaled_slope(f, q[layer])) / (q[layer] * D * gain)
    return np.cumsum(gained[::-1])[::-1], along


def _forward(net: Architecture, q: Sequence[float], steps: Sequence[Step], ends: Ends) -> list[_Forward]:
    f, single, mean = net.activation, ends.length_variance, 0.0
    weight = _grown(1 / net.batch_size, single)
    c, parted = ends.correlation, ends.correlation_variance
    found = []
    for layer in range(len(q)):
        if net.role.over_batch:
            c, parted = 0.0, 0.0
        c = min(max(c, 0.0), 1.0)
        length = net.activation_variance(q[layer])
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


def _grown_length(net: Architecture, q: float, length: float | None) -> float | None:
    """Return ln of the measured mean square of the last activations beside that of ``q``; None where it tells nothing.

    After a normalization it holds only the noise of the last layer.
    """
    if net.normalizes or length is None or not length > 0:
        return None
    ratio = length * net.keep_prob / max(second_moment(net.activation, q), 1e-300)
    return math.log(ratio) if 0 < ratio < math.inf else None


def _length_noise(
    net: Architecture, q: Sequence[float], steps: Sequence[Step], forward: Sequence[_Forward], grown: float | None
) -> tuple[float | None, list[float]]:
    """Return ``grown``, and what ln q has beside the line, (L + 1,) with the output, as expected where both are known.

    None and zeros where the output is so far from the line that no chance explains it.
    """
    if grown is None:
        return None, [0.0] * (len(q) + 1)
    last = forward[-1]
    passed = q[-1] * second_moment_slope(net.activation, q[-1]) / second_moment(net.activation, q[-1])
    added = last.weight * (last.m.A4 / net.keep_prob - 1) + (1 - last.weight) * (last.m.A22 - 1)
    total, passed_last = passed * passed * last.mean + added / net.hidden[-1], passed * passed
    shared = []  # covariances of ln q_l with that of the output
    for at, following in zip(reversed(forward), [None, *reversed(steps)], strict=True):
        passed *= following.dln_q if following else 1.0
        shared.append(at.mean * passed)
    lasting = passed_last * last.mean / total  # what is the lengths', not the last layer's own noise
    if lasting < _LASTING or not 0 < grown * grown < _CHANCE_STDS * _CHANCE_STDS * total:
        return None, [0.0] * (len(q) + 1)
    return grown, [*(grown * c / total for c in reversed(shared)), grown]


def _between(net: Architecture, q: Sequence[float], forward: Sequence[_Forward]) -> tuple[Array, Array]:
    """Return the covariances (5, L, L) between different layers, of a batch's mean and of one sample."""
    L, n, found = len(q), np.array(net.hidden, float), np.zeros((5, len(q), len(q)))
    single = np.zeros_like(found)
    held, lengths = net.role.holds_length, np.array(q)
    weight, rms = (np.array([getattr(at, key) for at in forward]) for key in ("weight", "rms"))
    earlier = np.minimum.outer(np.arange(L), np.arange(L))
    rho = np.eye(L)  # of one unit's z in two layers
    if net.residual:
        rho = np.sqrt(np.minimum.outer(lengths, lengths) / np.maximum.outer(lengths, lengths))
    known = _known(net, q)
    both = np.outer(known, known)
    if held:
        alike = (weight + (1 - weight) * rms * rms)[earlier]
        found[2] = single[2] = 2 * alike * (rho * rho - both) / n
    if not net.residual:
        return found, single
    length = net.activation_variance(math.exp(float(np.log(lengths).mean())))
    tables = [moments(net.activation, length, c) for c in CORRELATIONS]
    out = _held(net, length)
    for at, name, i, j in ((0, "A22", 0, 0), (1, "D22", 1, 1), (4, "AD22", 0, 1)):
        table = [getattr(m, name) for m in tables]
        own, pair = (
            np.interp(rho * c, CORRELATIONS, table)
            - 1
            - out[0, i] * out[0, j] * rho * c
            - out[1, i] * out[1, j] * c * c * (rho * rho if net.normalizes else both)
            for c in (np.ones((L, L)), rms[earlier])
        )
        found[at] = (weight[earlier] * own + (1 - weight[earlier]) * pair) / n[earlier]
        single[at] = own / n[earlier]
        np.fill_diagonal(found[at], 0.0)
        np.fill_diagonal(single[at], 0.0)
    return found, single


def _known(net: Architecture, q: Sequence[float]) -> Array:
    """Return what share (L,) of a layer's mean z**2 is that of the first layer, which is measured."""
    return q[0] / np.array(q) if net.residual else np.eye(len(q))[0]


def _held(net: Architecture, q: float, known: float = 1.0) -> Array:
    """Return the Hermite coefficients (2, 2) of phi**2 / A and phi'**2 / D that do not fluctuate; z has variance ``q``.

    The first ones where layer normalization holds the mean of z. The second ones, of its length, where a normalization
    holds it; without one the share that is ``known``; orthogonal weights hold it forward.
    """
    f, found = net.activation, np.zeros((2, 2))
    u, z, w = rule(resolved(f, q), f.kinks)
    a, d = phi(f, u) ** 2, dphi(f, u) ** 2
    scaled = np.stack([a / max(float(w @ a), 1e-300), d / max(float(w @ d), 1e-300)])
    length = scaled @ (w * (z * z - 1)) / math.sqrt(2)
    if net.role.holds_mean:
        found[0] = scaled @ (w * z)
    if net.role.holds_length:
        found[1] = length
    elif not net.normalizes:
        found[1] = length * known
    if net.orthogonal and not net.role.holds_length:
        found[1, 0] = length[0]
    return found


def _of_scale(net: Architecture, layer: int, q: float) -> Array:
    """Return the part of a layer's covariance that the scale of its weights has, which is measured: 2 / (n_in n_out).

    Of the weights before ``layer`` in the length of z, of variance ``q``, and of those after it in W^T delta. With
    shortcuts it is left: terms of this order that theory leaves out make up for it there, as simulation shows.
    """
    n, found = net.hidden[layer], np.zeros((2, 2))
    if net.orthogonal or net.residual:
        return found
    if layer and not net.normalizes:
        length = _held(net, q)[1]
        found += np.outer(length, length) / (n * net.inputs(layer))
    found[1, 1] += 2 / (n * net.fans[layer + 2])
    return found


def _grown(weight: float, alone: float) -> float:
    """Return the mean weight of one sample when lengths have parted by a log-normal factor of variance ``alone``."""
    grown = weight * math.exp(min(max(alone, 0.0), 50.0))
    return grown / (1 - weight + grown)


def _scaled_slope(f: ActivationFunction, q: float) -> float:
    """Return E[(u phi'(u))**2] for u ~ N(0, q)."""
    r = resolved(f, q)
    return q / r * expectation(lambda u: (u * dphi(f, u)) ** 2, r, f.kinks)
