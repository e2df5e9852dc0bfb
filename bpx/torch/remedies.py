"""The cause and the remedies of a PyTorch model, each tried on copies of it before it is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from bpx.diagnosis.architecture import drawn_at_random, orthogonal
from bpx.diagnosis.remedies import CURED_DECADES, GROUPS_BY_CAUSE, MAX_DRAWS, MAX_REMEDIES, Remedy, are_enough
from bpx.diagnosis.trials import UNIT_SCALE_RATIO, Causes, geometric_mean, select_causes
from bpx.torch import changes
from bpx.torch.calls import Call
from bpx.torch.changes import Change, Hidden, changed_slope
from bpx.torch.measure import PassMeasurement
from bpx.torch.modules import CONVOLUTIONS, DROPOUTS, NORMS, fan_in, function
from bpx.torch.passes import Batch

GROUPS = ("initializer", "normalization", "dropout", "dataset.scaling", "activation")
ACTIVATIONS = {"relu": "nn.ReLU()", "tanh": "nn.Tanh()", "leaky_relu": "nn.LeakyReLU()", "elu": "nn.ELU()",
               "selu": "nn.SELU()", "gelu": "nn.GELU()", "silu": "nn.SiLU()"}  # fmt: skip
SAME_SCALE = 0.02  # weights drawn at a gain nearer than that, in ln, to what they have are no change
MAX_WORK, MAX_PASSES = 2e11, 60  # multiplications and passes of all draws, at most about


@final
@dataclass(frozen=True)
class TrialContext:
    """A model that was measured, and what the changes need to know of it.

    Attributes
    ----------
    layers : list of Hidden
        The hidden layers that can be rescaled and drawn.
    blocks, names
        The residual blocks of a chain that theory knows, and the names of all modules.
    slope, n_hidden
        What the pass showed: slope of delta (-inf where it is zero somewhere), number of hidden layers.
    work : float
        About how many multiplications a pass takes.
    """

    model: nn.Module
    given: Batch
    layers: list[Hidden]
    blocks: list[Call]
    names: dict[nn.Module, str]
    slope: float
    n_hidden: int
    work: float

    @property
    def inner(self) -> list[Hidden]:
        """The layers but the first, whose weights no gradient between hidden layers passes; the only one if it is."""
        return self.layers[1:] or self.layers


def trial_context(measured: PassMeasurement, given: Batch, slope: float, *, known: bool) -> TrialContext:
    """Return what the changes need to know; ``known`` tells whether theory knows the model as a chain."""
    model = measured.capture.model
    blocks = [call for call in measured.capture.calls if call.residual] if known else []
    work = sum(3.0 * c.y.numel() * (fan_in(c.module) or c.y.shape[-1]) for c in measured.layers)
    return TrialContext(
        model=model,
        given=given,
        layers=changes.hidden_layers(measured, max(len(blocks), 1)),
        blocks=blocks,
        names={module: name for name, module in model.named_modules()},
        slope=slope,
        n_hidden=len(measured.hidden),
        work=work,
    )


def find_causes(s: TrialContext) -> Causes:
    """Take each part out of a copy of the model and make one pass; the rule is that of ``bpx.diagnosis.trials``."""
    slopes: dict[str, float] = {}
    before = s.slope
    if changes.drops(s.model):  # with the masks that the trials have
        again = changed_slope(s.model, s.given, lambda model, batch: batch)
        before = again if math.isfinite(again) and math.isfinite(before) else before
    if s.layers:
        known = all(layer.need is not None for layer in s.layers)
        gains = (1.0,) if known else changes.DEFAULT_GAINS
        tried = [changed_slope(s.model, s.given, changes.rescale(s.layers, gain)) for gain in gains]
        slopes["weights"] = min(tried, key=lambda v: (not math.isfinite(v), abs(v)))
    if changes.drops(s.model):
        slopes["dropout"] = changed_slope(s.model, s.given, changes.without_dropout)
    if changes.has(s.model, NORMS):
        slopes["normalization"] = changed_slope(s.model, s.given, changes.without_normalization)
    if s.blocks:
        slopes["shortcuts"] = changed_slope(s.model, s.given, changes.without_shortcuts(s.blocks, s.names))
    if (rms := input_rms(s.given.x)) is not None and not 1 / UNIT_SCALE_RATIO < rms < UNIT_SCALE_RATIO:
        slopes["inputs"] = changed_slope(s.model, s.given, changes.rescale_inputs)
    dtype = next(p.dtype for p in s.model.parameters())
    return select_causes(before, slopes, s.n_hidden, float(torch.finfo(dtype).smallest_normal) * 1e-7)


def find_remedies(s: TrialContext, causes: tuple[str, ...]) -> tuple[Remedy, ...]:
    """Return the changes that make freshly drawn copies healthy; ``command`` is the code, which changes ``model``.

    The groups that a cause asks for come first; of each group the first that holds is named, of at most two groups.
    The rule is that of ``bpx.diagnosis.remedies``.
    """
    asked = [group for cause in causes for group in GROUPS_BY_CAUSE.get(cause, ()) if group in GROUPS]
    passes = min(MAX_PASSES, int(MAX_WORK / max(s.work, 1.0)))
    found: list[Remedy] = []
    for group in dict.fromkeys([*asked, *GROUPS]):
        for words, code, change in _candidates(s, group):
            slopes: list[float] = []
            for seed in range(MAX_DRAWS):
                passes -= 1
                slope = changed_slope(s.model, s.given, change, seed)
                if passes < 0 or not abs(slope) * (s.n_hidden - 1) <= CURED_DECADES:
                    slopes = []
                    break
                slopes.append(slope)
                if are_enough(slopes, s.n_hidden):
                    break
            if slopes:
                found.append(Remedy(words, 10 ** float(np.median(slopes)), code))
                break
        if len(found) == MAX_REMEDIES or passes < 0:
            break
    return tuple(found)


def input_rms(x: object) -> float | None:
    """Return the root mean square of inputs that are one tensor of numbers, else None."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        return None
    return changes.rms(x)


