"""Changes of a model, made on copies of it: parts taken out for the cause, parts drawn or put in for the remedies."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from bpx.diagnosis.trials import needed_gain
from bpx.engine.activations import ACTIVATIONS
from bpx.torch.calls import Call
from bpx.torch.convert import activation_module
from bpx.torch.measure import PassMeasurement
from bpx.torch.modules import CONVOLUTIONS, DROPOUTS, NORMS, TRANSPOSED, fan_in, fan_out, function, own_weight
from bpx.torch.operations import inside
from bpx.torch.passes import Batch, measured_pass
from bpx.torch.preserved import preserved
from bpx.torch.reductions import norm

DEFAULT_GAINS = (1.0, math.sqrt(2), 5 / 3)  # tried where the activations are functions, which hooks do not see
DRAWN = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
Change = Callable[[nn.Module, Batch], Batch]  # changes a copy and returns the batch that it gets


@final
@dataclass(frozen=True)
class Hidden:
    """A hidden weight layer of a diagnosed model that can be rescaled and drawn.

    Attributes
    ----------
    name : str
        Of the module in the model.
    gain : float
        What its weights do to the length of a signal: their RMS times the root of fan_in.
    need : float or None
        The gain that the activation after it needs; None where no activation module follows.
    """

    name: str
    gain: float
    need: float | None


def hidden_layers(measured: PassMeasurement, branches: int) -> list[Hidden]:
    """Return the hidden Linear layers and convolutions, each module once.

    ``branches`` is the number of residual blocks of a chain that theory knows: in each branch the gain needed is
    divided by its root, with which the blocks' factors multiply to sqrt(e) at most.
    """
    names = {module: name for name, module in measured.capture.model.named_modules()}
    found: dict[str, Hidden] = {}
    blocks = {id(c) for op in measured.capture.calls if op.residual for c in inside(op)}
    for i in measured.hidden:
        call = measured.layers[i]
        if not can_be_drawn(call.module):
            continue
        after = measured.capture.activation(call)
        known = None if after is None else function(after.module)
        need = None
        if known is not None:
            bias = 0.0 if call.module.bias is None else rms(call.module.bias)
            need = needed_gain(known, float(f"{bias:.2g}")) / math.sqrt(branches if id(call) in blocks else 1)
        found.setdefault(names[call.module], Hidden(names[call.module], gain(call.module), need))
    return list(found.values())


def can_be_drawn(module: nn.Module) -> bool:
    """Return whether a module is a Linear or a convolution whose weight is a parameter of its own."""
    return isinstance(module, DRAWN) and own_weight(module) is not None


def gain(module: nn.Module) -> float:
    """Return RMS(W) * sqrt(fan_in) of a Linear or a convolution."""
    return rms(module.weight) * math.sqrt(fan_in(module) or 1)


def changed_slope(model: nn.Module, given: Batch, change: Change, seed: int | None = None) -> float:
    """Return the slope of delta in a copy of ``model`` after a change, NaN where there is none or no pass.

    ``seed`` starts PyTorch's random numbers, from which the change may draw; they are as before at the end.
    """
    with preserved(model):  # its closure may hold the model itself, and not take the copy
        if seed is not None:
            torch.manual_seed(seed)
        try:
            other = copy.deepcopy(model)
            with torch.no_grad():
                batch = change(other, given)
            with measured_pass(other, batch, blocks=False) as measured:
                line = measured.depth_slope()
        except (ValueError, RuntimeError, TypeError):  # a layer that takes no such input, a model that has no copy
            return math.nan
    return math.nan if line is None else line.slope


def rescale(layers: list[Hidden], default: float) -> Change:
    """Return the change that gives every layer's weights the gain it needs, ``default`` where that is not known."""

    def change(model: nn.Module, batch: Batch) -> Batch:
        for layer in layers:
            if layer.gain > 0:
                need = default if layer.need is None else layer.need
                model.get_submodule(layer.name).weight.mul_(need / layer.gain)
        return batch

    return change


def without_dropout(model: nn.Module, batch: Batch) -> Batch:
    """Set every rate of dropout to 0."""
    for module in model.modules():
        if isinstance(module, DROPOUTS):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):  # attention and recurrent layers
            module.dropout = 0.0
    return batch


