"""Weights that depend on the place of a layer, come from a file, or have learning rates of their own."""

import math
import re

import numpy as np
import pytest

from bpx.engine import INITIALIZERS, OPTIMIZERS, mlp, plain_conv, residual_mlp
from bpx.engine.tensor_files import File


@pytest.mark.parametrize("model", [mlp, residual_mlp])
def test_looks_linear_networks_are_linear_and_keep_delta(model, rng):
    depth = 40
    net = model(10, [32] * depth, 5, "relu", initializer="looks_linear", dtype="float64", seed=1).bind(16)
    x, y = rng.standard_normal((2, 16, 10))
    z = [net.forward(a, train=True).copy() for a in (x, y, 2 * x - 3 * y)]
    scale = np.abs(z[0]).max()
    assert np.abs(2 * z[0] - 3 * z[1] - z[2]).max() < 1e-12 * scale
    if model is mlp:  # orthogonal all the way: lengths are kept exactly
        net.cost(x, rng.integers(0, 5, 16))
        net.backward()
        first, last = (np.linalg.norm(net.blocks[i].dx) for i in (1, 2 * depth - 1))
        assert first == pytest.approx(last, rel=0.35)  # half of the units are active, by chance not exactly half


def test_delta_orthogonal_kernels_keep_the_length_of_every_image_and_gradient(rng):
    net = plain_conv((6, 6, 3), [8] * 30, 4, "linear", initializer="delta_orthogonal", dtype="float64").bind(5)
    first, *others = (dense.W.value.reshape(3, 3, -1, 8) for dense in net.dense[:-1])
    np.testing.assert_allclose(first[1, 1] @ first[1, 1].T, np.eye(3), atol=1e-12)
    for kernel in others:
        np.testing.assert_allclose(np.linalg.svd(kernel[1, 1], compute_uv=False), 1, atol=1e-12)
        assert np.count_nonzero(kernel) == kernel[1, 1].size
    net.cost(x := rng.standard_normal((5, 6, 6, 3)), rng.integers(0, 4, 5))
    net.backward()
    lengths = [np.linalg.norm(dense.y.reshape(5, -1), axis=1) for dense in net.dense[:-1]]
    np.testing.assert_allclose(lengths, np.tile(np.linalg.norm(x.reshape(5, -1), axis=1), (30, 1)), rtol=1e-12)
    back = [np.linalg.norm(dense.dx) for dense in net.dense[1:-1]]
    np.testing.assert_allclose(back, back[-1], rtol=1e-12)


def test_delta_orthogonal_says_what_it_needs():
    with pytest.raises(ValueError, match=r"channels must be at least 8 after it, got 4"):
        plain_conv((6, 6, 3), [8, 4], 2, initializer="delta_orthogonal")
    with pytest.raises(ValueError, match=r"model.kernel must be odd, got 2"):
        INITIALIZERS["delta_orthogonal"]().of_kernel(2)(np.random.default_rng(0), np.empty((12, 8)))
    dense = mlp(4, [6, 6], 3, initializer="delta_orthogonal", dtype="float64").dense[1].W.value
    np.testing.assert_allclose(dense @ dense.T, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in INITIALIZERS if name != "file"])
def test_every_initializer_draws_the_biases_of_every_layer(name):
    settings = {"value": 0.1} if name == "constant" else {"std": 0.1} if name == "normal" else {}
    initializer = {"name": name, "bias_std": 0.5, **settings}
    for net in (
        mlp(8, [300, 300], 200, initializer=initializer),
        plain_conv((4, 4, 2), [200, 200], 9, initializer=initializer),
    ):
        for dense in net.dense[:2]:
            assert dense.b.value.std() == pytest.approx(0.5, rel=0.2), dense.name
    assert mlp(8, [30], 400, initializer=initializer).dense[-1].b.value.std() == pytest.approx(0.5, rel=0.2)


