"""What happens between one hidden layer and the next, in the limit of wide layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from bpx.engine.activation import ActivationFunction
from bpx.theory.architecture import Architecture
from bpx.theory.batchnorm import batch_factors
from bpx.theory.gaussian import dphi, expectation, resolved, second_moment, second_moment_slope, slope_moment


@final
@dataclass(frozen=True)
class Step:
    """What happens between hidden layer l and the next: lengths forward, ||delta||**2 backward.

    Attributes
    ----------
    q : float
        The next layer's length.
    factor : float
        E ||delta_l||**2 / E ||delta_(l+1)||**2.
    backward_share : float
        Share of it that comes through the weights, 1 without a shortcut.
    dln_q : float
        d ln q_(l+1) / d ln q_l.
    forward_share : float
        Share of the weights in q_(l+1).
    dln_chi : float
        d ln chi / d ln q_l.
    """

    q: float
    factor: float
    backward_share: float
    dln_q: float
    forward_share: float
    dln_chi: float


def step(net: Architecture, layer: int, q: float) -> Step:
    """Return the step from hidden layer ``layer`` (from 0), of length ``q``, to the next."""
    assert net.weight_std is not None
    f, n, width = net.activation, net.inputs(layer + 1), net.hidden[layer]
    std2, b2 = net.weight_std[layer + 1] * net.weight_std[layer + 1], net.bias_variance  # ** raises beyond 1e154
    beside = net.branch_scale * net.branch_scale if net.residual else 1.0
    forward, backward = (share[layer] for share in net.inside)
    scale = n * std2 * beside * forward  # fan_in times the variance: the factor of the weights, but for the borders
    back = n * std2 * beside * backward
    if not net.normalizes:
        A, D = second_moment(f, q) / net.keep_prob, slope_moment(f, q) / net.keep_prob
        dln_q, dln_chi = second_moment_slope(f, q) / net.keep_prob, log_slope(f, q)
        chi = back * D
    elif net.role.over_batch:
        A, slope = batch_factors(f, net.batch_size, net.keep_prob)
        dln_q, dln_chi = 0.0, 0.0
        chi = back * slope / q
    else:
        lost = float(net.role.holds_mean)  # the mean over units, which backward takes out
        A, D = second_moment(f, 1.0) / net.keep_prob, slope_moment(f, 1.0) / net.keep_prob
        dln_q, dln_chi = 0.0, -1.0
        chi = back * D * max(1 - lost / width, 1 / width) / q
    through = scale * A
    kept = q if net.residual else 0.0
    q_next = kept + through + b2 * beside
    return Step(
        q=q_next,
        factor=float(net.residual) + chi,
        backward_share=chi / (float(net.residual) + chi) if chi > 0 or net.residual else 1.0,
        dln_q=(kept + scale * dln_q * q) / q_next if q_next > 0 else 0.0,
        forward_share=through / q_next if q_next > 0 else 0.0,
        dln_chi=dln_chi,
    )


def carriers(net: Architecture, layer: int, q: float) -> float:
    """Return over how many of a layer's units one sample's delta is spread: n E[phi'**2]**2 / E[phi'**4]."""
    q = resolved(net.activation, net.activation_variance(q))
    D = slope_moment(net.activation, q)
    fourth = expectation(lambda u: dphi(net.activation, u) ** 4, q, net.activation.kinks)
    return net.hidden[layer] * D * D / fourth if fourth > 0 else 0.0


def log_slope(f: ActivationFunction, q: float) -> float:
    """Return d ln E[phi'**2] / d ln q."""
    h = 1e-3
    below, above = slope_moment(f, q * math.exp(-h)), slope_moment(f, q * math.exp(h))
    return math.log(above / below) / (2 * h) if below > 0 and above > 0 else 0.0
