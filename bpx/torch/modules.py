"""What a module is to a diagnosis: a weight layer, an activation, a normalization, dropout or something else."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.rectifiers import ELU, LeakyReLU, PReLU
from bpx.torch.layers import Positions

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
WEIGHTS = (
    *(nn.Linear, nn.Bilinear, *CONVOLUTIONS, *TRANSPOSED),
    *(nn.Embedding, nn.EmbeddingBag, *RECURRENT, nn.MultiheadAttention),
)
NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.LocalResponseNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
FUNCTIONS = (  # elementwise
    *(nn.Identity, nn.Sigmoid, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus),
    *(nn.Softsign, nn.Hardtanh, nn.ReLU6, nn.PReLU, nn.RReLU, nn.CELU, nn.Mish, nn.Hardswish, nn.Hardsigmoid),
    *(nn.Threshold, nn.LogSigmoid, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink),
)
PLAIN = {  # those without parameters that the engine has; its GELU differs from the approximation by at most 5e-4
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
FORWARDS = {kind.forward for kind in FUNCTIONS}  # a subclass with a forward of its own is another module
GRID = (-12.0, 12.0, 4801)  # where the largest slope of an activation that bpx does not know is looked for


def role(module: nn.Module) -> str:
    """Return ``weights``, ``norm``, ``dropout``, ``activation`` or ``block``, which is all else.

    A weight layer is one of PyTorch's, or a module of its own kind that holds a parameter of two dimensions or more
    and has no modules with parameters in it.
    """
    if isinstance(module, WEIGHTS):
        return "weights"
    if isinstance(module, Positions):  # it adds its parameter to the signal
        return "block"
    for name, kinds in (("norm", NORMS), ("dropout", DROPOUTS)):
        if isinstance(module, kinds):
            return name
    if type(module).forward in FORWARDS:
        return "activation"
    own = any(p.dim() > 1 for p in module.parameters(recurse=False))
    inside = any(p.dim() > 0 for child in module.children() for p in child.parameters())
    return "weights" if own and not inside else "block"


def hooked(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield name, module and role of every module of ``model`` but those inside a weight layer."""
    inside: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{name or type(module).__name__} is a ScriptModule: expected the module before torch.jit")
        if any(nn.parameter.is_lazy(p) for p in module.parameters(recurse=False)):
            raise ValueError(f"{name or type(module).__name__} is lazy: expected a model that has run once")
        if id(module) in inside:
            continue
        kind = role(module)
        if kind == "weights":
            inside |= {id(child) for child in module.modules() if child is not module}
        yield name.replace("_orig_mod.", "") or type(module).__name__, module, kind


def weights(module: nn.Module) -> list[nn.Parameter]:
    """Return the weight tensors of a weight layer, those of two dimensions or more."""
    return [p for p in module.parameters() if p.dim() > 1]


def own_weight(module: nn.Module) -> nn.Parameter | None:
    """Return the parameter ``weight`` of a layer; None where a parametrization computes it from others."""
    return dict(module.named_parameters(recurse=False)).get("weight")


def biases(module: nn.Module) -> list[nn.Parameter]:
    """Return the other parameters of a weight layer."""
    return [p for p in module.parameters() if p.dim() < 2]


def fan_in(module: nn.Module) -> int | None:
    """Return how many inputs a unit of a Linear or a convolution sums over; None for other layers."""
    if isinstance(module, nn.Linear):
        return int(module.in_features)
    if isinstance(module, CONVOLUTIONS):
        return int(module.in_channels // module.groups * math.prod(module.kernel_size))
    if isinstance(module, TRANSPOSED):  # of each output position, on average
        return max(
            1, int(module.in_channels // module.groups * math.prod(module.kernel_size) / math.prod(module.stride))
        )
    return None


def fan_out(module: nn.Module) -> int:
    """Return the number of units (channels) of a Linear or a convolution."""
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)


def function(module: nn.Module) -> ActivationFunction | None:
    """Return the engine's function that an activation module computes, None where it has none."""
    if isinstance(module, nn.LeakyReLU):
        return LeakyReLU(slope=float(module.negative_slope)) if module.negative_slope > 0 else None
    if isinstance(module, nn.ELU):
        return ELU(alpha=float(module.alpha))
    if isinstance(module, nn.PReLU):
        return PReLU(slope=float(module.weight.detach())) if module.num_parameters == 1 else None
    if isinstance(module, nn.Softplus) and module.beta != 1:
        return None
    name = next((name for name, kind in PLAIN.items() if type(module).forward is kind.forward), None)
    if isinstance(module, nn.Hardtanh):  # a ReLU6 is one
        name = {(-1, 1): "hard_tanh", (0, 6): "relu6"}.get((module.min_val, module.max_val))
    return None if name is None else ACTIVATIONS[name]()


def slope(module: nn.Module, z: Tensor) -> Tensor:
    """Return phi'(z) of an activation module, by autograd, without its hooks."""
    own = torch.autograd.graph.saved_tensors_hooks(_same, _same)  # not those of a checkpoint around the module
    with torch.enable_grad(), own:
        leaf = z.detach().clone().requires_grad_()
        given = leaf.clone() if getattr(module, "inplace", False) else leaf  # which may not be changed in place
        if isinstance(module, nn.RReLU):  # its mean slope: it draws one for each entry
            y = nn.functional.leaky_relu(leaf, (module.lower + module.upper) / 2)
        else:
            y = type(module).forward(module, given)
        (found,) = torch.autograd.grad(y.sum(), leaf)
    return found


def _same(t: Tensor) -> Tensor:
    return t


def max_slope(module: nn.Module) -> float:
    """Return the largest absolute slope of an activation module; of one that the engine has not, that on a grid."""
    known = function(module)
    if known is not None:
        return float(known.max_slope)
    z = torch.linspace(*GRID, dtype=torch.float64)
    if isinstance(module, nn.PReLU):
        return max(1.0, float(module.weight.detach().abs().max()))
    return float(slope(module, z).abs().max())
