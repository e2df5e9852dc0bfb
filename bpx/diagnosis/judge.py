"""Judging what one pass showed: the verdict, the cause that trials found, and the remedies that were measured."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bpx.diagnosis.degenerate import empty_inputs, equal_weights
from bpx.diagnosis.finding import Finding
from bpx.diagnosis.observation import Observation
from bpx.diagnosis.remedies import Redraw, find_remedies
from bpx.diagnosis.sentence import PART_NAMES, because, sentence
from bpx.diagnosis.trials import Causes, find_causes, gains, geometric_mean, needed_gains
from bpx.engine.activations import ActivationFunction
from bpx.engine.network import Network
from bpx.probes.probe import weight_layers
from bpx.probes.scales import SATURATION_THRESHOLD
from bpx.theory import Prediction, Verdict, slope_verdict
from bpx.theory.gaussian import dphi, rule

MAX_DECADES = 300.0  # per layer: beyond, a factor is no number of float64
SATURATION_EXCESS = 0.25  # above what signals of unit scale show


def diagnose_pass(
    net: Network, observation: Observation, prediction: Prediction, redraw: Redraw | None = None
) -> Finding:
    """Judge what ``net`` did in its last pass, its ``observation``, beside theory's ``prediction`` for it.

    Where the gradients vanish or explode, the cause is found by trial (``find_causes``), and the remedies by measuring
    networks that ``redraw`` draws with one change each (``find_remedies``); without it none are named.
    """
    L, line = len(observation.delta_l2), observation.depth_slope
    nothing = bool(
        L and observation.finite and observation.loss_gradient_nonzero and not (observation.delta_l2 > 0).all()
    )
    if line is not None:
        verdict = slope_verdict(line.slope, L)
    else:
        verdict = Verdict.VANISHING if nothing and L >= 2 else Verdict.UNDETERMINED
    unhealthy = verdict in (Verdict.VANISHING, Verdict.EXPLODING) and net.last_batch is not None
    empty = "" if net.last_batch is None else empty_inputs(net.last_batch[0])
    equal = equal_weights(net)
    causes = Causes((), {})
    if unhealthy and empty:
        causes = Causes(("inputs",), {})
    elif unhealthy and equal:
        causes = Causes(("symmetry",), {})
    elif unhealthy:
        causes = find_causes(net, -math.inf if line is None else line.slope)
    remedies = find_remedies(net, redraw, causes.parts) if redraw and unhealthy and not empty else ()
    fitted = line is not None and math.isfinite(line.slope)
    zeros = tuple(f"layer_{i + 1:02d}" for i in np.flatnonzero(observation.delta_l2 == 0))
    finding = Finding(
        verdict=verdict,
        n_hidden=L,
        slope=line.slope if line is not None and fitted else None,
        ratio=line.ratio if line is not None else None,
        residual=line.residual if line is not None and fitted else None,
        worst_layer=f"layer_{line.worst:02d}" if line is not None else None,
        worst_residual=line.worst_residual if line is not None and fitted else None,
        zero_layers=zeros,
        forward_slope=observation.forward_slope,
        predicted_slope=prediction.slope,
        predicted_low=prediction.slope_low,
        predicted_high=prediction.slope_high,
        reason=prediction.reason,
        cause=" and ".join(causes.parts),
        trials={part: 10**slope for part, slope in causes.slopes.items() if abs(slope) < MAX_DECADES},
        gains={PART_NAMES.get(kind, kind): 10**log for kind, log in observation.gains.items()},
        weights_gain=geometric_mean(gains(net)) if unhealthy else None,
        needed_gain=geometric_mean(needed_gains(net)[1:]) if unhealthy else None,
        saturation=None if math.isnan(observation.saturation) else observation.saturation,
        remedies=remedies,
        caveat=prediction.caveat,
    )
    facts = [fact[0].upper() + fact[1:] for fact in (empty, equal) if fact]
    if unhealthy:
        finding = replace(finding, because=empty or equal or because(finding, net))
        facts = _saturation(net, observation) if not (empty or equal) else []
    finding = replace(finding, facts=tuple(facts))
    return replace(finding, sentence=sentence(finding, observation))


def _saturation(net: Network, observation: Observation) -> list[str]:
    """Say how many units are saturated, where it is many more than at unit scale."""
    function = next((p.activation.function for p in weight_layers(net) if p.activation is not None), None)
    if function is None or not observation.saturation > usual_saturation(function) + SATURATION_EXCESS:
        return []
    usual = f"({function.name} at unit scale: {100 * usual_saturation(function):.0f} %)"
    return [f"{100 * observation.saturation:.0f} % of the units are saturated {usual}"]


@lru_cache(maxsize=64)
def usual_saturation(function: ActivationFunction) -> float:
    """Return the share of z ~ N(0, 1) with |phi'(z)| below 5 % of the largest |phi'|: 1/2 for ReLU, 0 for tanh."""
    z, _, w = rule(1.0, function.kinks)
    return float(w @ (np.abs(dphi(function, z)) < SATURATION_THRESHOLD * function.max_slope))