def _candidates(s: TrialContext, group: str) -> Iterator[tuple[str, str, Change]]:
    """Yield the changes of a group: in words, as code, and as what is tried."""
    if group == "initializer" and s.layers:
        every = "for every hidden layer m" if len(s.layers) > 1 else "for the hidden layer m"
        for code, init in _initializers(s):
            names = " ".join(layer.name for layer in s.layers)
            loop = f'for m in map(model.get_submodule, "{names}".split()): {code}'
            yield f"{code} {every}", loop, changes.draw(s.layers, init)
        return
    matrices = [s.model.get_submodule(layer.name).weight.detach().cpu().double().numpy() for layer in s.layers]
    if not all(drawn_at_random(W) or orthogonal(W.reshape(len(W), -1)) for W in matrices):
        return  # what does not look drawn cannot be drawn again
    if group == "normalization":
        yield from _normalizations(s)
    elif group == "dropout" and changes.drops(s.model):
        yield "p=0 in every nn.Dropout", _without_dropout(s.model), changes.redrawn(changes.without_dropout)
    elif group == "dataset.scaling" and input_rms(s.given.x) is not None and s.given.n > 1:
        code = "x = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-12)"
        yield "x = (x - x.mean(0)) / x.std(0)", code, changes.redrawn(changes.standardize_inputs)
    elif group == "activation":
        now = {type(m).__name__: f for m in s.model.modules() if changes.swaps(m) and (f := function(m))}
        if len(now) == 1:
            ((kind, f),) = now.items()
            for name, made in ACTIVATIONS.items():
                if name != f.name:
                    change = changes.redrawn(changes.activate(name))
                    yield f"{made} in place of every nn.{kind}", _replaced(made, f"nn.{kind}"), change


def _replaced(made: str, kinds: str) -> str:
    """Return the code that puts a module in the place of every one of some kinds."""
    children = f"list(parent.named_children()) if isinstance(m, {kinds})"
    return f"for parent in list(model.modules()): [setattr(parent, name, {made}) for name, m in {children}]"


