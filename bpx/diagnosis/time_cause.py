"""Why a gradient vanishes or explodes through time, by trial, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace

import numpy as np

from bpx.diagnosis.remedies import Redraw, Remedy, first_that_hold, other_models
from bpx.diagnosis.time_flow import TimeFlow, time_line
from bpx.diagnosis.time_theory import input_std
from bpx.diagnosis.trials import Causes, needed_gain, root_mean_square, select_causes
from bpx.engine.activations import Linear
from bpx.engine.arrays import Array
from bpx.engine.models import MODELS
from bpx.engine.network import Network
from bpx.engine.numbers import power
from bpx.engine.recurrent import RECURRENT, Recurrence, Recurrent
from bpx.probes import DepthSlope
from bpx.probes.through_time import recurrent_layers
from bpx.theory import Verdict, slope_verdict

WEIGHTS, ACTIVATION, GATES = "recurrent weights", "activation", "gates"
KEEP_BIASES = ("model.forget_bias", "model.update_bias")
OPEN = 20.0  # a bias at which a gate is 1
Change = Callable[[Network, Recurrent], None]  # changes a replica and its last recurrent layer


def explained(flow: TimeFlow, net: Network, redraw: Redraw | None) -> TimeFlow:
    """Return the flow with its cause, found by trial, and remedies, measured on networks that ``redraw`` draws.

    recurrent weights: rescaled to what the activation needs at these inputs (a cell with gates: to 1); activation:
    linear in its place; gates: the one that keeps the state is opened. As for depth, the part whose change alone brings
    the factor nearest to 1 is the cause. Where the gradient is truncated, that is said, and nothing is tried.
    """
    if flow.verdict not in (Verdict.VANISHING, Verdict.EXPLODING) or net.last_batch is None:
        return flow
    cell = recurrent_layers(net)[-1]
    if cell.truncate is not None and cell.truncate < flow.n_steps:
        return replace(flow, because=f"model.truncate={cell.truncate} stops the gradient")
    slopes = {part: _slope(net, change) for part, change in _changes(net, cell)}
    smallest = float(np.finfo(net.dtype).smallest_subnormal)
    causes = select_causes(-math.inf if flow.slope is None else flow.slope, slopes, flow.followed, smallest)
    remedies = find_time_remedies(net, redraw, causes) if redraw and net.spec else ()
    return replace(flow, cause=" and ".join(causes.parts), because=_because(net, cell, causes, flow), remedies=remedies)


def needed_recurrent_gain(net: Network, cell: Recurrent) -> float:
    """Return sigma_w = RMS(W) sqrt(n) of the recurrent weights on the edge of chaos, the inputs as its biases.

    1 for a cell with gates: its state is kept by a gate, and W has to let pass what comes through it.
    """
    return needed_gain(cell.function, float(f"{input_std(net, cell):.2g}")) if isinstance(cell, Recurrence) else 1.0


def recurrent_gain(cell: Recurrent) -> float:
    """Return RMS(W) sqrt(n), what the recurrent weights are drawn to do to the length of a gradient in a step."""
    return root_mean_square(cell.W.value) * math.sqrt(cell.n_out)


def find_time_remedies(net: Network, redraw: Redraw, causes: Causes) -> tuple[Remedy, ...]:
    """Return the changes that make the gradient through time healthy, measured as those for depth are."""

    def flow(drawn: Network) -> tuple[DepthSlope | None, int]:
        return time_line(drawn) if recurrent_layers(drawn) else (None, 0)

    options = dict(_options(net, recurrent_layers(net)[-1], causes.slopes.get(WEIGHTS, math.nan)))
    first = [key for key in KEEP_BIASES if GATES in causes.parts and key in options]
    return first_that_hold(net, redraw, {key: options[key] for key in [*first, *options]}, flow)


def _options(net: Network, cell: Recurrent, rescaled: float) -> Iterator[tuple[str, list[str]]]:
    """Yield the keys that the model has, and their values that are worth a try, the most promising first.

    ``rescaled`` is the slope that weights of the needed gain gave: what a net of this width needs is beside it.
    """
    assert net.spec is not None
    spec, now = net.spec, recurrent_gain(cell)
    if "recurrent" in spec.settings:
        yield "model.recurrent", [name for name in RECURRENT if name not in ("same", cell.recurrent)]
    if "recurrent_scale" in spec.settings and now > 0:
        scale = cell.scale * needed_recurrent_gain(net, cell) / now
        scales = [scale, scale / power(10, rescaled)] if abs(rescaled) < 1 else [scale]
        yield "model.recurrent_scale", list(dict.fromkeys(f"{s:.3g}" for s in scales))
    for key in KEEP_BIASES:
        if key.removeprefix("model.") in spec.settings:
            yield key, _keeping_biases(net, cell)
    kept = math.log(max(cell.shape[0] - 1, 1))
    others = other_models(spec.model)
    keeping = [
        f"{name} {key}={bias:.2g}"
        for bias in (kept, kept + 1)
        for name in others
        for key in KEEP_BIASES
        if key.removeprefix("model.") in {field.name for field in fields(MODELS[name].settings)}
    ]
    yield "model", [*others, *keeping]


def _keeping_biases(net: Network, cell: Recurrent) -> list[str]:
    """Return biases of the gate that keeps the state: with which nothing is lost, and that of so many steps.

    What comes back beside the gate is the factor less the share that it keeps; the gate may have what is missing to 1.
    sigmoid of the other one is 1 - 1 / steps (Tallec & Ollivier 2018, section 2), inputs move the gates below it.
    """
    share, (line, _) = cell.kept_share(), time_line(net)
    needed = share + 1 - power(10, line.slope) if line and math.isfinite(line.slope) else 1.0
    now = float(_keep_bias(net, cell).mean())
    biases = [now + math.log(needed / (1 - needed) * (1 - share) / share)] if 0 < needed < 1 and 0 < share < 1 else []
    steps = math.log(max(cell.shape[0] - 1, 1))
    return list(dict.fromkeys(f"{bias:.2g}" for bias in [*biases, steps, steps + 1]))


def _changes(net: Network, cell: Recurrent) -> Iterator[tuple[str, Change]]:
    """Yield the parts that may be the cause, and what changes each."""
    if (now := recurrent_gain(cell)) > 0:
        factor = needed_recurrent_gain(net, cell) / now
        yield WEIGHTS, lambda replica, own: _rescale(own, factor)
    if isinstance(cell, Recurrence) and not isinstance(cell.function, Linear):
        yield ACTIVATION, lambda replica, own: setattr(own, "function", Linear())
    if cell.keep_gate is not None:
        yield GATES, _open


def _rescale(cell: Recurrent, factor: float) -> None:
    cell.W.value *= factor


def _open(replica: Network, cell: Recurrent) -> None:
    _keep_bias(replica, cell)[...] += OPEN


def _keep_bias(net: Network, cell: Recurrent) -> Array:
    """Return the bias (n,) of the gate that keeps the state, a view."""
    layers = list(net.layers())
    bias = layers[layers.index(cell) - 1].parameters()["b"].value
    assert cell.keep_gate is not None
    return np.asarray(bias.reshape(cell.gates, -1)[cell.keep_gate])


def _slope(net: Network, change: Change) -> float:
    assert net.last_batch is not None
    x, y = net.last_batch
    replica = net.replica(len(x))
    replica.parameters.detach()
    with np.errstate(all="ignore"):
        change(replica, recurrent_layers(replica)[-1])
        replica.cost(x, y)
        replica.backward()
        line, _ = time_line(replica)
    return math.nan if line is None else line.slope


def _because(net: Network, cell: Recurrent, causes: Causes, flow: TimeFlow) -> str:
    """Say what the trials showed."""
    tried = {part: slope for part, slope in causes.slopes.items() if math.isfinite(slope)}
    if not tried:
        return "no single part: with each changed nothing comes through"
    best = min(tried, key=lambda part: abs(tried[part]))
    if not causes.parts:
        return f"no single part (the best, {best} {_CHANGED[best]}: ×{power(10, tried[best]):.3g} per step)"
    said = "; ".join(
        f"{_blamed(part, net, cell)} ({_CHANGED[part]}: ×{power(10, tried[part]):.3g} per step)"
        for part in causes.parts
    )
    return said if slope_verdict(tried[best], flow.followed) == Verdict.HEALTHY else f"{said}, not enough alone"


_CHANGED = {WEIGHTS: "rescaled to that", ACTIVATION: "linear in its place", GATES: "open"}


def _blamed(part: str, net: Network, cell: Recurrent) -> str:
    """Name a part, with the number that makes it the cause."""
    if part == WEIGHTS:
        needs = f"needs ×{needed_recurrent_gain(net, cell):#.3g}"
        if isinstance(cell, Recurrence):
            needs = f"{cell.function.name} with inputs of {input_std(net, cell):.2g} {needs}"
        else:
            needs = f"a cell with gates {needs}"
        return f"recurrent weights ×{recurrent_gain(cell):#.3g} per step where {needs}"
    if part == ACTIVATION and isinstance(cell, Recurrence):
        return f"activation {cell.function.name} with inputs of {input_std(net, cell):.2g}"
    assert cell.keep_gate is not None
    return f"gates that keep ×{cell.kept_share():.3g} of the state per step"
