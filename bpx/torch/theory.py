"""A chain of PyTorch modules as theory sees it, from what ran in a pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from torch import Tensor, nn

from bpx.diagnosis.architecture import drawn_at_random, mean_variance, orthogonal, pass_ends
from bpx.engine.activation import ActivationFunction
from bpx.theory import Architecture, Ends, Prediction, predict
from bpx.torch.calls import Call
from bpx.torch.measure import PassMeasurement
from bpx.torch.modules import CONVOLUTIONS, fan_in, fan_out, function
from bpx.torch.operations import operations
from bpx.torch.reductions import Values

NORMALIZATIONS = {"BatchNorm": "batch", "LayerNorm": "layer", "RMSNorm": "rms"}
CONVOLVES = "convolution's borders, pooled samples and shared weights are not in it"


class NoTheory(Exception):
    """Why theory has no answer."""

    @classmethod
    def for_module(cls, call: Call, where: str = "") -> NoTheory:
        """Return the reason that a module is none that theory knows."""
        return cls(f"there is no formula for {call.name} ({type(call.module).__name__}){where}")


@final
@dataclass(frozen=True)
class Unit:
    """What stands between two weight layers: a normalization, an activation and dropout."""

    normalization: str
    function: ActivationFunction
    keep_prob: float


def predict_pass(measured: PassMeasurement) -> tuple[Architecture | None, Prediction]:
    """Return the model of a pass as theory sees it, and the prediction; the reason stands in it where there is none."""
    try:
        known, layers = architecture(measured)
    except NoTheory as error:
        return None, Prediction(reason=str(error))
    first, last = layers[0], layers[-1]
    q1 = _first_variance(first, known.normalization)
    if not math.isfinite(q1):
        return known, Prediction(reason="the first pre-activation is not finite")
    convolves = any(isinstance(call.module, CONVOLUTIONS) for call in layers)
    if convolves:
        found = predict(known, q1, band=False)
        return known, replace(found, caveat=found.caveat or CONVOLVES) if found.slope is not None else found
    return known, predict(known, q1, ends=_ends(first, last))


def architecture(measured: PassMeasurement) -> tuple[Architecture, list[Call]]:
    """Return the chain of a pass and its weight layers; raises NoTheory, saying what is in the way."""
    ops = [op for op in operations(measured.capture) if not isinstance(op.module, (nn.Flatten, nn.Identity))]
    if len(ops) < 2:
        raise NoTheory("the model is no chain of modules (functions in forward, or branches, are not seen)")
    layers: list[Call] = []
    units: list[Unit] = []
    pending: list[Call] = []
    shortcuts = 0
    for op in ops:
        inner = [c for c in _chain_of(op) if not isinstance(c.module, (nn.Flatten, nn.Identity))]
        if op.role == "block":
            shortcuts += 1
            if pending or not layers or not op.residual or inner[-1].role != "weights":
                raise NoTheory.for_module(op)
        for part in inner:
            if part.role != "weights":
                pending.append(part)
                continue
            if layers:
                units.append(_unit(pending))
            elif pending:
                raise NoTheory(f"there is no formula for {pending[0].name} before the first weight layer")
            layers.append(part)
            pending = []
    if pending or len(layers) < 2:
        what = f"{pending[0].name} after the last weight layer" if pending else "a single weight layer"
        raise NoTheory(f"there is no formula for {what}")
    if len(set(units)) > 1:
        raise NoTheory("there is no formula for layers of several kinds")
    if shortcuts not in (0, len(layers) - 2):
        raise NoTheory("there is no formula for shortcuts around some layers only")
    for call in layers:
        if not isinstance(call.module, (nn.Linear, *CONVOLUTIONS)):
            raise NoTheory.for_module(call)
    return _architecture(measured, layers, units[0], residual=bool(shortcuts)), layers


def matrix(call: Call) -> Values:
    """Return the weights of a layer as (n_in, n_out) in float64."""
    weight = call.module.weight.detach().cpu().double().numpy()
    found: Values = weight.reshape(len(weight), -1).T
    return found


def _architecture(measured: PassMeasurement, layers: list[Call], unit: Unit, *, residual: bool) -> Architecture:
    matrices = [matrix(call) for call in layers]
    biases = [
        b.detach().cpu().double().numpy() for c in layers[:-1] if (b := getattr(c.module, "bias", None)) is not None
    ]
    fans = [fan_in(call.module) or 1 for call in layers]
    positions = layers[0].y.numel() // (measured.n * fan_out(layers[0].module))
    return Architecture(
        activation=unit.function,
        fans=(*fans, fan_out(layers[-1].module)),
        weight_std=tuple(_rms(W) for W in matrices) if all(map(drawn_at_random, matrices)) else None,
        bias_std=_rms(np.concatenate(biases)) if biases else 0.0,
        keep_prob=unit.keep_prob,
        normalization=unit.normalization,
        residual=residual,
        batch_size=measured.n * (positions if unit.normalization == "batch" else 1),
        orthogonal=len(matrices) > 2 and all(map(orthogonal, matrices[1:-1])),
    )


def _unit(parts: list[Call]) -> Unit:
    roles = [part.role for part in parts]
    if sorted(roles, key=["norm", "activation", "dropout", "block"].index) != roles or len(set(roles)) < len(roles):
        odd = next((p for p in parts if p.role == "block"), parts[-1])
        raise NoTheory.for_module(odd, " there")
    by_role = dict(zip(roles, parts, strict=True))
    if "block" in by_role:
        raise NoTheory.for_module(by_role["block"])
    if "activation" not in by_role:
        raise NoTheory("the model has weight layers with no activation module between them")
    module = by_role["activation"].module
    if (known := function(module)) is None:
        raise NoTheory(f"there is no formula for the activation {type(module).__name__}")
    norm, dropout = by_role.get("norm"), by_role.get("dropout")
    return Unit(
        "none" if norm is None else _normalization(norm),
        known,
        1.0 if dropout is None else 1 - float(dropout.module.p),
    )


def _normalization(call: Call) -> str:
    kind = type(call.module).__name__.rstrip("123d")
    scale, shift = getattr(call.module, "weight", None), getattr(call.module, "bias", None)
    if kind not in NORMALIZATIONS or (kind != "BatchNorm" and call.module.normalized_shape != call.y.shape[-1:]):
        raise NoTheory.for_module(call)
    if (scale is not None and not (scale == 1).all()) or (shift is not None and not (shift == 0).all()):
        raise NoTheory(f"the scales and shifts of {call.name} are not 1 and 0")
    return NORMALIZATIONS[kind]


def _chain_of(op: Call) -> list[Call]:
    """Return the operations in a shortcut's branch, the operation itself elsewhere."""
    if op.role != "block" or not op.children:
        return [op]
    return [c for child in op.children for c in _chain_of(child)]


def _first_variance(first: Call, normalization: str) -> float:
    z = _rows(first.value.movedim(1, -1) if isinstance(first.module, CONVOLUTIONS) else first.value)
    return mean_variance(z, over_batch=normalization == "batch")


def _ends(first: Call, last: Call) -> Ends:
    bias = getattr(last.module, "bias", None)
    out = _rows(last.y) - (0.0 if bias is None else bias.detach().cpu().double().numpy())
    return pass_ends(_rows(first.value), _rows(last.x), out, _rows(last.gradients[0]), _rms(matrix(last)))


def _rows(t: Tensor) -> Values:
    """Return a tensor as (samples or positions, units) in float64."""
    rows: Values = t.detach().cpu().double().flatten(0, -2).numpy()
    return rows


def _rms(W: Values) -> float:
    return float(np.sqrt(np.mean(W * W)))