def _without_dropout(model: nn.Module) -> str:
    """Return the code that sets every rate of dropout to 0: of its modules, and of attention and recurrent layers."""
    found = []
    if changes.has(model, DROPOUTS):
        kinds = _kinds(model, DROPOUTS)
        found.append(f"for m in filter(lambda m: isinstance(m, {kinds}), model.modules()): m.p = 0.0")
    if any(isinstance(getattr(m, "dropout", None), float) for m in model.modules()):
        holds = 'isinstance(getattr(m, "dropout", None), float)'
        found.append(f"for m in filter(lambda m: {holds}, model.modules()): m.dropout = 0.0")
    return "\n".join(found)


def _kinds(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> str:
    """Return those of ``kinds`` that a model has, as the second argument of isinstance."""
    held = [kind.__name__ for kind in kinds if changes.has(model, kind)]
    return "(" + ", ".join(f"nn.{name}" for name in held) + ",)"


def _initializers(s: TrialContext) -> list[tuple[str, Callable[[Tensor], object]]]:
    """Return code for the hidden layers m and what it does, the nearest to the gain needed first."""
    need = geometric_mean([layer.need for layer in s.layers if layer.need is not None])
    init = nn.init
    relu, linear, tanh = (
        (gain, f"kaiming_normal_(m.weight, nonlinearity='{name}')", partial(init.kaiming_normal_, nonlinearity=name))
        for gain, name in ((math.sqrt(2), "relu"), (1.0, "linear"), (5 / 3, "tanh"))
    )
    found: list[tuple[float, str, Callable[[Tensor], object]]]
    found = [relu, (1.0, "xavier_normal_(m.weight)", init.xavier_normal_), linear, tanh]
    if need is not None:
        value = float(f"{need:.3g}")
        std = f"normal_(m.weight, std={value:g} * m.weight[0].numel() ** -0.5)"
        found.append((need, std, lambda W: init.normal_(W, std=value * W[0].numel() ** -0.5)))
        code = f"orthogonal_(m.weight, gain={value:g})"
        found.append((need, code, partial(init.orthogonal_, gain=value)))
        found.sort(key=lambda one: round(abs(math.log(one[0] / need)), 1))
    now = geometric_mean([layer.gain for layer in s.layers])
    new = [one for one in found if now is None or abs(math.log(one[0] / now)) > SAME_SCALE]
    return [(f"nn.init.{code}", does) for _, code, does in new]


def _normalizations(s: TrialContext) -> Iterator[tuple[str, str, Change]]:
    if changes.has(s.model, NORMS):
        code = _replaced("nn.Identity()", _kinds(s.model, NORMS))
        yield "nn.Identity() in place of every normalization", code, changes.redrawn(changes.without_normalization)
        return
    kinds = {type(s.model.get_submodule(layer.name)) for layer in s.layers}
    if len(kinds) != 1 or not issubclass(kind := kinds.pop(), (nn.Linear, *CONVOLUTIONS)):
        return
    d = kind.__name__[-2:] if kind is not nn.Linear else "1d"
    width = "m.out_features" if kind is nn.Linear else "m.out_channels"
    layer = f"nn.LayerNorm({width})" if kind is nn.Linear else f"nn.GroupNorm(1, {width})"
    names = " ".join(hidden.name for hidden in s.layers)
    find = 'm = model.get_submodule(name); parent, _, key = name.rpartition(".")'
    for norm, code in (("LayerNorm", layer), ("BatchNorm", f"nn.BatchNorm{d}({width})")):
        change = changes.redrawn(changes.normalize(s.layers, norm))
        put = f"setattr(model.get_submodule(parent), key, nn.Sequential(m, {code}.to(m.weight)))"
        loop = f'for name in "{names}".split(): {find}; {put}'
        yield f"nn.Sequential(m, {code}) in place of every hidden layer m", loop, change
