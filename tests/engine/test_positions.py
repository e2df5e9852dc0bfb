"""Layers for samples with positions: derivatives, formulas, and what does not fit."""

import itertools
import json

import numpy as np
import pytest
import scipy.special
from conftest import thinned

from bpx.engine import (
    Activation,
    Attention,
    BatchNorm,
    Convolution,
    Dense,
    Flatten,
    LayerNorm,
    MaxPool,
    MeanPool,
    MeanPositions,
    Network,
    NetworkSpec,
    Positions,
    Residual,
    RMSNorm,
    convnet,
    gradcheck,
    mlp,
    plain_conv,
    residual_conv,
    transformer,
)
from bpx.engine.activations import ACTIVATIONS, Tanh
from bpx.engine.convolution import SMALL
from bpx.engine.initializers import LecunNormal
from bpx.engine.losses import LOSSES
from bpx.engine.models import build

B = 5


def rng(seed=0):
    return np.random.default_rng(seed)


def network(shape, blocks, loss="softmax_cross_entropy", seed=0):
    net = Network(shape, blocks, LOSSES[loss](), "float64").bind(B)
    net.initialize(LecunNormal(bias_std=0.1), rng(seed))
    for p in net.parameters:
        if p.name.endswith(".p"):
            p.value[...] = rng(1).standard_normal(p.shape)
    return net


IMAGE, TOKENS = (7, 6, 2), (5, 6)
LAYERS = {
    **{f"convolution {k} {s} {p}": (IMAGE, lambda k=k, s=s, p=p: [Dense(2), Convolution(3, k, s, p)])
       for k, s, p in ((1, 1, 0), (3, 1, 1), (3, 2, 0), (2, 1, 1), (5, 3, 2))},
    "max pooling": (IMAGE, lambda: [Dense(3), MaxPool(2)]),
    "max pooling of three": (IMAGE, lambda: [Dense(3), MaxPool(3)]),
    "mean pooling": (IMAGE, lambda: [Dense(3), MeanPool(3)]),
    "mean": (IMAGE, lambda: [Dense(3), MeanPositions()]),
    "batch": (IMAGE, lambda: [Dense(3, bias=False), BatchNorm()]),
    "layer": (TOKENS, lambda: [Dense(4), LayerNorm()]),
    "rms": (TOKENS, lambda: [Dense(4), RMSNorm()]),
    "attention 1": (TOKENS, lambda: [Dense(12), Attention(1)]),
    "attention 2": (TOKENS, lambda: [Dense(12), Attention(2)]),
    "positions": (TOKENS, lambda: [Dense(4), Positions()]),
    "residual": (TOKENS, lambda: [Dense(4), Residual([LayerNorm(), Dense(12), Attention(2), Dense(4)])]),
}  # fmt: skip


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("name", list(LAYERS))
def test_gradients(name, loss, train):
    shape, layers = LAYERS[name]
    net = network(shape, [*layers(), Activation(Tanh()), Flatten(), Dense(4)], loss)
    x, y = rng(2).standard_normal((B, *shape)), rng(3).integers(0, 4, B)
    check = gradcheck(net, x, y, train=train, entries=30)
    assert check.passed, check.worst
    assert all(layer.relative is not None for layer in check.layers if layer.name != "loss")


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_every_activation_follows_the_shape(name):
    net = network(IMAGE, [Convolution(3, 3), Activation(ACTIVATIONS[name]()), Flatten(), Dense(4)])
    assert gradcheck(net, rng(2).standard_normal((B, *IMAGE)), rng(3).integers(0, 4, B), entries=20).passed


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 0), (2, 1, 1), (5, 3, 2), (1, 1, 0)])
def test_a_convolution_is_the_sum(kernel, stride, padding):
    """Beside the sum over i, j and c, written out."""
    net = network(IMAGE, [Convolution(3, kernel, stride, padding), Flatten(), Dense(2)])
    x = rng(2).standard_normal((B, *IMAGE))
    net.forward(x, train=True)
    W = net.dense[0].W.value.reshape(kernel, kernel, 2, 3)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    z = net.dense[0].y
    for h, w in itertools.product(range(z.shape[1]), range(z.shape[2])):
        window = padded[:, h * stride : h * stride + kernel, w * stride : w * stride + kernel]
        np.testing.assert_allclose(z[:, h, w], np.einsum("bijc,ijco->bo", window, W) + net.dense[0].b.value)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_of_many_pixels_is_the_formula(stride):
    """Where products are made a few rows at a time; dx is the adjoint: <dx, v> = <delta, convolution of v>."""
    net = network((26, 25, 16), [Positions(), Convolution(16, 3, stride, 1), Flatten(), Dense(2)])
    x, v = rng(2).standard_normal((2, 3, 26, 25, 16))
    net.cost(x, np.zeros(3, int))
    net.backward()
    layer = net.dense[0]
    W, delta, dx = layer.W.value, net.blocks[2].dx, layer.dx.copy()
    assert len(delta.reshape(-1, 16)) > SMALL // W.size
    patches = layer.inputs().reshape(-1, 144)
    np.testing.assert_allclose(layer.y.reshape(-1, 16), patches @ W + layer.b.value, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.W.grad, patches.T @ delta.reshape(-1, 16), rtol=1e-10, atol=1e-12)
    layer.b.value.fill(0)
    assert np.vdot(dx, v) == pytest.approx(np.vdot(delta, layer.forward(v, train=True)), rel=1e-10)


