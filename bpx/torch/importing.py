"""from_torch: a chain of PyTorch modules as a network of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
from torch import nn

from bpx.engine.arrays import Array
from bpx.engine.attention import Attention, Positions
from bpx.engine.convolution import Convolution
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.gru import GRU
from bpx.engine.layer import Layer, Shape
from bpx.engine.losses import LOSSES, Loss
from bpx.engine.lstm import LSTM
from bpx.engine.network import Network
from bpx.engine.normalization import NORMALIZATIONS, BatchNorm
from bpx.engine.parts import make
from bpx.engine.pooling import Flatten, MaxPool, MeanPool, MeanPositions
from bpx.engine.recurrent import LastStep, Recurrence
from bpx.engine.residual import Residual
from bpx.engine.scale import Scale
from bpx.torch import layers
from bpx.torch.modules import function, role

CHANNELS_FIRST = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d)
FEATURES_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)  # of images in PyTorch's layout that is the width
SIMPLE = {layers.MeanPositions: MeanPositions, layers.LastStep: LastStep}


def from_torch(
    module: nn.Module, loss: Loss | str = "softmax_cross_entropy", shape: Sequence[int] | None = None
) -> Network:
    """Return a chain of modules as a network of the engine, with copies of its weights and running statistics.

    Parameters
    ----------
    module : Module
        ``nn.Sequential``, nested or not, of Linear, Conv2d, the activations that the engine has, BatchNorm1d and 2d,
        LayerNorm and RMSNorm with their affine parameters, Dropout, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1),
        Flatten, Identity, and what ``to_torch`` makes of other layers.
    loss : Loss or str
        The loss of the outputs.
    shape : sequence of int, optional
        Of a sample, as the module takes it; needed where samples have positions. Of images it is (channels, height,
        width), and the network takes (height, width, channels).

    Raises
    ------
    ValueError
        Names the module that the engine has no layer for.
    """
    dtypes = {str(p.dtype).removeprefix("torch.") for p in module.parameters()}
    widths = [width for part in module.modules() if (width := _width(part))]
    if len(dtypes) != 1 or not dtypes < {"float32", "float64"} or not widths:
        raise ValueError(f"{type(module).__name__}: expected a chain with nn.Linear, all float32 or all float64")
    reader = _Reader(module)
    blocks = reader.layers(module, "")
    if shape is None and reader.needs_shape:
        raise ValueError(f"{reader.needs_shape}: expected shape=, the shape of a sample, got None")
    n_in: int | Shape = widths[0]
    if shape is not None:
        n_in = (*shape[1:], shape[0]) if reader.channels_first else tuple(shape)
    net = Network(n_in, blocks, make("loss", LOSSES, loss), dtypes.pop())
    reader.copy()
    return net


@final
class _Reader:
    """Make layers of modules, and copy their numbers when the layers are built."""

    def __init__(self, module: nn.Module) -> None:
        inside = {id(m.module) for m in module.modules() if isinstance(m, layers.ChannelsLast)}
        self.channels_first = any(isinstance(m, CHANNELS_FIRST) and id(m) not in inside for m in module.modules())
        self.needs_shape = ""
        self._images = self.channels_first  # until they are flattened
        self._copies: list[tuple[str, Layer, nn.Module]] = []

    def layers(self, module: nn.Module, name: str) -> list[Layer]:
        """Return the layers for the modules of nested nn.Sequential."""
        if isinstance(module, nn.Sequential):
            pairs = module.named_children()
            return [layer for key, m in pairs for layer in self.layers(m, f"{name}.{key}".lstrip("."))]
        if isinstance(module, layers.ChannelsLast):
            return self.layers(module.module, name)
        if isinstance(module, layers.Residual):
            return [Residual(self.layers(module.branch, name))]
        made = _made(module)
        if made is None or (self._images and isinstance(module, FEATURES_LAST)):
            raise ValueError(f"{name or type(module).__name__}: the engine has no layer for {module}")
        if isinstance(module, (*CHANNELS_FIRST, layers.Recurrent, layers.Attention, layers.Positions, *SIMPLE)):
            self.needs_shape = self.needs_shape or name
        self._images &= not isinstance(module, (nn.Flatten, nn.AdaptiveAvgPool2d))
        self._copies += [(name, layer, module) for layer in made]
        return made

    def copy(self) -> None:
        """Copy the numbers of the modules into the layers that were made of them."""
        flat: Shape = ()  # of the images that were flattened, up to the next Dense
        for name, layer, module in self._copies:
            if isinstance(layer, Flatten):
                flat = layer.shape if self.channels_first and len(layer.shape) > 1 else ()
                continue
            values = _values(layer, module)
            held = layer.statistics() | {key: parameter.value for key, parameter in layer.parameters().items()}
            for key, target in held.items():
                value = values[key.rpartition(".")[2]]
                if value.size != target.size:
                    raise ValueError(f"{name}: expected a module for {layer.n_in} features, got {module}")
                target[...] = value if not flat or key in ("b", "slope", "alpha") else _channels_last(value, flat)
            flat = () if isinstance(layer, Dense) else flat


def _made(part: nn.Module) -> list[Layer] | None:
    """Return the layers of the engine for a module, None where there are none; an empty list: it does nothing."""
    if isinstance(part, nn.Identity) or (isinstance(part, nn.Dropout) and not part.p):
        return []
    if isinstance(part, nn.Flatten):
        return [Flatten()] if (part.start_dim, part.end_dim) == (1, -1) else None
    if isinstance(part, layers.Scale):
        return [Scale(None if part.learned else part.alpha)]
    if isinstance(part, nn.Linear):
        return [Dense(part.out_features, part.bias is not None)]
    if isinstance(part, nn.Conv2d):
        return _convolution(part)
    if isinstance(part, (nn.MaxPool2d, nn.AvgPool2d)):
        return _pooling(part)
    if isinstance(part, nn.AdaptiveAvgPool2d):
        return [MeanPositions()] if part.output_size in (1, (1, 1)) else None
    if isinstance(part, layers.Recurrent):
        return _recurrence(part)
    if isinstance(part, layers.Positions):
        return [Positions()]
    if isinstance(part, layers.Attention):
        return [Attention(part.heads)]
    if type(part) in SIMPLE:
        return [SIMPLE[type(part)]()]
    if isinstance(part, nn.Dropout):
        return [Dropout(part.p)]
    exact = not (isinstance(part, nn.GELU) and part.approximate != "none")
    if role(part) == "activation" and (known := function(part)) is not None and exact:
        return [known.layer()]
    if (method := _method(part)) is not None:
        return [
            BatchNorm(1 - float(part.momentum), part.eps) if method == "batch" else NORMALIZATIONS[method](eps=part.eps)
        ]
    return None


def _convolution(part: nn.Conv2d) -> list[Layer] | None:
    (kernel, stride), padding = ({*part.kernel_size}, {*part.stride}), part.padding
    if padding == "same" and stride == {1} and kernel == {part.kernel_size[0]} and part.kernel_size[0] % 2:
        padding = (part.kernel_size[0] // 2,)
    padding = {0} if padding == "valid" else {*padding}
    plain = part.groups == 1 and {*part.dilation} == {1} and part.padding_mode == "zeros"
    if not plain or max(map(len, (kernel, stride, padding))) > 1 or not padding <= {*range(part.kernel_size[0])}:
        return None
    k = part.kernel_size[0]
    return [Convolution(part.out_channels, k, stride.pop(), padding.pop(), part.bias is not None)]


def _pooling(part: nn.Module) -> list[Layer] | None:
    size = part.kernel_size if isinstance(part.kernel_size, int) else part.kernel_size[0]
    same = ({size}, {(size, size)})
    if {part.kernel_size} not in same or {part.stride} not in same or part.padding not in (0, (0, 0)) or part.ceil_mode:
        return None
    if isinstance(part, nn.MaxPool2d):
        return [MaxPool(size)] if part.dilation in (1, (1, 1)) else None
    return [MeanPool(size)] if part.divisor_override in (None, size * size) else None


def _recurrence(part: layers.Recurrent) -> list[Layer] | None:
    cell, truncate, learn_start = part.cell, part.truncate, bool(part.starts)
    if isinstance(cell, nn.RNNBase) and (cell.num_layers > 1 or cell.bidirectional or not cell.batch_first):
        return None
    if isinstance(cell, (nn.LSTM, nn.GRU)):
        made = (LSTM if isinstance(cell, nn.LSTM) else GRU)(truncate=truncate, learn_start=learn_start)
        return None if getattr(cell, "proj_size", 0) else [Dense(made.gates * cell.hidden_size), made]
    own = {"tanh": nn.Tanh(), "relu": nn.ReLU()}
    f = function(cell.activation if isinstance(cell, layers.ActivatedRNN) else own[cell.nonlinearity])
    return None if f is None else [Dense(cell.hidden_size), Recurrence(f, truncate=truncate, learn_start=learn_start)]


def _values(layer: Layer, module: nn.Module) -> dict[str, Array]:
    """Return the numbers of a module by the engine's names."""
    given = {key: t.detach().cpu().numpy() for key, t in module.state_dict().items()}
    if isinstance(module, layers.Recurrent):
        return _recurrent_values(layer, module, given)
    names = {"b": "bias", "gamma": "weight", "beta": "bias", "slope": "weight"}
    values = given | {key: given[name] for key, name in names.items() if name in given}
    if isinstance(layer, Dense):
        values["W"] = given["weight"].T if isinstance(module, nn.Linear) else _rows(given["weight"])
    return values


