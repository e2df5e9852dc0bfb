"""From a network of the engine to PyTorch and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from bpx.engine.activations import ELU, Activation, ActivationFunction, LeakyReLU, LearnedSlope, PReLU
from bpx.engine.arrays import Array
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.layer import Layer
from bpx.engine.losses import Loss
from bpx.engine.network import Network
from bpx.engine.normalization import NORMALIZATIONS, BatchNorm, Normalization
from bpx.engine.residual import Residual as EngineResidual
from bpx.engine.scale import Scale as EngineScale
from bpx.torch.modules import function, role

MODULES: dict[str, Callable[[], nn.Module]] = {  # of the activations without parameters, by name
    "linear": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "hard_tanh": nn.Hardtanh,
    "mish": nn.Mish,
    "hard_swish": nn.Hardswish,
    "relu6": nn.ReLU6,
}


@final
class Residual(nn.Module):  # type: ignore[misc]
    """Add a branch to its input: y = x + branch(x) (He et al. 2016, the pre-activation form)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + branch(x)."""
        return x + self.branch(x)


@final
class Scale(nn.Module):  # type: ignore[misc]
    """Multiply by one number, fixed or learned, at the end of a residual branch (De & Smith 2020, SkipInit)."""

    def __init__(self, alpha: float, *, learned: bool = False) -> None:
        super().__init__()
        self.learned = learned
        self.alpha = nn.Parameter(torch.full((1,), alpha)) if learned else alpha

    def forward(self, x: Tensor) -> Tensor:
        """Return alpha x."""
        return self.alpha * x


def to_torch(net: Network) -> nn.Sequential:
    """Return ``net`` as modules of PyTorch, with copies of its weights and running statistics.

    The outputs are those before the loss (logits), as ``torch.nn`` losses take them; training mode, as new modules
    are. Dropout draws its masks from PyTorch's random numbers.

    Raises
    ------
    ValueError
        An activation or a layer has no counterpart in PyTorch.
    """
    return nn.Sequential(*map(_module, net.blocks))


def from_torch(module: nn.Module, loss: Loss | str = "softmax_cross_entropy") -> Network:
    """Return a chain of modules as a network of the engine, with copies of its weights and running statistics.

    Parameters
    ----------
    module : Module
        ``nn.Sequential``, nested or not, of Linear, the activations that the engine has, BatchNorm1d, LayerNorm and
        RMSNorm with their affine parameters, Dropout, Flatten, Identity, and ``bpx.torch``'s Residual and Scale.
    loss : Loss or str
        The loss of the outputs.

    Raises
    ------
    ValueError
        Names the module that the engine has no layer for.
    """
    from bpx.engine.losses import LOSSES
    from bpx.engine.parts import make

    blocks, n_in, dtypes = [], 0, {p.dtype for p in module.parameters()}
    copies: list[tuple[Layer, nn.Module]] = []
    for name, part in _chain(module, ""):
        blocks += _layers(name, part, copies)
    first = next((m for layer, m in copies if isinstance(layer, Dense)), None)
    if (
        first is None
        or len(dtypes) != 1
        or (dtype := str(dtypes.pop()).removeprefix("torch."))
        not in (
            "float32",
            "float64",
        )
    ):
        raise ValueError(f"{type(module).__name__}: expected a chain with nn.Linear, all float32 or all float64")
    n_in = int(first.in_features)
    net = Network(n_in, blocks, make("loss", LOSSES, loss), dtype)
    for layer, part in copies:
        _copy(layer, part)
    return net


def _module(layer: Layer) -> nn.Module:
    if isinstance(layer, Dense):
        return _linear(layer)
    if isinstance(layer, Activation):
        return _activation(layer)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.rate)
    if isinstance(layer, EngineScale):
        return _scale(layer)
    if isinstance(layer, Normalization):
        return _norm(layer)
    if isinstance(layer, EngineResidual):
        return Residual(*map(_module, layer.branch))
    raise ValueError(f"{layer.name}: PyTorch has no counterpart for {type(layer).__name__}")


def activation_module(f: ActivationFunction) -> nn.Module:
    """Return the module that computes an activation of the engine; raises ValueError where there is none."""
    if isinstance(f, LeakyReLU):
        return nn.LeakyReLU(f.slope)
    if isinstance(f, ELU):
        return nn.ELU(f.alpha)
    if isinstance(f, PReLU):
        return nn.PReLU(init=f.slope)
    if f.name not in MODULES:
        raise ValueError(f"PyTorch has no counterpart for the activation {f.name}")
    return MODULES[f.name]()


def _activation(layer: Activation) -> nn.Module:
    made = activation_module(layer.function)
    if isinstance(layer, LearnedSlope):
        made = made.to(torch.from_numpy(layer.slope.value[:0]).dtype)
        _set(made.weight, layer.slope.value)
    return made


def _scale(layer: EngineScale) -> nn.Module:
    made = Scale(layer.value, learned=layer.factor is None)
    if layer.factor is None:
        made = made.to(torch.from_numpy(layer.alpha.value[:0]).dtype)
        _set(made.alpha, layer.alpha.value)
    return made


def _linear(layer: Dense) -> nn.Linear:
    dtype = torch.from_numpy(layer.W.value[:0]).dtype
    made = nn.utils.skip_init(nn.Linear, layer.n_in, layer.n_out, bias=layer.b is not None, dtype=dtype)
    _set(made.weight, layer.W.value.T)
    if layer.b is not None:
        _set(made.bias, layer.b.value)
    return made


def _norm(layer: Normalization) -> nn.Module:
    n, dtype = layer.n_in, torch.from_numpy(layer.gamma.value[:0]).dtype
    made: nn.Module
    if isinstance(layer, BatchNorm):
        made = nn.BatchNorm1d(n, eps=layer.eps, momentum=1 - layer.momentum, dtype=dtype)
        _set(made.running_mean, layer.running_mean)
        _set(made.running_var, layer.running_var)
    elif layer.method in ("layer", "rms"):
        made = (nn.LayerNorm if layer.method == "layer" else nn.RMSNorm)(n, eps=layer.eps, dtype=dtype)
    else:
        raise ValueError(f"{layer.name}: PyTorch has no counterpart for {type(layer).__name__}")
    _set(made.weight, layer.gamma.value)
    if layer.has_shift:
        _set(made.bias, layer.beta.value)
    return made


def _set(target: Tensor, value: Array) -> None:
    with torch.no_grad():
        target.copy_(torch.from_numpy(np.array(value)))


def _chain(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    """Return the modules of nested nn.Sequential, with their names."""
    if not isinstance(module, nn.Sequential):
        return [(name or type(module).__name__, module)]
    return [pair for key, child in module.named_children() for pair in _chain(child, f"{name}.{key}".lstrip("."))]


def _layers(name: str, part: nn.Module, copies: list[tuple[Layer, nn.Module]]) -> list[Layer]:
    """Return the layers of the engine for a module: one, or none for what does nothing to rows."""
    layer: Layer
    if isinstance(part, (nn.Flatten, nn.Identity)) or (isinstance(part, nn.Dropout) and not part.p):
        return []
    if isinstance(part, Residual):
        branch = [layer for key, m in _chain(part.branch, name) for layer in _layers(key, m, copies)]
        return [EngineResidual(branch)]
    if isinstance(part, Scale):
        layer = EngineScale(None if part.learned else part.alpha)
    elif isinstance(part, nn.Linear):
        layer = Dense(part.out_features, part.bias is not None)
    elif isinstance(part, nn.Dropout):
        layer = Dropout(part.p)
    elif role(part) == "activation" and (known := function(part)) is not None and not _approximate(part):
        layer = known.layer()
    elif (method := _method(part)) is not None:
        if method == "batch":
            layer = BatchNorm(1 - float(part.momentum), part.eps)
        else:
            layer = NORMALIZATIONS[method](eps=part.eps)
    else:
        raise ValueError(f"{name}: the engine has no layer for {part}")
    copies.append((layer, part))
    return [layer]


def _approximate(part: nn.Module) -> bool:
    return isinstance(part, nn.GELU) and part.approximate != "none"


def _method(part: nn.Module) -> str | None:
    """Return the engine's name of a normalization over the last axis with scale (and shift)."""
    kinds = {nn.BatchNorm1d: "batch", nn.LayerNorm: "layer", nn.RMSNorm: "rms"}
    method = kinds.get(type(part))
    if method is None or part.weight is None or part.weight.dim() != 1:
        return None
    if method == "batch" and (not part.track_running_stats or part.momentum is None):
        return None
    return method if method == "rms" or part.bias is not None else None


def _copy(layer: Layer, part: nn.Module) -> None:
    """Copy a module's numbers into a built layer."""
    numbers = {key: value.detach().cpu().numpy() for key, value in [*part.named_parameters(), *part.named_buffers()]}
    names = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "slope": "weight", "alpha": "alpha"}
    for key, parameter in layer.parameters().items():
        value = numbers[names[key]]
        parameter.value[...] = value.T if key == "W" else value
    for key, held in layer.statistics().items():
        held[...] = numbers[key.rpartition(".")[2]]