def has(model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> bool:
    """Return whether a model has a module of one of some kinds."""
    return any(isinstance(module, kinds) for module in model.modules())


def drops(model: nn.Module) -> bool:
    """Return whether a model has dropout."""
    rates = [m.p if isinstance(m, DROPOUTS) else getattr(m, "dropout", 0.0) for m in model.modules()]
    return any(isinstance(rate, float) and rate > 0 for rate in rates)


def without_normalization(model: nn.Module, batch: Batch) -> Batch:
    """Put nn.Identity in the place of every normalization."""
    _replace_all(model, lambda m: nn.Identity() if isinstance(m, NORMS) else m)
    return batch


def without_shortcuts(blocks: list[Call], names: dict[nn.Module, str]) -> Change:
    """Return the change that leaves of every residual block its branch alone."""

    def change(model: nn.Module, batch: Batch) -> Batch:
        for block in blocks:
            path = names[block.module]
            parts = [model.get_submodule(names[child.module]) for child in block.children]
            put(model, path, nn.Sequential(*parts))
        return batch

    return change


def rescale_inputs(model: nn.Module, batch: Batch) -> Batch:
    """Divide the inputs by their root mean square."""
    return replace(batch, x=batch.x / rms(batch.x))


def standardize_inputs(model: nn.Module, batch: Batch) -> Batch:
    """Give every feature of the inputs mean 0 and standard deviation 1."""
    std = batch.x.std(0, correction=0)
    return replace(batch, x=(batch.x - batch.x.mean(0)) / torch.where(std > 0, std, 1))


def draw(layers: list[Hidden], init: Callable[[Tensor], object]) -> Change:
    """Return the change that draws the weights of the hidden layers by ``init``, those of others at their scale."""
    hidden = {layer.name for layer in layers}

    def change(model: nn.Module, batch: Batch) -> Batch:
        for name, module in model.named_modules():
            if name in hidden:
                init(module.weight)
            elif can_be_drawn(module):
                redraw(module)
        return batch

    return change


def redraw(module: nn.Module) -> None:
    """Draw the weights of a layer anew at the scale that they have."""
    module.weight.normal_(0.0, rms(module.weight))


def redrawn(change: Change) -> Change:
    """Return a change made on a model whose Linear layers and convolutions are drawn anew at their scale."""

    def both(model: nn.Module, batch: Batch) -> Batch:
        for module in model.modules():
            if can_be_drawn(module):
                redraw(module)
        return change(model, batch)

    return both


def normalize(layers: list[Hidden], kind: str) -> Change:
    """Return the change that puts ``kind`` (LayerNorm or BatchNorm) after every hidden layer."""

    def change(model: nn.Module, batch: Batch) -> Batch:
        for layer in layers:
            module = model.get_submodule(layer.name)
            norm = _norm(kind, module).to(module.weight.device, module.weight.dtype)
            put(model, layer.name, nn.Sequential(module, norm))
        return batch

    return change


def activate(name: str) -> Change:
    """Return the change that puts another activation in the place of every one that the engine knows."""

    def change(model: nn.Module, batch: Batch) -> Batch:
        made = activation_module(ACTIVATIONS[name]())
        _replace_all(model, lambda m: copy.deepcopy(made) if swaps(m) else m)
        return batch

    return change


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Set the submodule at a dotted path."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _norm(kind: str, module: nn.Module) -> nn.Module:
    n = fan_out(module)
    if isinstance(module, nn.Linear):
        return nn.LayerNorm(n) if kind == "LayerNorm" else nn.BatchNorm1d(n)
    if kind == "LayerNorm":
        return nn.GroupNorm(1, n)
    return {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[module.weight.dim() - 2](n)


def swaps(module: nn.Module) -> bool:
    """Return whether a module is an activation that another one may take the place of."""
    return function(module) is not None and not isinstance(module, nn.Identity)


def _replace_all(model: nn.Module, by: Callable[[nn.Module], nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (other := by(child)) is not child:
                setattr(parent, name, other)


def rms(t: Tensor) -> float:
    """Return the root mean square of a tensor."""
    return float(norm(t)) / math.sqrt(max(t.numel(), 1))
