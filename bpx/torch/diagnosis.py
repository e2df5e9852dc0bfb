"""diagnose: the finding for any PyTorch model, which stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from bpx.diagnosis.degenerate import empty_inputs
from bpx.diagnosis.finding import Finding
from bpx.diagnosis.judge import is_unhealthy, measured_finding, saturation_facts
from bpx.diagnosis.observation import Observation
from bpx.diagnosis.rows import architecture_facts, predicted
from bpx.diagnosis.sentence import PART_NAMES, because, sentence, shortcuts_blamed
from bpx.diagnosis.trials import Causes, geometric_mean
from bpx.engine.activation import ActivationFunction
from bpx.records import Rows
from bpx.theory import Architecture, Prediction
from bpx.torch.measure import PassMeasurement
from bpx.torch.modules import NORMS, function
from bpx.torch.passes import batch, measured_pass
from bpx.torch.preserved import preserved
from bpx.torch.remedies import TrialContext, find_causes, find_remedies, input_rms, trial_context
from bpx.torch.theory import predict_pass


def diagnose(
    model: nn.Module,
    x: object,
    y: object = None,
    loss: Callable[[Any, Any], Tensor] = nn.functional.cross_entropy,
    reduction: str = "mean",
    *,
    closure: Callable[..., Tensor] | None = None,
    n: int | None = None,
) -> Finding:
    """Return what the gradients of a PyTorch model do on a batch, why, and what would change it.

    One pass forward and backward in training mode; the model, its gradients, its buffers and PyTorch's random state
    are afterwards as they were. Layers are the weight layers in the order of execution, by their names in the model;
    the output layers are not among the hidden ones. delta is dJ_i/dz at a layer's output, J_i the loss of a sample.
    The cause is found, and remedies are tried, on copies of the model.

    Parameters
    ----------
    model : Module
        The model, as it is trained.
    x : Tensor, tuple or mapping
        The inputs: one tensor, several as positional arguments, or keyword arguments. The first axis is the samples'.
    y : Any
        The targets, as ``loss`` takes them.
    loss : callable
        ``loss(output, y)`` returns a scalar; cross-entropy by default.
    reduction : {"mean", "sum"}
        How the loss combines the samples.
    closure : callable, optional
        ``closure(model, x)``, with targets ``closure(model, x, y)``, returns the scalar loss; then ``loss`` is not
        used. It has to use the model that it is given: copies of it are tried.
    n : int, optional
        Number of samples, where it is not the length of the first tensor in x.

    Returns
    -------
    Finding
        As ``bpx.diagnose`` returns it; the ``command`` of a remedy is PyTorch code that changes ``model`` (or ``x``).

    Raises
    ------
    ValueError
        No weight layer runs, the loss is no scalar or detached, a layer runs under ``torch.no_grad``, or an activation
        in place overwrites what backward needs; the message names the module.
    """
    from bpx.figures import layer_profile

    if not isinstance(model, nn.Module):
        raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    given = batch(x, y, loss, reduction, closure, n)
    with preserved(model):  # reading a parametrized weight may change buffers
        with measured_pass(model, given) as measured:
            observation = measured.observation()
            known, prediction = predict_pass(measured)
            rows = record(measured, known, prediction, observation)
            line = observation.depth_slope
            slope = -math.inf if line is None else line.slope
            context = trial_context(measured, given, slope, known=known is not None)
            facts = tuple(_facts(measured, observation))
            activations = activation_functions(measured)
        finding = _judged(context, observation, prediction, facts, activations)
    rows.about |= {"finding": finding.as_dict()}
    return replace(finding, figure=layer_profile(rows.records(), finding=False))


def record(
    measured: PassMeasurement, known: Architecture | None, prediction: Prediction, observation: Observation
) -> Rows:
    """Return the rows of a pass at step 0, and what they are about."""
    rows = Rows()
    for reading in measured.readings():
        rows.append(0, 0.0, reading.keys, reading.values)
    rows.append(0, 0.0, *measured.gains())
    rows.append(0, 0.0, *predicted(prediction, observation))
    rows.about = about(measured, known)
    return rows


def about(measured: PassMeasurement, known: Architecture | None) -> dict[str, Any]:
    """Return what a record says of a model, as plain JSON; ``modules`` are the names of its layers in the model."""
    facts: dict[str, Any] = {
        "batch_size": measured.n,
        "dtype": measured.dtype,
        "dataset": f"{measured.n} samples",
        "modules": list(measured.modules),
        "operations": PART_NAMES,
    }
    return facts | architecture_facts(known)


def _judged(
    s: TrialContext,
    observation: Observation,
    prediction: Prediction,
    facts: tuple[str, ...],
    activations: list[ActivationFunction],
) -> Finding:
    """Return the finding, the cause found and the remedies tried where the gradients vanish or explode."""
    unhealthy = is_unhealthy(observation)
    empty = _empty(s.given.x)
    equal = _equal(s)
    causes = Causes((), {})
    if unhealthy and (empty or equal):
        causes = Causes(("inputs" if empty else "symmetry",), {})
    elif unhealthy:
        causes = find_causes(s)
    finding = replace(
        measured_finding(observation, prediction, causes),
        weights_gain=geometric_mean([h.gain for h in s.inner]) if unhealthy else None,
        needed_gain=_needed(s) if unhealthy else None,
        remedies=find_remedies(s, causes.parts) if unhealthy and not empty else (),
    )
    said = tuple(fact[0].upper() + fact[1:] for fact in (empty, equal) if fact)
    if unhealthy:
        why = empty or equal or _because(finding, s, causes, activations)
        only = activations[0] if len(activations) == 1 else None
        said = () if empty or equal else saturation_facts(only, observation)
        finding = replace(finding, because=why)
    finding = replace(finding, facts=(*said, *facts))
    in_words = tuple(remedy._replace(command=remedy.change) for remedy in finding.remedies)
    return replace(finding, sentence=sentence(replace(finding, remedies=in_words), observation))


def _because(f: Finding, s: TrialContext, causes: Causes, activations: list[ActivationFunction]) -> str:
    if not causes.slopes:
        return "not known: the model has no part that could be rescaled or taken out"
    return because(f, lambda part: _blamed(part, f, s, activations))


def _blamed(part: str, f: Finding, s: TrialContext, activations: list[ActivationFunction]) -> str:
    """Name a part, with the number that makes it the cause."""
    if part == "weights" and f.weights_gain is not None:
        if f.needed_gain is None:
            return f"weights ×{f.weights_gain:#.3g} per layer, too {'small' if f.verdict == 'vanishing' else 'large'}"
        name = activations[0].name if len(activations) == 1 else "their activation"
        beside = " in a residual branch" if s.blocks else ""
        return f"weights ×{f.weights_gain:#.3g} per layer where {name}{beside} needs ×{f.needed_gain:#.3g}"
    if part == "shortcuts":
        return shortcuts_blamed(f)
    if part == "inputs":
        return f"inputs of RMS {input_rms(s.given.x):.3g}"
    if part == "normalization":
        kinds = dict.fromkeys(type(m).__name__ for m in s.model.modules() if isinstance(m, NORMS))
        return " and ".join(kinds)
    return part


def _needed(s: TrialContext) -> float | None:
    needs = [h.need for h in s.inner]
    return geometric_mean([need for need in needs if need is not None]) if None not in needs else None


def _facts(measured: PassMeasurement, observation: Observation) -> Iterator[str]:
    """Say what has to be known of the pass beside the finding."""
    lost = [call.name for call in measured.capture.layers if not call.norms]
    if lost:
        yield f"No gradient comes back to {_listed(lost)}: the loss does not depend on what they give"
    if len(observation.delta_l2) > 1 and "between weight layers" in observation.gains:
        yield "Gains are taken between weight layers, for the model is no chain of modules"


def activation_functions(measured: PassMeasurement) -> list[ActivationFunction]:
    """Return the activations that ran and that the engine has, each once, in order."""
    calls = (call for call in measured.capture.calls if call.role == "activation")
    known = (function(call.module) for call in calls if not isinstance(call.module, nn.Identity))
    return list(dict.fromkeys(f for f in known if f is not None))


def _empty(x: object) -> str:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
        return ""
    return empty_inputs(x.detach().flatten(1).cpu().float().numpy())


def _equal(s: TrialContext) -> str:
    """Say which hidden layers have weights that are all equal, and what that means; empty where there are none."""
    found = []
    for layer in s.layers:
        W = s.model.get_submodule(layer.name).weight.detach()
        if len(W) > 1 and bool((W == W.reshape(-1)[0]).all()):
            found.append((layer.name, float(W.reshape(-1)[0])))
    if not found:
        return ""
    names = _listed([name for name, _ in found])
    why = "and every unit of a layer gets the same signal"
    return f"symmetry, for all weights of {names} are equal ({found[0][1]:g}) {why}"


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]} ({len(names)} layers)"
