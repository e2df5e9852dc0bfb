"""The finding in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bpx.diagnosis.finding import Finding
from bpx.diagnosis.observation import Observation
from bpx.diagnosis.trials import root_mean_square
from bpx.engine.dense import Dense
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.engine.residual import Residual
from bpx.theory import Verdict, slope_verdict

PART_NAMES = {cls.kind: cls.display_name for cls in (Dense, Normalization, Residual)}
UNDERFLOW_MARGIN = 1e8  # times the smallest normal number: below, the next layer's delta may underflow
_WITHOUT = {
    "weights": "rescaled to that",
    "dropout": "without it",
    "normalization": "without it",
    "shortcuts": "without them",
    "inputs": "rescaled to 1",
}
VERBS = {Verdict.VANISHING: "vanish", Verdict.EXPLODING: "explode", Verdict.HEALTHY: "are healthy"}


def sentence(f: Finding, observation: Observation) -> str:
    """Return the finding in words."""
    if not observation.finite:
        return "Undetermined: the first backward pass is not finite."
    if not observation.loss_gradient_nonzero:
        return "Undetermined: no gradient enters, delta of the output layer is exactly zero."
    if f.n_hidden < 2:
        return _shallow(f, observation) + _rest(f)
    if f.verdict == Verdict.UNDETERMINED:
        return "Undetermined: delta cannot be followed through the hidden layers."
    if f.zero_layers:
        return f"Gradients vanish: {_zeros(f, observation)} ({_theory(f)}).{_rest(f)}"
    assert f.factor is not None and f.ratio is not None
    return (
        f"Gradients {VERBS[f.verdict]}: going backward delta changes ×{_x(f.factor)} per layer, "
        f"×{f.ratio:.2g} from the last to the first of {f.n_hidden} hidden layers ({_theory(f)}).{_rest(f)}"
    )


def because(f: Finding, blamed: Callable[[str], str]) -> str:
    """Return the cause in words; ``blamed`` names a part, with the number that makes it the cause."""
    if not f.trials:
        return "no single part: with each taken out nothing comes through"
    best = min(f.trials, key=lambda part: abs(math.log(f.trials[part])))
    if not f.cause:
        how = "rescaled" if best in ("weights", "inputs") else "taken out"
        return f"no single part (the best, {best} {how}: ×{_x(f.trials[best])} per layer)"
    parts = f.cause.split(" and ")
    said = "; ".join(f"{blamed(part)} ({_WITHOUT[part]}: ×{_x(f.trials[part])} per layer)" for part in parts)
    enough = slope_verdict(math.log10(f.trials[best]), f.n_hidden) == Verdict.HEALTHY
    return said if enough else f"{said}, {'each ' if len(parts) > 1 else ''}not enough alone"


def blamed_part(part: str, f: Finding, net: Network) -> str:
    """Return the name of a part, with the number that makes it the cause."""
    spec = net.spec
    if part == "weights" and f.weights_gain is not None and f.needed_gain is not None:
        name = spec.activation.name if spec else "the activation"
        beside = " in a residual branch" if any(block.branch for block in net.blocks) else ""
        biases = [dense.b.value for dense in net.dense[1:-1] if dense.b is not None]
        bias = root_mean_square(np.concatenate(biases)) if biases else 0.0
        beside += f" with biases of {bias:.2g}" if bias else ""
        return f"weights ×{f.weights_gain:#.3g} per layer where {name}{beside} needs ×{f.needed_gain:#.3g}"
    if part == "dropout" and spec:
        return f"dropout at rate {spec.dropout:g}"
    if part == "normalization" and spec and spec.normalization:
        return f"{spec.normalization.method} normalization"
    if part == "shortcuts":
        return shortcuts_blamed(f)
    if part == "inputs" and net.last_batch is not None:
        return f"inputs of RMS {root_mean_square(net.last_batch[0]):.3g}"
    return part


def shortcuts_blamed(f: Finding) -> str:
    """Name the shortcuts as the cause, with the factor of a block and the one that stays healthy."""
    limit = 10 ** ((1 if f.verdict == Verdict.EXPLODING else -1) / (f.n_hidden - 1))
    side = "below" if limit > 1 else "above"
    block = _x(f.gains.get(Residual.display_name, 0.0))
    return f"the sum at the shortcuts, ×{block} per block where {f.n_hidden} layers stay healthy {side} ×{_x(limit)}"


def _rest(f: Finding) -> str:
    """Say the cause, what else is known, and what to try."""
    cause = f" Cause: {f.because}." if f.because else ""
    facts = "".join(f" {fact}." for fact in f.facts)
    tries = " or ".join(f"{remedy.command} (×{_x(remedy.factor)} per layer)" for remedy in f.remedies)
    return cause + facts + (f" Try: {tries}." if tries else "")


def _shallow(f: Finding, observation: Observation) -> str:
    """Say what is known of a network in which nothing can vanish or explode from layer to layer."""
    if f.zero_layers:
        return f"One hidden layer: {_zeros(f, observation)}."
    known = []
    if f.n_hidden:
        known.append(
            f"going backward delta changes ×{_x(observation.output_gain)} from the output to {observation.name(0)}"
        )
        known += [f"{100 * f.saturation:.0f} % saturated"] if f.saturation is not None else []
    if observation.update_ratios and all(map(math.isfinite, observation.update_ratios)):  # weights of zero have none
        changes = " and ".join(f"{ratio:.1e}" for ratio in observation.update_ratios)
        known.append(f"the first step changes the weights by {changes} of their norm")
    start = "One hidden layer, so no slope" if f.n_hidden else "No hidden layer"
    return f"{start}: {'; '.join(known)}." if known else f"{start}."


def _zeros(f: Finding, observation: Observation) -> str:
    where = f.zero_layers[0] if len(f.zero_layers) == 1 else f"{f.zero_layers[0]} to {f.zero_layers[-1]}"
    text = f"delta is exactly zero in {where}" + (f" of {f.n_hidden} hidden layers" if f.n_hidden > 1 else "")
    if observation.blocked_at is not None:
        layer, kind = observation.blocked_at
        text += f", lost in the {PART_NAMES.get(kind, kind)} of {layer}"
    positive = observation.delta_l2[observation.delta_l2 > 0]
    if positive.size and positive.min() < UNDERFLOW_MARGIN * np.finfo(observation.dtype).tiny:
        more = " (dtype=float64 shows more)" if observation.dtype == "float32" else ""
        text += f" because it is smaller than any {observation.dtype}{more}"
    return text


def _theory(f: Finding) -> str:
    if f.predicted_slope is None or f.predicted_factor is None:
        return f"theory has no prediction: {f.reason}"
    if f.caveat:
        return f"theory predicts ×{_x(f.predicted_factor)}, but only roughly: {f.caveat}"
    text = f"theory predicts ×{_x(f.predicted_factor)}"
    if f.slope is None or f.predicted_low is None or f.predicted_high is None or f.predicted_low == f.predicted_high:
        return text
    inside = f.predicted_low <= f.slope <= f.predicted_high
    return f"{text}, measured {'within' if inside else 'outside'} its 95 % band"


def _x(factor: float) -> str:
    if 0.01 <= factor < 0.1:
        return f"{factor:.4f}"
    return f"{factor:.3f}" if 0.1 <= factor < 1000 else f"{factor:.2e}"