@pytest.mark.parametrize("factor", [1, 100])
def test_attention_is_the_formula(factor):
    """Also where exp of a score would leave the range: the scores are then beyond 800."""
    net = network(TOKENS, [Dense(12), Attention(2), Flatten(), Dense(2)])
    net.forward(factor * rng(2).standard_normal((B, *TOKENS)), train=True)
    q, k, v = np.split(net.dense[0].y, 3, axis=2)
    layer, largest = net.blocks[1], []
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        S = q[:, :, part] @ k[:, :, part].transpose(0, 2, 1) / np.sqrt(2)
        P = scipy.special.softmax(S, axis=2)
        np.testing.assert_allclose(layer.P[:, head], P, atol=1e-300)
        np.testing.assert_allclose(layer.y[:, :, part], P @ v[:, :, part])
        largest.append(np.abs(S).max())
    assert max(largest) > 800 if factor == 100 else max(largest) < 60


def test_pooling_of_ties_goes_to_the_first():
    net = network((2, 2, 1), [Positions(), MaxPool(2), Flatten(), Dense(1)], "mean_squared_error")
    net.parameters["layer_01.positions.p"].value.fill(0)
    net.cost(np.ones((B, 2, 2, 1)), np.ones((B, 1)))
    net.backward()
    assert [bool(v) for v in net.blocks[1].dx[0].reshape(-1)] == [True, False, False, False]


MODELS = {
    "convnet": lambda **kw: convnet((12, 11, 1), [7], 4, "tanh", channels=[3, 4], kernel=3, **kw),
    "convnet mean": lambda **kw: convnet((12, 11, 1), [7], 4, "tanh", channels=[3], pool="mean", **kw),
    "plain_conv": lambda **kw: plain_conv((6, 6, 2), [4] * 3, 4, "tanh", **kw),
    "residual_conv": lambda **kw: residual_conv(
        (6, 6, 2), [4] * 5, 4, "tanh", stride=2, layers_per_branch=2, branch_scale="inv_sqrt", **kw
    ),
    "transformer": lambda **kw: transformer((5, 6), [8] * 2, 4, "tanh", **{"normalization": "layer"} | kw),
    "transformer post": lambda **kw: transformer(
        (5, 6), [8] * 2, 4, "tanh", norm_position="post", heads=2, **{"normalization": "layer"} | kw
    ),
}


