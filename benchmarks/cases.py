"""The networks of step.py, as bpx builds them and as PyTorch does, and their bare matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from bpx.engine import convnet, gru, lstm, mlp, plain_conv, rnn, transformer
from bpx.engine.attention import Attention
from bpx.engine.dense import Dense
from bpx.engine.recurrent import Recurrent


@dataclass(frozen=True)
class Case:
    """A network in both libraries: ``build`` makes bpx's, ``module`` PyTorch's.

    ``bar`` is the most that a step may take at one thread, in PyTorch's; ``hidden`` are the widths of a perceptron,
    for scikit-learn, and none of all others; ``kind`` names it in jitted_models.py.
    """

    name: str
    shape: tuple[int, ...]
    n_out: int
    batch: int
    build: Callable
    module: Callable
    bar: float
    kind: str
    activation: str = "relu"
    hidden: tuple[int, ...] = ()


def perceptron(name, n_in, hidden, n_out, batch, activation):
    def module():
        layers = []
        for a, b in pairwise([n_in, *hidden]):
            layers += [nn.Linear(a, b), nn.ReLU() if activation == "relu" else nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(hidden[-1], n_out))

    def build():
        return mlp(n_in, hidden, n_out, activation, initializer="xavier_normal")

    return Case(
        f"{name} {activation}", (n_in,), n_out, batch, build, module, 1.1, "perceptron", activation, tuple(hidden)
    )


class Sequence(nn.Module):
    def __init__(self, cells, n_out):
        super().__init__()
        self.cells, self.readout = cells, nn.Linear(cells.hidden_size, n_out)

    def forward(self, x):
        return self.readout(self.cells(x)[0][:, -1])


class PixelMean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class ChannelsFirst(nn.Module):
    def forward(self, x):
        return x.movedim(-1, 1)  # one channel: a view that is contiguous


class Encoder(nn.Module):
    def __init__(self, tokens, n_in, d, heads, blocks, n_out):
        super().__init__()
        self.embed, self.positions = nn.Linear(n_in, d), nn.Parameter(torch.zeros(tokens, d))
        layer = nn.TransformerEncoderLayer(d, heads, 4 * d, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, blocks, nn.LayerNorm(d), enable_nested_tensor=False)
        self.readout = nn.Linear(d, n_out)

    def forward(self, x):
        return self.readout(self.blocks(self.embed(x) + self.positions).mean(1))


def lenet():
    return nn.Sequential(
        ChannelsFirst(), nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def deep_conv():
    layers = [ChannelsFirst()]
    for c in [1] + [16] * 7:
        layers += [nn.Conv2d(c, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, PixelMean(), nn.Linear(16, 10))


def sequence(name, build, cells, bar, steps=28, n_in=28):
    def net():
        return build((steps, n_in), [100], 10, initializer="xavier_normal")

    def module():
        return Sequence(cells(n_in, 100, batch_first=True), 10)

    return Case(f"{name} {steps} steps, 100 units", (steps, n_in), 10, 32, net, module, bar, name)


IMAGE = (28, 28, 1)
CASES = [
    perceptron("2-10-10-3", 2, [10, 10], 3, 32, "relu"),
    perceptron("784-128-64-10", 784, [128, 64], 10, 32, "relu"),
    perceptron("784-512-512-10", 784, [512, 512], 10, 128, "relu"),
    perceptron("784-20x100-10", 784, [100] * 20, 10, 128, "tanh"),
    perceptron("784-3x1024-10", 784, [1024] * 3, 10, 256, "relu"),
    perceptron("784-50x100-10", 784, [100] * 50, 10, 32, "tanh"),
    sequence("RNN", rnn, nn.RNN, 0.5),
    sequence("RNN", rnn, nn.RNN, 0.5, steps=784, n_in=1),
    sequence("LSTM", lstm, nn.LSTM, 1.0),
    sequence("GRU", gru, nn.GRU, 1.0),
    Case("LeNet", IMAGE, 10, 64, lambda: convnet(IMAGE, [120, 84], 10), lenet, 1.0, "LeNet"),
    Case("eight 3x3, 16 channels", IMAGE, 10, 32, lambda: plain_conv(IMAGE, [16] * 8, 10), deep_conv, 1.8,
         "deep convolutions"),
    Case("encoder, 4 blocks", (28, 28), 10, 32, lambda: transformer((28, 28), [64] * 4, 10),
         lambda: Encoder(28, 28, 64, 4, 4, 10), 0.65, "encoder"),
]  # fmt: skip


def products(case):
    """Return a function that makes the matrix products of one step: forward, and both of backward.

    What needs none is left out: the gradient of the data, and of the state before the first step.
    """
    rng = np.random.default_rng(0)
    net, calls = case.build(), []

    def product(n, k, m, backward=2, stack=()):
        x, W, z = (rng.standard_normal((*stack, *s), dtype=np.float32) for s in ((n, k), (k, m), (n, m)))
        xt, Wt = x.swapaxes(-1, -2), W.swapaxes(-1, -2)
        calls.append((x, W, z))
        calls.extend([(xt, z, np.empty_like(W)), (z, Wt, np.empty_like(x))][:backward])

    for layer in net.layers():
        rows = case.batch * math.prod(layer.shape[:-1])
        if isinstance(layer, Dense):
            product(rows, layer.n_in, layer.n_out, backward=2 if layer.needs_input_grad else 1)
        elif isinstance(layer, Recurrent):
            for _ in range(layer.shape[0] - 1):
                product(case.batch, *layer.W.shape, backward=0)
                product(case.batch, *layer.W.shape[::-1], backward=0)
            x, W, z = (rng.standard_normal(s, dtype=np.float32) for s in
                       ((layer.n_out, rows), layer.W.shape, (rows, layer.n_in)))  # fmt: skip
            calls.append((x, z, W))
        elif isinstance(layer, Attention):
            c, tokens, stack = layer.n_out // layer.heads, layer.shape[0], (case.batch, layer.heads)
            product(tokens, c, tokens, stack=stack)
            product(tokens, tokens, c, stack=stack)

    def epoch():
        while True:
            for a, b, out in calls:
                np.matmul(a, b, out=out)
            yield

    return epoch