def test_biases_come_from_any_initializer():
    net = mlp(400, [3000], 2, initializer={"name": "he_normal", "bias": "uniform"}, dtype="float64")
    b = net.dense[0].b.value
    assert np.abs(b).max() <= 1 / math.sqrt(400) and b.std() == pytest.approx(1 / math.sqrt(3 * 400), rel=0.05)
    net = mlp(4, [3], 2, initializer={"name": "zeros", "bias": {"name": "constant", "value": 0.3}}, dtype="float64")
    assert all((dense.b.value == 0.3).all() for dense in net.dense)
    assert INITIALIZERS["he_normal"](bias="uniform").bias_rms(400, 3) == pytest.approx(1 / math.sqrt(1200))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_weights_come_from_a_file(tmp_path, kind):
    net = mlp(4, [6, 5], 3, normalization="batch", seed=7)
    net.dense[0].W.value[0, 0] = 42
    for layer in net.layers():
        for value in layer.statistics().values():
            value[...] = 0.5
    path = tmp_path / f"weights.{kind}"
    if kind == "npz":
        np.savez(path, **net.tensors())
    else:
        pytest.importorskip("safetensors.numpy").save_file(net.tensors(), path)
    new = mlp(4, [6, 5], 3, normalization="batch", initializer=File(path=str(path)))
    for name, value in net.tensors().items():
        np.testing.assert_array_equal(new.tensors()[name], value, err_msg=name)
    with pytest.raises(
        ValueError, match=re.escape("layer_02.dense.W in") + r".* must be finite \(6, 4\), got float32 \(6, 5\)"
    ):
        mlp(4, [6, 4], 3, normalization="batch", initializer=File(path=str(path)))
    with pytest.raises(ValueError, match=r"lacks layer_04.dense.W; it has layer_01"):
        mlp(4, [6, 5, 3], 3, normalization="batch", initializer=File(path=str(path)))


def test_mup_has_the_scales_and_rates_of_table_3():
    base, n = 64, 512
    net = mlp(30, [n, n], 10, "relu", initializer={"name": "mup", "gain": 1.0, "base_width": base}, dtype="float64")
    stds = [dense.W.value.std() for dense in net.dense]
    assert stds == pytest.approx([30**-0.5, n**-0.5, math.sqrt(base) / n], rel=0.03)
    mup, m = INITIALIZERS["mup"](base_width=base), n / base
    first, hidden, last = (f"layer_{i:02d}.dense" for i in (1, 2, 3))
    assert mup.rates(net.parameters, adaptive=False) == {
        f"{first}.W": m, f"{first}.b": m, f"{hidden}.W": 1.0, f"{hidden}.b": m, f"{last}.W": 1 / m,
    }  # fmt: skip
    assert mup.rates(net.parameters, adaptive=True) == {f"{hidden}.W": 1 / m, f"{last}.W": 1 / m}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scaled_rates_scale_each_step(name, rng):
    x, y, moved = rng.standard_normal((5, 4)), rng.integers(0, 3, 5), []
    for rates in ({}, {"layer_02.dense.W": 0.25}):
        net = mlp(4, [6, 6], 3, "tanh", dtype="float64", seed=2).bind(5)
        optimizer = OPTIMIZERS[name](lr=0.1, weight_decay=0.0)
        optimizer.scale_rates(rates)
        optimizer.bind(net.parameters)
        start = net.parameters.theta.copy()
        net.cost(x, y)
        net.backward()
        optimizer.propose()
        optimizer.apply()
        moved.append(net.parameters.views(net.parameters.theta - start))
    for key, value in moved[0].items():
        np.testing.assert_allclose(moved[1][key], value * (0.25 if key == "layer_02.dense.W" else 1), atol=1e-15)


def test_the_penalty_is_that_of_coupled_decay_alone(rng):
    net = mlp(4, [6], 3, "tanh", dtype="float64", seed=2)
    squares = sum((dense.W.value**2).sum() for dense in net.dense)
    for name in OPTIMIZERS:
        optimizer = OPTIMIZERS[name](lr=0.1, weight_decay=0.3, clip_norm=1.0).bind(net.parameters)
        assert optimizer.penalty() == pytest.approx(0 if name == "adamw" else 0.15 * squares), name
        assert OPTIMIZERS[name](lr=0.1, weight_decay=0.0).bind(net.parameters).penalty() == 0