@pytest.mark.parametrize(("name", "normalization"), thinned(MODELS, ["batch", "layer", "rms"]))
def test_models(name, normalization):
    net = MODELS[name](dtype="float64", normalization=normalization, dropout=0.2).bind(B)
    x, y = rng(2).standard_normal((B, net.n_in)), rng(3).integers(0, 4, B)
    assert gradcheck(net, x, y, entries=15).passed
    spec = json.loads(json.dumps(net.spec.as_dict()))
    again = build(NetworkSpec.from_dict(spec))
    again.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    np.testing.assert_array_equal(net.predict(x.reshape(B, *net.shape)), net.predict(x))


@pytest.mark.parametrize(
    ("side", "kernel", "last"), [(32, 5, 6), (28, 5, 5), (12, 5, 1), (11, 3, 1), (8, 3, 1), (7, 1, 1), (4, 1, 1)]
)
def test_lenet_fits_its_kernel_to_the_image(side, kernel, last):
    net = convnet((side, side, 1), [5], 2)
    assert net.spec.settings["kernel"] == kernel
    assert net.blocks[5].out_shape == (last, last, 16)


@pytest.mark.parametrize("name", list(MODELS))
def test_a_short_batch_needs_no_buffers(name):
    net = MODELS[name](dtype="float64").bind(B)
    x, y = rng(2).standard_normal((B, net.n_in)), rng(3).integers(0, 4, B)
    net.cost(x, y)
    net.backward()
    costs, grads = [], []
    for rows in (slice(0, 2), slice(2, B)):
        costs.append(net.cost(x[rows], y[rows]) * len(y[rows]))
        net.backward()
        grads.append(net.parameters.grad * len(y[rows]))
    whole = net.cost(x, y)
    net.backward()
    assert sum(costs) / B == pytest.approx(whole, rel=1e-12)
    np.testing.assert_allclose(sum(grads) / B, net.parameters.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mlp((3, 4), [5], 2), "the last layer must leave no positions, got outputs of shape"),
        (lambda: convnet((4,), [5], 2), "a convolution needs images"),
        (
            lambda: convnet((8, 8, 1), [5], 2, kernel=5),
            "model.kernel must be at most the image that it .*, 4 x 4",
        ),
        (lambda: convnet((8, 8, 1), [5], 2, channels=[3] * 4, kernel=1), "pooling needs images of at least 2 x 2"),
        (lambda: convnet((8, 8, 1), [5], 2, kernel=4), "model.kernel must be an odd number of at least 1, got 4"),
        (lambda: convnet((8, 8, 1), [5], 2, pool="min"), "model.pool must be max or mean, got min"),
        (lambda: convnet((8, 8, 1), [5], 2, channels=[0]), "model.channels must be a list of integers"),
        (
            lambda: plain_conv((8, 8, 1), [5], 2, kernel=9),
            "model.kernel must be at most the image that it .*, 8 x 8, got 9",
        ),
        (
            lambda: plain_conv((8, 8, 1), [5], 2, stride=9),
            "model.stride must be at most the image that it .*, got 9",
        ),
        (lambda: convnet((8, 8, 1), [5], 2, channels=[]), "model.channels must be a list of integers"),
        (lambda: plain_conv((8, 8, 1), [5], 2, stride=0), "model.stride must be at least 1, got 0"),
        (lambda: transformer((4, 3), [10], 2), "model.heads must divide model.width 10, got 4"),
        (lambda: transformer((4, 3), [8], 2, heads=0), "model.heads must be at least 1, got 0"),
        (lambda: transformer((4,), [8], 2), "attention needs samples"),
    ],
)
def test_what_does_not_fit(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_remedies_are_models_that_take_the_same_samples():
    from bpx.diagnosis.remedies import _options

    assert list(_options(mlp(4, [5], 2), "model")) == ["residual_mlp"]
    assert list(_options(residual_conv((6, 6, 1), [4], 2), "model")) == ["convnet", "plain_conv"]
