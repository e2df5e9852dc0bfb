"""to_torch: a network of the engine as modules of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bpx.engine.activation import Activation, ActivationFunction
from bpx.engine.arrays import Array
from bpx.engine.attention import Attention, Positions
from bpx.engine.convolution import Convolution
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.gru import GRU
from bpx.engine.layer import Layer
from bpx.engine.lstm import LSTM
from bpx.engine.network import Network
from bpx.engine.normalization import BatchNorm, Normalization
from bpx.engine.pooling import Flatten, MaxPool, MeanPool, MeanPositions
from bpx.engine.rectifiers import ELU, LeakyReLU, LearnedSlope, PReLU
from bpx.engine.recurrent import LastStep, Recurrence, Recurrent
from bpx.engine.residual import Residual
from bpx.engine.scale import Scale
from bpx.torch import layers
from bpx.torch.modules import PLAIN


def to_torch(net: Network) -> nn.Sequential:
    """Return ``net`` as modules of PyTorch, with copies of its weights and running statistics.

    Samples have the engine's shape, (n, *positions, features): (n, height, width, channels) for images. The outputs
    are those before the loss (logits), as ``torch.nn`` losses take them; training mode, as new modules are. Dropout
    draws its masks from PyTorch's random numbers.

    Raises
    ------
    ValueError
        An activation or a layer has no counterpart in PyTorch.
    """
    with torch.random.fork_rng(devices=[]):  # new modules draw weights
        made = nn.Sequential(*_modules(net.blocks))
    return made.to(torch.from_numpy(net.parameters.theta[:0]).dtype)


def activation_module(f: ActivationFunction) -> nn.Module:
    """Return the module that computes an activation of the engine; raises ValueError where there is none."""
    if isinstance(f, LeakyReLU):
        return nn.LeakyReLU(f.slope)
    if isinstance(f, ELU):
        return nn.ELU(f.alpha)
    if isinstance(f, PReLU):
        return nn.PReLU(init=f.slope)
    if f.name not in PLAIN:
        raise ValueError(f"PyTorch has no counterpart for the activation {f.name}")
    made: nn.Module = PLAIN[f.name]()
    return made


def _modules(chain: Sequence[Layer]) -> Iterator[nn.Module]:
    """Yield the modules of a chain: a Dense and the recurrence after it are one."""
    parts = list(chain)
    while parts:
        layer = parts.pop(0)
        after = parts[0] if parts else None
        if isinstance(layer, Dense) and isinstance(after, Recurrent):
            yield _recurrent(layer, after)
            parts.pop(0)
        else:
            yield _module(layer)


def _module(layer: Layer) -> nn.Module:
    if isinstance(layer, Convolution):
        return layers.ChannelsLast(_convolution(layer))
    if isinstance(layer, Dense):
        made = nn.Linear(layer.n_in, layer.n_out, bias=layer.b is not None)
        return _filled(made, weight=layer.W.value.T, **_bias(layer))
    if isinstance(layer, LearnedSlope):
        return _filled(activation_module(layer.function), weight=layer.slope.value)
    if isinstance(layer, Activation) and not isinstance(layer, Recurrent):
        return activation_module(layer.function)
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.rate)
    if isinstance(layer, Scale):
        learned = layer.factor is None
        return _filled(layers.Scale(layer.value, learned=learned), **({"alpha": layer.alpha.value} if learned else {}))
    if isinstance(layer, Normalization):
        return _norm(layer)
    if isinstance(layer, Residual):
        return layers.Residual(*_modules(layer.branch))
    if isinstance(layer, Positions):
        return _filled(layers.Positions(layer.shape), p=layer.p.value)
    if isinstance(layer, Attention):
        return layers.Attention(layer.heads)
    if isinstance(layer, (MaxPool, MeanPool)):
        return layers.ChannelsLast((nn.MaxPool2d if isinstance(layer, MaxPool) else nn.AvgPool2d)(layer.size))
    simple = {Flatten: nn.Flatten, MeanPositions: layers.MeanPositions, LastStep: layers.LastStep}
    if type(layer) in simple:
        return simple[type(layer)]()
    raise ValueError(f"{layer.name}: PyTorch has no counterpart for {type(layer).__name__}")


def _convolution(layer: Convolution) -> nn.Module:
    k, n_in, n = layer.kernel, layer.shape[-1], layer.n_out
    made = nn.Conv2d(n_in, n, k, layer.stride, layer.padding, bias=layer.b is not None)
    return _filled(made, weight=layer.W.value.reshape(k, k, n_in, n).transpose(3, 2, 0, 1), **_bias(layer))


def _recurrent(dense: Dense, layer: Recurrent) -> nn.Module:
    """Return a Dense and the recurrence after it as one module: the Dense is its weights of the inputs."""
    n_in, n = dense.n_in, layer.n_out
    cell: nn.Module
    if isinstance(layer, Recurrence) and layer.function.name not in ("tanh", "relu"):
        cell = layers.ActivatedRNN(n_in, n, activation_module(layer.function))
    elif isinstance(layer, Recurrence):
        cell = nn.RNN(n_in, n, nonlinearity=layer.function.name, batch_first=True)
    elif isinstance(layer, (LSTM, GRU)):
        cell = (nn.LSTM if isinstance(layer, LSTM) else nn.GRU)(n_in, n, batch_first=True)
    else:
        raise ValueError(f"{layer.name}: PyTorch has no counterpart for {type(layer).__name__}")
    b = np.zeros(dense.n_out) if dense.b is None else dense.b.value
    values = {"weight_ih_l0": dense.W.value.T, "weight_hh_l0": layer.W.value.T, "bias_ih_l0": b}
    if not isinstance(cell, layers.ActivatedRNN):
        values["bias_hh_l0"] = np.zeros(dense.n_out)
    if isinstance(layer, GRU):
        values["bias_hh_l0"][2 * n :] = layer.b.value
    made = layers.Recurrent(_filled(cell, **values), len(layer.states), layer.truncate, layer.learn_start)
    return _filled(made, **{key: getattr(layer, key).value for key in made.starts})


def _norm(layer: Normalization) -> nn.Module:
    values = {"weight": layer.gamma.value} | ({"bias": layer.beta.value} if layer.has_shift else {})
    if isinstance(layer, BatchNorm):
        kind = nn.BatchNorm2d if len(layer.shape) == 3 else nn.BatchNorm1d
        made = kind(layer.n_in, eps=layer.eps, momentum=1 - layer.momentum)
        made = _filled(made, **values, running_mean=layer.running_mean, running_var=layer.running_var)
        return layers.ChannelsLast(made) if len(layer.shape) > 1 else made
    if layer.method not in ("layer", "rms"):
        raise ValueError(f"{layer.name}: PyTorch has no counterpart for {type(layer).__name__}")
    return _filled((nn.LayerNorm if layer.method == "layer" else nn.RMSNorm)(layer.n_in, eps=layer.eps), **values)


def _bias(layer: Dense) -> dict[str, Array]:
    return {} if layer.b is None else {"bias": layer.b.value}


def _filled(module: nn.Module, **values: Array) -> nn.Module:
    """Return a module in float64 with ``values`` in its parameters and buffers."""
    module.double()
    with torch.no_grad():
        for key, value in values.items():
            getattr(module, key).copy_(torch.from_numpy(np.array(value)))
    return module
