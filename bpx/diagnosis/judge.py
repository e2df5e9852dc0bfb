"""Judging what one pass showed: the verdict, its cause, and what theory says would change it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bpx.diagnosis.finding import Finding
from bpx.diagnosis.observation import Observation
from bpx.diagnosis.sentence import PARTS, sentence
from bpx.engine.activations import ActivationFunction
from bpx.probes.scales import SATURATED
from bpx.theory import Alternative, Architecture, Prediction, alternatives, predict, verdict
from bpx.theory.gaussian import dphi, rule

SATURATION_BEYOND = 0.25  # above what signals of unit scale show


def find(seen: Observation, net: Architecture | None, q1: float, prediction: Prediction) -> Finding:
    """Judge what was ``seen`` in one pass, beside the ``prediction`` for the network ``net`` started at ``q1``."""
    L, line = len(seen.delta_l2), seen.depth_slope
    nothing = bool(L and seen.finite and seen.enters and not (seen.delta_l2 > 0).all())
    if line is not None:
        spoken: str = verdict(line.slope, L)
    else:
        spoken = "vanishing" if nothing and L >= 2 else "undetermined"
    cause = _cause(spoken, seen, net)
    remedies: tuple[tuple[str, float], ...] = ()
    if cause and net is not None and not (nothing and net.keep < 1):  # masks that let nothing through are no scale
        remedies = _remedies(net, q1, L, finite_width=prediction.low != prediction.high)  # as for the net itself
    fitted = line is not None and math.isfinite(line.slope)
    zeros = tuple(f"layer_{i + 1:02d}" for i in np.flatnonzero(seen.delta_l2 == 0))
    finding = Finding(
        verdict=spoken,
        hidden=L,
        slope=line.slope if line is not None and fitted else None,
        ratio=line.ratio if line is not None else None,
        residual=line.residual if line is not None and fitted else None,
        worst_layer=f"layer_{line.worst:02d}" if line is not None else None,
        worst_by=line.worst_by if line is not None and fitted else None,
        zero_layers=zeros,
        forward_slope=seen.forward_slope,
        predicted_slope=prediction.slope,
        predicted_low=prediction.slope_low,
        predicted_high=prediction.slope_high,
        reason=prediction.reason,
        cause=cause,
        gains={PARTS.get(kind, kind): 10**log for kind, log in seen.gains.items()},
        saturation=None if math.isnan(seen.saturation) else seen.saturation,
        remedies=remedies,
        rough=prediction.rough,
    )
    return replace(finding, sentence=sentence(finding, seen))


def _cause(spoken: str, seen: Observation, net: Architecture | None) -> str:
    """Name the kind of operation that loses (or adds) most.

    A normalization undoes the scale of the weights before it, so the two are one where there is a normalization.
    """
    if spoken not in ("vanishing", "exploding"):
        return ""
    if seen.stop is not None:
        kind = seen.stop[1]
        return "saturation" if kind == "activation" else PARTS.get(kind, kind)
    parts = dict(seen.gains)
    if "norm" in parts:
        parts["norm"] += parts.pop("dense", 0.0)
    if not parts:
        return ""
    worst = (min if spoken == "vanishing" else max)(parts, key=lambda kind: parts[kind])
    if (
        worst == "activation"
        and net is not None
        and seen.saturation > usual_saturation(net.activation) + SATURATION_BEYOND
    ):
        return "saturation"
    return PARTS.get(worst, worst)


@lru_cache(maxsize=64)
def usual_saturation(function: ActivationFunction) -> float:
    """Return the share of z ~ N(0, 1) with |phi'(z)| below 5 % of the largest |phi'|: 1/2 for ReLU, 0 for tanh."""
    z, _, w = rule(1.0, function.kinks)
    return float(w @ (np.abs(dphi(function, z)) < SATURATED * function.max_slope))


def _remedies(net: Architecture, q1: float, L: int, *, finite_width: bool) -> tuple[tuple[str, float], ...]:
    """Return an initializer and another change for which theory predicts a healthy net.

    Of the initializers the one nearest to 1; of the others a normalization rather than shortcuts, and these
    rather than another activation. ``finite_width`` counts what their width does, too, which can take a second.
    """
    sound = [a for a in alternatives(net, q1) if a.override != "activation=linear" and _healthy(a.factor, L)]
    groups = ("normalization", "model", "activation")
    initializers = [a for a in sound if a.override.startswith("initializer")]
    others = sorted(
        (a for a in sound if a not in initializers), key=lambda a: groups.index(a.override.partition("=")[0])
    )
    return tuple(pair for some in (initializers, others) if (pair := _first(some, L, finite_width)) is not None)


def _first(some: Sequence[Alternative], L: int, finite_width: bool) -> tuple[str, float] | None:
    """Return the first whose line theory stands for and, if ``finite_width``, that is healthy at its width, too."""
    for one in (a for a in some if not a.answer.rough):
        answer = predict(one.architecture, one.q1) if finite_width else one.answer
        if answer.factor is not None and _healthy(answer.factor, L):
            return one.override, answer.factor
    return None


def _healthy(factor: float, L: int) -> bool:
    return verdict(math.log10(factor), L) == "healthy"
