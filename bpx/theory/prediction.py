"""What theory predicts for a network as built: its length and its delta, layer by layer, with a band."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import numpy as np

from bpx.engine.activations import ActivationFunction
from bpx.engine.numbers import power
from bpx.theory.batchnorm import ROUNDED_BATCH, SMALLEST_BATCH, batch_factors, length_growth
from bpx.theory.fluctuation import FIRST_CORRELATION, LayerNoise, layer_covariance, moments, spread
from bpx.theory.gaussian import Array, dphi, expectation, second_moment, second_moment_slope, slope_moment

Verdict = Literal["exploding", "vanishing", "healthy", "undetermined"]
PARTED = 1.5  # growth of a difference of lengths through the net, from which on the line is rough
OUTLASTED = 3.0  # growth of the share of delta along z
_TWO_SIDED_95 = 1.96


@final
@dataclass(frozen=True)
class Architecture:
    """A network as theory sees it.

    ``fans`` (n_in, hidden widths ..., n_out); ``weight_std``: root mean square entry of every weight matrix,
    one fewer than fans, None where weights are not drawn at random; ``keep``: share of units that dropout
    keeps; ``normalization``: none, batch, layer or rms; ``residual``: shortcuts around all hidden layers but
    the first; ``batch_size``: the samples that delta_l2 is measured over.
    """

    activation: ActivationFunction
    fans: tuple[int, ...]
    weight_std: tuple[float, ...] | None
    bias_std: float = 0.0
    keep: float = 1.0
    normalization: str = "none"
    residual: bool = False
    batch_size: int = 32
    orthogonal: bool = False

    def __post_init__(self) -> None:
        if self.weight_std is not None and len(self.weight_std) != len(self.fans) - 1:
            raise ValueError(f"{len(self.fans)} fans need {len(self.fans) - 1} weight_std")

    @property
    def hidden(self) -> tuple[int, ...]:
        """The hidden widths."""
        return self.fans[1:-1]

    @property
    def sigma_w(self) -> float | None:
        """sigma_w of the hidden layers behind the first: std times the root of fan_in, their root mean square."""
        if self.weight_std is None or len(self.hidden) < 2:
            return None
        squares = [n * s * s for n, s in zip(self.fans[1:-2], self.weight_std[1:-1], strict=True)]
        return math.sqrt(sum(squares) / len(squares))

    @property
    def bias_variance(self) -> float:
        """Variance of a hidden layer's bias: 0 where the normalization's shift has taken its place."""
        return 0.0 if self.normalization in ("batch", "layer") else self.bias_std * self.bias_std


def weight_stds(fans: Sequence[int], std: Callable[[int, int], float | None]) -> tuple[float, ...] | None:
    """Return every weight matrix's standard deviation, from an initializer's ``weight_std(n_in, n_out)``."""
    found = [std(a, b) for a, b in pairwise(fans)]
    known = [s for s in found if s is not None]
    return tuple(known) if len(known) == len(found) else None


@final
@dataclass(frozen=True)
class Prediction:
    """Theory's answer for the hidden layers, from the input on; empty, with a ``reason``, if there is none.

    ``q``, ``q_low``, ``q_high`` (L,): variance of the pre-activations, and 95 % of nets of this width;
    ``log10_delta``, ``low``, ``high`` (L,): log10 of delta_l2 relative to the last hidden layer, and the same;
    ``slope``, ``slope_low``, ``slope_high``: its least-squares slope per layer, signed backward; ``rough``: why the
    band does not hold here, empty where it does; ``note``: what else to know about the line.
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
    rough: str = ""
    note: str = ""

    @property
    def factor(self) -> float | None:
        """Factor of ||delta||_2 per layer going backward: 10**slope."""
        return None if self.slope is None else power(10, self.slope)

    @property
    def verdict(self) -> Verdict:
        """The verdict that this slope would bring."""
        return "undetermined" if self.slope is None else verdict(self.slope, len(self.q))


