"""What theory predicts for a network as built: its length and its delta, layer by layer, with a band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.numbers import power
from bpx.theory.architecture import NORMALIZATIONS, Architecture
from bpx.theory.batchnorm import MIN_BATCH, ROUNDED_BATCH, batch_moments, length_growth
from bpx.theory.finite_width import Ends, finite_width, sent_back
from bpx.theory.fluctuation import spread
from bpx.theory.shortcuts import resolves_overlaps
from bpx.theory.steps import Step, carriers, step


class Verdict(StrEnum):
    """What the gradients of a network do; DEAD only after training, where no gradient passes a layer any more."""

    VANISHING = "vanishing"
    EXPLODING = "exploding"
    HEALTHY = "healthy"
    UNDETERMINED = "undetermined"
    DEAD = "dead"


MAX_SLOPE = 300.0  # decades a layer, beyond which a factor is no number
MAX_BAND_LAYERS = 2000  # beyond which the band's covariances, which grow with their square, do not fit into memory
PARTING_THRESHOLD = 1.5  # growth of a difference of lengths through the net, from which on the line is rough
ALONG_THRESHOLD = 0.1  # share of delta that comes back along z in a layer, above which it is no small correction
SHORTCUTS_ALONG_THRESHOLD = 0.05  # the same with shortcuts and no normalization, where the layers' shares add up
BATCH_TERMS_THRESHOLD = 0.3  # of the terms of order 1 / n that theory leaves out under batch normalization
RANK_THRESHOLD = 5.0  # effective rank of a batch, below which its normalized values are not uniform on a sphere
_TWO_SIDED_95 = 1.96


@final
@dataclass(frozen=True)
class Prediction:
    """Theory's answer for the hidden layers, from the input on; empty, with a ``reason``, if there is none.

    Attributes
    ----------
    q : tuple of float (L,)
        Variance of the pre-activations.
    q_low, q_high : tuple of float (L,)
        Between which 95 % of nets of this width have it.
    log10_delta : tuple of float (L,)
        log10 of delta_l2 relative to the last hidden layer.
    low, high : tuple of float (L,)
        Between which 95 % of nets of this width have it.
    slope : float or None
        Its least-squares slope per layer, signed backward.
    slope_low, slope_high : float or None
        Between which 95 % of nets of this width have it.
    reason : str or None
        Why there is no answer.
    caveat : str
        Why the band does not hold here; empty where it does.
    note : str
        What else to know about the line.
    """

    q: tuple[float, ...] = ()
    q_low: tuple[float, ...] = ()
    q_high: tuple[float, ...] = ()
    log10_delta: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    reason: str | None = None
    caveat: str = ""
    note: str = ""

    @property
    def factor(self) -> float | None:
        """Factor of ||delta||_2 per layer going backward: 10**slope."""
        return None if self.slope is None else power(10, self.slope)

    @property
    def verdict(self) -> Verdict:
        """The verdict that this slope would bring."""
        return Verdict.UNDETERMINED if self.slope is None else slope_verdict(self.slope, len(self.q))


def slope_verdict(slope: float, hidden: int) -> Verdict:
    """Return exploding or vanishing where the slope makes a decade over ``hidden`` layers, else healthy.

    Below two hidden layers it is undetermined.
    """
    if hidden < 2:
        return Verdict.UNDETERMINED
    decades = slope * (hidden - 1)
    return Verdict.EXPLODING if decades > 1 else Verdict.VANISHING if decades < -1 else Verdict.HEALTHY


def backward_slope(log10_delta: Sequence[float]) -> float:
    """Return the least-squares slope of ``log10_delta`` (L,) over depth, signed from output to input."""
    return float(_slope_weights(len(log10_delta)) @ np.asarray(log10_delta, float))


def _slope_weights(L: int) -> Array:
    depth = np.arange(L) - (L - 1) / 2
    return np.asarray(-depth / max(float(depth @ depth), 1e-300))


def predict(architecture: Architecture, q1: float, *, band: bool = True, ends: Ends | None = None) -> Prediction:
    """Return the predicted profile of delta.

    E ||delta_l||**2 = n_l std_(l+1)**2 E[phi'(sqrt(q_l) z)**2] / keep_prob * E ||delta_(l+1)||**2, n_l the fan_in of
    W_(l+1): the widths drop out where Var W = 1 / fan_in. With a shortcut 1 + that; a normalization divides by the
    variance that it sees.

    Parameters
    ----------
    architecture : Architecture
        The network.
    q1 : float
        The measured variance of the first pre-activation; with batch normalization that over the batch, mean over
        units.
    band : bool
        Whether to count in finite width; without it low = high = line.
    ends : Ends, optional
        What a pass has measured of the batch and of the loss.

    Returns
    -------
    Prediction
        The profile, or the reason why there is none.

    References
    ----------
    Schoenholz et al. (2017), Deep Information Propagation; Yang & Schoenholz (2017), Mean Field Residual Networks;
    Yang et al. (2019), A Mean Field Theory of Batch Normalization.
    """
    if (reason := _unanswerable(architecture, q1)) is not None:
        return Prediction(reason=reason)
    assert architecture.weight_std is not None
    L = len(architecture.hidden)
    q, steps = [q1], []
    for layer in range(L - 1):
        following = step(architecture, layer, q[-1])
        if not (0 < following.q < 1e300 and 0 < following.factor < 1e300):
            return Prediction(reason="the length of the signal leaves the range of numbers")
        if carriers(architecture, layer, q[-1]) < 1:
            return Prediction(
                reason=f"less than one unit of layer_{layer + 1:02d} carries delta: what passes is chance"
            )
        steps.append(following)
        q.append(following.q)
    logs = np.cumsum([0.0, *(math.log(s.factor) for s in reversed(steps))])[::-1]
    shift, q_shift, q_half = np.zeros(L), np.zeros(L), np.zeros(L)
    half, give, weights = np.zeros(L), 0.0, _slope_weights(L)
    known, along = ends or Ends(), 0.0
    alone = architecture.residual and not architecture.normalizes
    limit = SHORTCUTS_ALONG_THRESHOLD if alone else ALONG_THRESHOLD
    if band and 1 < L <= MAX_BAND_LAYERS:
        finite = finite_width(architecture, q, steps, known)
        along = finite.along
        noise = spread(finite.noise, finite.between, finite.grown, finite.alone)
        covariance = noise.covariance + _unknown(architecture, measured=ends is not None)
        shift, half = noise.mean, _TWO_SIDED_95 * np.sqrt(np.maximum(np.diag(covariance), 0))
        give = _TWO_SIDED_95 * math.sqrt(max(float(weights @ covariance @ weights), 0.0))
        q_shift, q_half = noise.q_mean, _TWO_SIDED_95 * np.sqrt(noise.q_variance)
    elif L > 1 and ends is not None and not architecture.normalizes and not architecture.residual:
        shift, along = sent_back(architecture, q, steps, known.kappa)
    to_decades = 0.5 / math.log(10)  # from ln of a square
    line = (logs + shift) * to_decades
    half, give = half * to_decades, give * to_decades
    slope = float(weights @ line)
    if not abs(slope) + give < MAX_SLOPE:
        return Prediction(reason="the line leaves the range of numbers")
    with np.errstate(over="ignore"):  # a band may end beyond all numbers
        bounds = [np.array(q) * np.exp(q_shift + sign * q_half) for sign in (-1, 1)]
    return Prediction(
        q=tuple(q),
        q_low=tuple(bounds[0].tolist()),
        q_high=tuple(bounds[1].tolist()),
        log10_delta=tuple(line.tolist()),
        low=tuple((line - half).tolist()),
        high=tuple((line + half).tolist()),
        slope=slope,
        slope_low=slope - give,
        slope_high=slope + give,
        caveat=_caveat(architecture, q, steps, known.rank, comes_back=along > limit),
        note=_note(architecture),
    )


def _unanswerable(net: Architecture, q1: float) -> str | None:
    if net.normalization not in NORMALIZATIONS:
        return f"theory has no factor for {net.normalization} normalization"
    if net.weight_std is None:
        return "theory needs weights that are drawn at random, independent and of one scale a layer"
    if not net.hidden:
        return "there is no hidden layer"
    if not all(s > 0 for s in net.weight_std):
        return "a layer's weights are all zero: no gradient passes through it"
    if not 0 < q1 < math.inf:
        return f"the variance of the first pre-activation is {q1:g}"
    if net.role.over_batch and net.batch_size <= ROUNDED_BATCH:
        return (
            f"batch normalization over {net.batch_size} samples leaves little of the gradient but its float32 rounding"
        )
    if net.role.over_batch and net.batch_size < MIN_BATCH:
        return f"batch normalization over fewer than {MIN_BATCH} samples is too noisy for a formula"
    return None


def _note(net: Architecture) -> str:
    if net.role.over_batch:
        return f"for a batch of {net.batch_size}, deep in the net: the first layers still know the data"
    if any(net.overlaps):
        taken = math.prod(net.inside[1]) ** (0.5 / len(net.inside[1])) if len(net.hidden) > 1 else 1.0
        return f"a convolution counts as a Dense with the inputs of a patch; zeros around the image take ×{taken:.3f}"
    if net.fan_in:
        return "a convolution counts as a Dense with the inputs of a patch; what the border takes away is left out"
    return ""


def _caveat(net: Architecture, q: Sequence[float], steps: Sequence[Step], rank: float, *, comes_back: bool) -> str:
    """Say why nets leave the line by more than the band, if they do.

    The lengths of a batch's samples part, with batch normalization or without; batch normalization of samples that
    span few directions; or a part of delta ``comes_back`` along z, too large to stand for a small correction.
    """
    if net.role.over_batch:
        if any(net.overlaps):
            return "batch normalization is over pixels, too, which are alike, and theory takes samples as spread out"
        if rank < RANK_THRESHOLD:
            return f"the batch spans only {rank:.1f} directions, batch normalization's line takes samples as spread out"
        if length_growth(net.activation) ** len(steps) > PARTING_THRESHOLD:
            return "a sample's length departs from the batch's, layer by layer"
        m = batch_moments(net.activation, net.batch_size)
        accumulated = 1 / max(1 - (m.D_pair / m.D) ** 2, 1e-9)  # without end where phi' is the same everywhere
        left_out = sum(1 / n for n in net.hidden[:-1]) * accumulated
        if not net.residual and left_out > BATCH_TERMS_THRESHOLD:
            return "with batch normalization theory leaves out terms of order 1 / width, which add up over the layers"
        return ""
    if math.prod(max(s.dln_q, 1.0) for s in steps) > PARTING_THRESHOLD:
        return "lengths are unstable (V' > 1), so that the samples of a batch part"
    if net.residual and not resolves_overlaps(net, q):
        return f"{net.activation.name} oscillates faster than theory follows delta along z through shortcuts"
    if comes_back:
        return "much of delta comes back along z"
    if len(net.hidden) > MAX_BAND_LAYERS:
        return f"what a finite width changes is counted in up to {MAX_BAND_LAYERS:,} layers"
    return ""


def _unknown(net: Architecture, *, measured: bool) -> Array:
    """Return the covariance (L, L) of what the theory leaves out, all layers erring the same way.

    In ln ||delta||**2, a layer: up to 2 / n that the loss sends back along z, where no pass was ``measured``; 0.3 / n
    with shortcuts where a normalization holds the length of every sample, found by simulation.
    """
    terms = 2.0 if not measured else 0.3 * (net.residual and net.role.holds_length)
    error = [terms / n for n in net.hidden[:-1]]
    shared = np.cumsum([0.0, *reversed(error)])[::-1]
    return np.outer(shared, shared)
