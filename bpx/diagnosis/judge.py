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
from bpx.diagnosis.sentence import PART_NAMES, because, blamed_part, sentence
from bpx.diagnosis.time_cause import explained
from bpx.diagnosis.time_flow import time_flow
from bpx.diagnosis.trials import Causes, find_causes, gains, geometric_mean, needed_gains
from bpx.engine.activation import ActivationFunction
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
    unhealthy = is_unhealthy(observation) and net.last_batch is not None
    empty = "" if net.last_batch is None else empty_inputs(net.last_batch[0])
    equal = equal_weights(net)
    causes = Causes((), {})
    if unhealthy and empty:
        causes = Causes(("inputs",), {})
    elif unhealthy and equal:
        causes = Causes(("symmetry",), {})
    elif unhealthy:
        line = observation.depth_slope
        causes = find_causes(net, -math.inf if line is None else line.slope)
    remedies = find_remedies(net, redraw, causes.parts) if redraw and unhealthy and not empty else ()
    facts = tuple(fact[0].upper() + fact[1:] for fact in (empty, equal) if fact)
    finding = replace(
        measured_finding(observation, prediction, causes),
        weights_gain=geometric_mean(gains(net)) if unhealthy else None,
        needed_gain=geometric_mean(needed_gains(net)[1:]) if unhealthy else None,
        remedies=remedies,
        facts=facts,
    )
    if unhealthy:
        why = empty or equal or because(finding, lambda part: blamed_part(part, finding, net))
        function = next((p.activation.function for p in weight_layers(net) if p.activation is not None), None)
        facts = () if empty or equal else saturation_facts(function, observation)
        finding = replace(finding, because=why, facts=facts)
    said, time = sentence(finding, observation), time_flow(net)
    if time is None or not observation.finite:
        return replace(finding, sentence=said)
    time = explained(time, net, redraw)
    return replace(
        finding,
        sentence=f"{said} {time.sentence}",
        verdict_time=time.verdict,
        cause_time=time.cause,
        remedies_time=time.remedies,
        time_slope=time.slope,
        time_ratio=time.ratio,
        predicted_time_slope=time.predicted_slope,
        predicted_time_low=None if time.band is None else time.band[0],
        predicted_time_high=None if time.band is None else time.band[1],
    )


def pass_verdict(observation: Observation) -> Verdict:
    """Return the verdict on a pass: vanishing too where delta is exactly zero somewhere and the loss sends one back."""
    L, line = len(observation.delta_l2), observation.depth_slope
    if line is not None:
        return slope_verdict(line.slope, L)
    nothing = observation.finite and observation.loss_gradient_nonzero and not (observation.delta_l2 > 0).all()
    return Verdict.VANISHING if nothing and L >= 2 else Verdict.UNDETERMINED


def is_unhealthy(observation: Observation) -> bool:
    """Return whether the gradients of a pass vanish or explode, so that a cause is looked for."""
    return pass_verdict(observation) in (Verdict.VANISHING, Verdict.EXPLODING)


def measured_finding(observation: Observation, prediction: Prediction, causes: Causes) -> Finding:
    """Return the finding with what was measured and predicted; the words, the gains and the remedies are not in it."""
    line = observation.depth_slope
    fitted = line is not None and math.isfinite(line.slope)
    return Finding(
        verdict=pass_verdict(observation),
        n_hidden=len(observation.delta_l2),
        slope=line.slope if line is not None and fitted else None,
        ratio=line.ratio if line is not None else None,
        residual=line.residual if line is not None and fitted else None,
        worst_layer=observation.name(line.worst - 1) if line is not None else None,
        worst_residual=line.worst_residual if line is not None and fitted else None,
        zero_layers=tuple(observation.name(int(i)) for i in np.flatnonzero(observation.delta_l2 == 0)),
        forward_slope=observation.forward_slope,
        predicted_slope=prediction.slope,
        predicted_low=prediction.slope_low,
        predicted_high=prediction.slope_high,
        reason=prediction.reason,
        cause=" and ".join(causes.parts),
        trials={part: 10**slope for part, slope in causes.slopes.items() if abs(slope) < MAX_DECADES},
        gains={PART_NAMES.get(kind, kind): 10**log for kind, log in observation.gains.items()},
        saturation=None if math.isnan(observation.saturation) else observation.saturation,
        caveat=prediction.caveat,
    )


def saturation_facts(function: ActivationFunction | None, observation: Observation) -> tuple[str, ...]:
    """Say how many units are saturated, where it is many more than at unit scale."""
    if function is None or not observation.saturation > usual_saturation(function) + SATURATION_EXCESS:
        return ()
    usual = f"({function.name} at unit scale: {100 * usual_saturation(function):.0f} %)"
    return (f"{100 * observation.saturation:.0f} % of the units are saturated {usual}",)


@lru_cache(maxsize=64)
def usual_saturation(function: ActivationFunction) -> float:
    """Return the share of z ~ N(0, 1) with |phi'(z)| below 5 % of the largest |phi'|: 1/2 for ReLU, 0 for tanh."""
    z, _, w = rule(1.0, function.kinks)
    return float(w @ (np.abs(dphi(function, z)) < SATURATION_THRESHOLD * function.max_slope))