def verdict(slope: float, hidden: int) -> Verdict:
    """Return exploding or vanishing where the slope makes a decade over ``hidden`` layers, else healthy.

    Below two hidden layers it is undetermined.
    """
    if hidden < 2:
        return "undetermined"
    decades = slope * (hidden - 1)
    return "exploding" if decades > 1 else "vanishing" if decades < -1 else "healthy"


def backward_slope(log10_delta: Sequence[float]) -> float:
    """Return the least-squares slope of ``log10_delta`` (L,) over depth, signed from output to input."""
    return float(_slope_weights(len(log10_delta)) @ np.asarray(log10_delta, float))


def _slope_weights(L: int) -> Array:
    depth = np.arange(L) - (L - 1) / 2
    return np.asarray(-depth / max(float(depth @ depth), 1e-300))


@final
@dataclass(frozen=True)
class _Step:
    """What happens between hidden layer l and the next: lengths forward, ||delta||**2 backward."""

    q: float  # the next layer's length
    factor: float  # E ||delta_l||**2 / E ||delta_(l+1)||**2
    share: float  # of it that comes through the weights (1 without a shortcut)
    carry: float  # d ln q_(l+1) / d ln q_l
    feed: float  # share of the weights in q_(l+1)
    bend: float  # d ln chi / d ln q_l


def predict(architecture: Architecture, q1: float, *, band: bool = True) -> Prediction:
    """Return the predicted profile of delta, from ``q1``, the measured variance of the first pre-activation.

    E ||delta_l||**2 = n_l std_(l+1)**2 E[phi'(sqrt(q_l) z)**2] / keep * E ||delta_(l+1)||**2, n_l the fan_in of
    W_(l+1): the widths drop out where Var W = 1 / fan_in. With a shortcut 1 + that; a normalization divides by the
    variance that it sees. With batch normalization q1 is the variance over the batch, mean over units. ``band=False``
    leaves finite width out (low = high = line).
    (Schoenholz et al. 2017; Yang et al. 2019; Yang & Schoenholz 2017.)
    """
    if (reason := _unanswerable(architecture, q1)) is not None:
        return Prediction(reason=reason)
    assert architecture.weight_std is not None
    L = len(architecture.hidden)
    q, steps = [q1], []
    for layer in range(L - 1):
        step = _step(architecture, layer, q[-1])
        if not (0 < step.q < 1e300 and 0 < step.factor < 1e300):
            return Prediction(reason="the length of the signal leaves the range of numbers")
        if _carriers(architecture, layer, q[-1]) < 1:
            return Prediction(reason=f"nearly all of layer_{layer + 1:02d} is saturated: what passes is chance")
        steps.append(step)
        q.append(step.q)
    logs = np.cumsum([0.0, *(math.log(s.factor) for s in reversed(steps))])[::-1]
    shift, covariance, q_shift, q_half = np.zeros(L), np.zeros((L, L)), np.zeros(L), np.zeros(L)
    if band and L > 1:
        noise = spread(_noise(architecture, q, steps))
        shift, covariance = noise.mean, noise.covariance + _unknown(architecture)
        q_shift, q_half = noise.q_mean, _TWO_SIDED_95 * np.sqrt(noise.q_variance)
    to_decades = 0.5 / math.log(10)  # from ln of a square
    line = (logs + shift) * to_decades
    half = _TWO_SIDED_95 * np.sqrt(np.maximum(np.diag(covariance), 0)) * to_decades
    weights = _slope_weights(L)
    slope = float(weights @ line)
    with np.errstate(over="ignore"):  # a band may end beyond all numbers
        ends = [np.array(q) * np.exp(q_shift + sign * q_half) for sign in (-1, 1)]
    give = _TWO_SIDED_95 * to_decades * math.sqrt(max(float(weights @ covariance @ weights), 0.0))
    return Prediction(
        q=tuple(q),
        q_low=tuple(ends[0].tolist()),
        q_high=tuple(ends[1].tolist()),
        log10_delta=tuple(line.tolist()),
        low=tuple((line - half).tolist()),
        high=tuple((line + half).tolist()),
        slope=slope,
        slope_low=slope - give,
        slope_high=slope + give,
        rough=_rough(architecture, q, steps),
        note=_note(architecture),
    )


