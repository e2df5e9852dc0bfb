"""The finding in one sentence."""

from __future__ import annotations

import math

from bpx.diagnosis.finding import Finding
from bpx.diagnosis.observation import Observation

PARTS = {"dense": "weights", "norm": "normalization", "residual": "shortcuts"}  # kinds of operations, for people
_VERBS = {"vanishing": "vanish", "exploding": "explode", "healthy": "are healthy"}


def sentence(f: Finding, seen: Observation) -> str:
    """Say what was found, from what was ``seen``."""
    if not seen.finite:
        return "Undetermined: the first backward pass is not finite."
    if not seen.enters:
        return "Undetermined: no gradient enters, delta of the output layer is exactly zero."
    if f.hidden < 2:
        return _shallow(f, seen)
    if f.verdict == "undetermined":
        return "Undetermined: delta cannot be followed through the hidden layers."
    if f.zero_layers:
        return f"Gradients vanish: {_zeros(f, seen)} ({_theory(f)}){_trial(f)}."
    assert f.factor is not None and f.ratio is not None
    text = (
        f"Gradients {_VERBS[f.verdict]}: going backward delta changes ×{_x(f.factor)} per layer, "
        f"×{f.ratio:.2g} from the last to the first of {f.hidden} hidden layers ({_theory(f)})"
    )
    if f.cause:
        gains = ", ".join(f"{part} ×{_x(gain)}" for part, gain in f.gains.items())
        share = f"; {100 * f.saturation:.0f} % saturated" if f.saturation is not None else ""
        text += f", because of {_the(f.cause)} (per layer {gains}{share}){_trial(f)}"
    return text + "."


def _shallow(f: Finding, seen: Observation) -> str:
    """Say what is known of a network in which nothing can vanish or explode from layer to layer."""
    if f.zero_layers:
        return f"One hidden layer: {_zeros(f, seen)}."
    known = []
    if f.hidden:
        known.append(f"going backward delta changes ×{_x(seen.output_gain)} from the output to layer_01")
        known += [f"{100 * f.saturation:.0f} % saturated"] if f.saturation is not None else []
    if seen.update_ratios and all(map(math.isfinite, seen.update_ratios)):  # weights of zero have none
        changes = " and ".join(f"{ratio:.1e}" for ratio in seen.update_ratios)
        known.append(f"the first step changes the weights by {changes} of their norm")
    start = "One hidden layer, so no slope" if f.hidden else "No hidden layer"
    return f"{start}: {'; '.join(known)}." if known else f"{start}."


def _zeros(f: Finding, seen: Observation) -> str:
    where = f.zero_layers[0] if len(f.zero_layers) == 1 else f"{f.zero_layers[0]} to {f.zero_layers[-1]}"
    text = f"delta is exactly zero in {where}" + (f" of {f.hidden} hidden layers" if f.hidden > 1 else "")
    if seen.stop is not None:
        layer, kind = seen.stop
        text += f", lost in {_the(PARTS.get(kind, kind))} of {layer}"
    positive = seen.delta_l2[seen.delta_l2 > 0]
    if positive.size and positive.min() < 1e-30:
        text += " because it is smaller than any float32 (dtype=float64 shows more)"
    return text


def _theory(f: Finding) -> str:
    if f.predicted_slope is None or f.predicted_factor is None:
        return f"theory has no prediction: {f.reason}"
    if f.rough:
        return f"theory predicts ×{_x(f.predicted_factor)}, but only roughly: {f.rough}"
    text = f"theory predicts ×{_x(f.predicted_factor)}"
    if f.slope is None or f.predicted_low is None or f.predicted_high is None or f.predicted_low == f.predicted_high:
        return text
    inside = f.predicted_low <= f.slope <= f.predicted_high
    return f"{text}, measured {'within' if inside else 'outside'} its 95 % band"


def _trial(f: Finding) -> str:
    if not f.remedies:
        return ""
    return "; " + ", ".join(f"with {o} theory predicts ×{_x(factor)} per layer" for o, factor in f.remedies)


def _the(part: str) -> str:
    return part if part in ("saturation", "dropout") else f"the {part}"


def _x(factor: float) -> str:
    return f"{factor:.3f}" if 0.1 <= factor < 1000 else f"{factor:.2e}"
