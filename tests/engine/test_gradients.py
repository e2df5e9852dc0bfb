"""The gradient of every layer x activation x loss, against central differences."""

import numpy as np
import pytest
from conftest import thinned

from bpx.engine import ACTIVATIONS, LOSSES, Dense, gradcheck, mlp, residual_mlp
from bpx.engine.normalization import NORMALIZATIONS

MODELS = {"mlp": mlp, "residual_mlp": residual_mlp}


def make(model, activation, normalization, loss, dropout=0.25):
    net = MODELS[model](
        5, [8, 8], 3, activation, normalization=normalization, dropout=dropout, loss=loss,
        dtype="float64", initializer={"name": "lecun_normal", "bias_std": 0.3}, seed=1,
    )  # fmt: skip
    return net.bind(6, np.random.default_rng(2))


@pytest.mark.parametrize(
    ("activation", "loss", "normalization", "model"),
    thinned(ACTIVATIONS, LOSSES, ["none", *NORMALIZATIONS], MODELS, every=4),
)
def test_every_layer_activation_and_loss(activation, loss, normalization, model):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)
    net = make(model, activation, normalization, loss)
    for train in (True, False):
        for rows in (6, 4):  # a full batch and a short last one
            check = gradcheck(net, x[:rows], y[:rows], train=train, entries=12, directions=2, epsilon=3e-6)
            assert check.relative <= 1e-7, (train, rows, check.relative)
            assert all(layer.passed for layer in check.layers), (train, rows, check.layers)


@pytest.mark.parametrize("output", ["linear", "sigmoid", "tanh"])
def test_squared_error_outputs_and_smoothing(output):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6, 5))
    for loss, y in (
        ({"name": "mean_squared_error", "output": output}, rng.standard_normal((6, 3))),
        ({"name": "softmax_cross_entropy", "label_smoothing": 0.2}, rng.integers(0, 3, 6)),
        ({"name": "sigmoid_cross_entropy"}, rng.random((6, 3))),
    ):
        assert gradcheck(make("mlp", "tanh", "none", loss), x, y).relative <= 1e-7


def test_a_broken_derivative_is_caught_and_located(monkeypatch):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)
    net = make("mlp", "tanh", "none", "softmax_cross_entropy", dropout=0)
    right = ACTIVATIONS["tanh"].df

    def wrong(self, z, a, out):
        right(self, z, a, out)
        out *= 1.001

    monkeypatch.setattr(ACTIVATIONS["tanh"], "df", wrong)
    check = gradcheck(net, x, y)
    relative = {t.name: t.relative for t in check.tensors}
    assert check.relative > 1e-5 and check.directional > 1e-5
    assert relative["layer_03.dense.W"] < 1e-8 < 1e-5 < relative["layer_01.dense.W"]
    assert not check.passed
    assert [layer.name for layer in check.layers if not layer.passed] == ["layer_01.activation", "layer_02.activation"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["dense", "norm", "activation", "dropout", "loss"])
def test_each_broken_backward_is_located(model, kind):
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((6, 5)), rng.integers(0, 3, 6)
    net = make(model, "softplus", "batch", "softmax_cross_entropy")
    broken = net.loss if kind == "loss" else [layer for layer in net.layers() if layer.kind == kind][-1]

    class Broken(type(broken)):
        def backward(self, *args):
            out = super().backward(*args)
            out.reshape(-1)[::2] *= 1.01
            return out

    broken.__class__ = Broken
    failed = [layer.name for layer in gradcheck(net, x, y, entries=5).layers if not layer.passed]
    assert failed == (["loss"] if kind == "loss" else [broken.name])


def one_feature(normalization, seed):
    """A network on one standardized feature: under batch norm the cost bends sharply where a weight is near 0."""
    x = np.linspace(-1.7, 1.7, 32)[:, None]
    net = mlp(1, [12, 12], 2, "tanh", normalization=normalization, dtype="float64", seed=seed)
    return net.bind(32, np.random.default_rng(0)), x, (x[:, 0] > 0.3).astype(int)


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 10), marks=pytest.mark.slow)], ids=["2", "8 more"])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_sharp_bends_of_the_cost_are_no_wrong_derivative(normalization, seeds):
    for seed in seeds:
        check = gradcheck(*one_feature(normalization, seed))
        assert check.passed and check.relative < 1e-7, seed


BREAKS = {
    "sign": lambda right: -right,
    "1.01": lambda right: right * 1.01,
    "1.0001": lambda right: right * 1.0001,
    "a sample is missing": lambda right: right * (np.arange(len(right)) > 0)[:, None],
}


@pytest.mark.parametrize(
    ("normalization", "kind", "broken"), thinned(NORMALIZATIONS, ["dense", "norm", "activation", "loss"], BREAKS)
)
def test_planted_faults_are_found_on_one_feature(normalization, kind, broken):
    for seed in range(3):
        net, x, y = one_feature(normalization, seed)
        layer = net.loss if kind == "loss" else [layer for layer in net.layers() if layer.kind == kind][1]

        class Broken(type(layer)):
            def backward(self, *args):
                out = super().backward(*args)
                out[...] = BREAKS[broken](out.copy())
                return out

        layer.__class__ = Broken
        check = gradcheck(net, x, y, entries=20)
        assert not check.passed
        wrong = [one.name for one in check.layers if not one.passed]
        assert wrong == ["loss" if kind == "loss" else layer.name]


def test_a_wrong_gradient_of_weights_is_found(monkeypatch):
    right = Dense.backward

    def wrong(self, dy):
        out = right(self, dy)
        self.W.grad *= 1.0001
        return out

    monkeypatch.setattr(Dense, "backward", wrong)
    check = gradcheck(*one_feature("batch", 0))
    assert not any(t.passed for t in check.tensors if t.name.endswith("dense.W"))
    assert all(layer.passed for layer in check.layers)


def test_kinks_are_found_and_zero_gradients_are_no_failure():
    net = mlp(2, [3], 2, "relu", dtype="float64", initializer="lecun_normal").bind(1)
    net.dense[0].W.value[...] = [[1, -1, 1], [0, 0, 1]]  # unit 1 stands exactly at its kink, unit 2 is off
    check = gradcheck(net, np.array([[0.0, 1.0]]), np.array([0]))
    assert check.kinks > 0 and check.relative < 1e-7
    dead = mlp(2, [3], 2, "relu", dtype="float64", initializer="lecun_normal").bind(1)
    dead.dense[0].W.value[...] = -1
    check = gradcheck(dead, np.array([[1.0, 1.0]]), np.array([0]))
    assert check.tensors[0].relative is None, "both gradients are zero: nothing to compare"
    with pytest.raises(ValueError, match="float64"):
        gradcheck(mlp(2, [3], 2).bind(1), np.ones((1, 2)), np.array([0]))