def _unanswerable(net: Architecture, q1: float) -> str | None:
    if net.weight_std is None:
        return "theory needs weights that are drawn at random, independent and of one scale a layer"
    if not net.hidden:
        return "there is no hidden layer"
    if not all(s > 0 for s in net.weight_std):
        return "a layer's weights are all zero: no gradient passes through it"
    if not 0 < q1 < math.inf:
        return f"the variance of the first pre-activation is {q1:g}"
    if net.normalization == "batch" and net.batch_size <= ROUNDED_BATCH:
        return (
            f"batch normalization over {net.batch_size} samples leaves little of the gradient but its float32 rounding"
        )
    if net.normalization == "batch" and net.batch_size < SMALLEST_BATCH:
        return f"batch normalization over fewer than {SMALLEST_BATCH} samples is too noisy for a formula"
    return None


def _note(net: Architecture) -> str:
    if net.normalization == "batch":
        return f"for a batch of {net.batch_size}, deep in the net: the first layers still know the data"
    return ""


def _rough(net: Architecture, q: Sequence[float], steps: Sequence[_Step]) -> str:
    """Say why nets leave the line by more than the band, if they do.

    Three ways: the lengths of a batch's samples part, with batch normalization or without; or the part of delta along
    z, 1/n of it at the output, shrinks by d ln q_(l+1) / d ln q_l alone, and outlasts a rest that shrinks faster.
    """
    if net.normalization == "batch":
        if length_growth(net.activation) ** len(steps) > PARTED:
            return "a sample's length departs from the batch's, layer by layer"
        return ""
    if math.prod(max(s.carry, 1.0) for s in steps) > PARTED:
        return "lengths are unstable (V' > 1), so that the samples of a batch part"
    lengths = [n * x for n, x in zip(net.hidden, q, strict=True)]  # of z, squared
    along = [
        s.carry**2 * after / before / s.factor for (before, after), s in zip(pairwise(lengths), steps, strict=True)
    ]
    if math.prod(max(growth, 1.0) for growth in along) > OUTLASTED:
        return "the part of delta along z outlasts the rest"
    return ""


def _unknown(net: Architecture) -> Array:
    """Return the covariance (L, L) of what the theory leaves out, all layers erring the same way.

    Terms of order 1/n in the mean (forward and backward share their weights) come to as much as 2/n a
    layer in ln ||delta||**2; with batch normalization the samples stay a little alike, about 1 % a layer.
    Both sizes are those found in simulated nets of 50 to 800 units.
    """
    error = [2 / n + 0.01 * (net.normalization == "batch") for n in net.hidden[:-1]]
    shared = np.cumsum([0.0, *reversed(error)])[::-1]
    return np.outer(shared, shared)


def _step(net: Architecture, layer: int, q: float) -> _Step:
    assert net.weight_std is not None
    f, n = net.activation, net.hidden[layer]
    std2, b2 = net.weight_std[layer + 1] * net.weight_std[layer + 1], net.bias_variance  # ** raises beyond 1e154
    scale = n * std2  # fan_in times the variance: the factor of the weights, forward and backward alike
    if net.normalization == "none":
        A, D = second_moment(f, q) / net.keep, slope_moment(f, q) / net.keep
        carry, bend = second_moment_slope(f, q) / net.keep, _log_slope(f, q)
        chi = scale * D
    elif net.normalization == "batch":
        A, slope = batch_factors(f, net.batch_size, net.keep)
        carry, bend = 0.0, 0.0
        chi = scale * slope / q
    else:
        lost = float(net.normalization == "layer")  # the mean over units, which backward takes out
        A, D = second_moment(f, 1.0) / net.keep, slope_moment(f, 1.0) / net.keep
        carry, bend = 0.0, -1.0
        chi = scale * D * max(1 - lost / n, 1 / n) / q
    through = scale * A
    kept = q if net.residual else 0.0
    q_next = kept + through + b2
    return _Step(
        q=q_next,
        factor=float(net.residual) + chi,
        share=chi / (float(net.residual) + chi) if chi > 0 else 1.0,
        carry=(kept + scale * carry * q) / q_next if q_next > 0 else 0.0,
        feed=through / q_next if q_next > 0 else 0.0,
        bend=bend,
    )