def _recurrent_values(layer: Layer, module: layers.Recurrent, given: dict[str, Array]) -> dict[str, Array]:
    """Return the numbers of a Dense or of the recurrence after it; PyTorch has two biases where the engine has one."""
    cell = {key.removeprefix("cell.").removesuffix("_l0"): value for key, value in given.items()}
    b = cell.get("bias_ih", np.zeros(len(cell["weight_ih"])))
    second = cell.get("bias_hh", np.zeros(len(b)))
    if isinstance(module.cell, nn.GRU):  # of the candidate it stands after the reset
        n = module.cell.hidden_size
        second, inner = np.concatenate([second[: 2 * n], np.zeros(n)]), second[2 * n :]
    if isinstance(layer, Dense):
        return {"W": cell["weight_ih"].T, "b": b + second}
    return cell | {"W": cell["weight_hh"].T} | ({"b": inner} if isinstance(layer, GRU) else {})


def _rows(weight: Array) -> Array:
    """Return the weights of a convolution (n_out, n_in, k, k) as the engine has them, (k k n_in, n_out)."""
    return weight.transpose(2, 3, 1, 0).reshape(-1, len(weight))


def _channels_last(value: Array, shape: Shape) -> Array:
    """Return rows for flattened (channels, height, width) in the order of ``shape``, (height, width, channels)."""
    H, W, C = shape
    return np.moveaxis(value.reshape(C, H, W, -1), 0, 2).reshape(value.shape)


def _width(part: nn.Module) -> int | None:
    """Return how many features a weight layer takes, None for others."""
    if isinstance(part, (nn.Linear, nn.Conv2d)):
        return int(part.in_features if isinstance(part, nn.Linear) else part.in_channels)
    return None


def _method(part: nn.Module) -> str | None:
    """Return the engine's name of a normalization over the last axis with scale (and shift)."""
    kinds = {nn.BatchNorm1d: "batch", nn.BatchNorm2d: "batch", nn.LayerNorm: "layer", nn.RMSNorm: "rms"}
    method = kinds.get(type(part))
    if method is None or part.weight is None or part.weight.dim() != 1:
        return None
    if method == "batch" and (not part.track_running_stats or part.momentum is None):
        return None
    return method if method == "rms" or part.bias is not None else None
