"""Twenty steps of the models with positions beside PyTorch's own operations in float64, weights copied in."""

import itertools
import math

import numpy as np
import pytest

from bpx.engine import OPTIMIZERS, convnet, plain_conv, residual_conv, transformer
from bpx.engine.convolution import Convolution

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
F = torch.nn.functional
STEPS, B, LR = 20, 16, 0.1

MODELS = {
    "convnet": lambda **kw: convnet((12, 11, 1), [7], 4, "relu", channels=[3, 4], kernel=3, **kw),
    "convnet mean": lambda **kw: convnet((12, 11, 1), [7], 4, "tanh", channels=[8], pool="mean", **kw),
    "plain_conv": lambda **kw: plain_conv((6, 6, 2), [4] * 3, 4, "tanh", stride=2, **kw),
    "residual_conv": lambda **kw: residual_conv((6, 6, 2), [8] * 5, 4, "tanh", layers_per_branch=2, **kw),
    "transformer": lambda **kw: transformer((5, 6), [8] * 2, 4, "tanh", **kw),
    "transformer post": lambda **kw: transformer((5, 6), [8] * 2, 4, "tanh", norm_position="post", heads=2, **kw),
}


class Twin:
    """The forward pass of a network by PyTorch's operations, images as (batch, channels, height, width)."""

    def __init__(self, net):
        self.net = net
        self.values = {p.name: torch.from_numpy(p.value.copy()).requires_grad_() for p in net.parameters}

    def chain(self, layers, x):
        for layer in layers:
            operation = self.convolution if isinstance(layer, Convolution) else getattr(self, layer.kind)
            x = operation(layer, x)
        return x

    def value(self, parameter):
        return None if parameter is None else self.values[parameter.name]

    def convolution(self, layer, x):
        k, c = layer.kernel, layer.shape[-1]
        W = self.value(layer.W).reshape(k, k, c, layer.n_out).permute(3, 2, 0, 1)
        y = F.conv2d(x.permute(0, 3, 1, 2), W, self.value(layer.b), stride=layer.stride, padding=layer.padding)
        return y.permute(0, 2, 3, 1)

    def dense(self, layer, x):
        z = x @ self.value(layer.W)
        return z if layer.b is None else z + self.value(layer.b)

    def activation(self, layer, x):
        return {"relu": torch.relu, "tanh": torch.tanh}[layer.function.name](x)

    def pooling(self, layer, x):
        pool = {"MaxPool": F.max_pool2d, "MeanPool": F.avg_pool2d}[type(layer).__name__]
        return pool(x.permute(0, 3, 1, 2), layer.size).permute(0, 2, 3, 1)

    def flatten(self, layer, x):
        return x.reshape(len(x), -1)

    def mean(self, layer, x):
        return x.mean(dim=tuple(range(1, x.ndim - 1)))

    def positions(self, layer, x):
        return x + self.value(layer.p)

    def scale(self, layer, x):
        return x * layer.value

    def attention(self, layer, x):
        n, tokens, width = x.shape
        q, k, v = (p.reshape(n, tokens, layer.heads, -1).transpose(1, 2) for p in x.chunk(3, dim=-1))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, tokens, width // 3)

    def norm(self, layer, x):
        gamma = self.value(layer.gamma)
        if layer.method == "rms":
            return F.rms_norm(x, (x.shape[-1],), gamma, 1e-5)
        if layer.method == "layer":
            return F.layer_norm(x, (x.shape[-1],), gamma, self.value(layer.beta), 1e-5)
        return F.batch_norm(x.movedim(-1, 1), None, None, gamma, self.value(layer.beta), True, eps=1e-5).movedim(1, -1)

    def residual(self, layer, x):
        return x + self.chain(layer.branch, x)

    def step(self, x, y):
        z = self.chain(self.net.blocks, x.reshape(len(x), *self.net.shape))
        F.cross_entropy(z, y).backward()
        with torch.no_grad():
            for value in self.values.values():
                value -= LR * value.grad
                value.grad = None


@pytest.mark.parametrize("normalization", ["batch", "layer", "rms"])
@pytest.mark.parametrize("name", list(MODELS))
def test_twenty_steps(name, normalization):
    net = MODELS[name](dtype="float64", normalization=normalization, initializer="lecun_normal").bind(B)
    twin, optimizer, rng = Twin(net), OPTIMIZERS["sgd"](lr=LR).bind(net.parameters), np.random.default_rng(0)
    for step in range(STEPS):
        n = B if step % 5 else B - 3
        x, y = rng.standard_normal((n, math.prod(net.shape))), rng.integers(0, 4, n)
        net.cost(x, y)
        net.backward()
        optimizer.propose()
        optimizer.apply()
        twin.step(torch.from_numpy(x), torch.from_numpy(y))
        for p in net.parameters:
            theirs = twin.values[p.name].detach().numpy()
            assert np.linalg.norm(p.value - theirs) <= 1e-10 * np.linalg.norm(theirs) + 1e-13, (step, p.name)


def test_layer_norm_over_few_channels_departs_no_further_than_from_a_rounding():
    """A norm over 3 or 4 channels divides by small deviations: roundings grow, PyTorch's own as much as bpx's."""
    ratios = []
    for channels, seed in itertools.product((3, 4), range(3)):
        net = plain_conv(
            (6, 6, 2), [channels] * 3, 4, "tanh", stride=2, normalization="layer", initializer="lecun_normal",
            dtype="float64", seed=seed,
        ).bind(B)  # fmt: skip
        twin, rounded, rng = Twin(net), Twin(net), np.random.default_rng(1)
        with torch.no_grad():
            for value in rounded.values.values():
                value *= torch.from_numpy(1 + 2.0**-52 * rng.choice([-1.0, 1.0], value.shape))
        optimizer = OPTIMIZERS["sgd"](lr=LR).bind(net.parameters)
        for _ in range(STEPS):
            x, y = rng.standard_normal((B, math.prod(net.shape))), rng.integers(0, 4, B)
            net.cost(x, y)
            net.backward()
            optimizer.propose()
            optimizer.apply()
            for other in (twin, rounded):
                other.step(torch.from_numpy(x), torch.from_numpy(y))
        theirs = {name: value.detach().numpy() for name, value in twin.values.items()}
        ours = sum(np.linalg.norm(p.value - theirs[p.name]) for p in net.parameters)
        own = sum(np.linalg.norm(value.detach().numpy() - theirs[name]) for name, value in rounded.values.items())
        ratios.append(ours / own)
    assert np.exp(np.mean(np.log(ratios))) < 3, ratios