def _carriers(net: Architecture, layer: int, q: float) -> float:
    """Return over how many of a layer's units one sample's delta is spread: n E[phi'**2]**2 / E[phi'**4]."""
    q = q if net.normalization == "none" else 1.0
    D = slope_moment(net.activation, q)
    fourth = expectation(lambda u: dphi(net.activation, u) ** 4, q, net.activation.kinks)
    return net.hidden[layer] * D * D / fourth if fourth > 0 else 0.0


def _log_slope(f: ActivationFunction, q: float) -> float:
    """Return d ln E[phi'**2] / d ln q."""
    h = 1e-3
    below, above = slope_moment(f, q * math.exp(-h)), slope_moment(f, q * math.exp(h))
    return math.log(above / below) / (2 * h) if below > 0 and above > 0 else 0.0


def _noise(net: Architecture, q: Sequence[float], steps: Sequence[_Step]) -> list[LayerNoise]:
    """Follow the correlation c (forward) and r**2 (backward) of a pair, and return every layer's noise."""
    f, L = net.activation, len(q)
    lengths = q if net.normalization == "none" else [1.0] * L
    c, found, correlations = FIRST_CORRELATION, [], []
    for layer in range(L):
        if net.normalization == "batch":
            c = 0.0
        correlations.append(c)
        found.append(moments(f, lengths[layer], c))
        if layer < L - 1:
            step, m = steps[layer], found[-1]
            mixed = step.feed * net.keep * m.A11 / max(m.A, 1e-300) + net.bias_variance / step.q
            c = min(mixed + (c * q[layer] / step.q if net.residual else 0.0), 1.0)
    r2 = 1 / max(net.fans[-1] - 1, 1)  # squared correlation of two samples' delta at the output
    noise = []
    for layer in reversed(range(L)):
        m, n, c = found[layer], net.hidden[layer], correlations[layer]
        held = net.normalization in ("layer", "rms") or net.orthogonal
        fixed = lengths[layer] * second_moment_slope(f, lengths[layer]) / max(m.A, 1e-300) if held else 0.0
        cov = layer_covariance(
            m, n, c, r2, keep=net.keep, batch=net.batch_size, orthogonal=net.orthogonal, forward_fixed=fixed
        )
        pairs = [(1 + (net.batch_size - 1) * x) / net.batch_size for x in (c * c, r2)]
        seen = 2 * pairs[0] / n
        if layer < L - 1:
            s = steps[layer]
            cross_f = 4 * (q[layer] / s.q) * s.feed * pairs[0] / n if net.residual else 0.0
            cross_b = 4 * s.share * (1 - s.share) * pairs[1] / n
            noise.append(LayerNoise(cov, s.carry, s.feed, s.bend, s.share, (cross_f, cross_b), seen))
        else:
            noise.append(LayerNoise(cov, 0.0, 0.0, 0.0, seen=seen))
        through = net.keep * m.D11 / max(m.D, 1e-300)
        share = steps[layer].share if layer < L - 1 else 1.0
        lost = 1 - share + share * through if net.residual else through
        r2 = min(r2 * lost**2 + share * (1 - r2) * m.D22 / n, 1.0)  # random weights align what was not alike
    return noise[::-1]
