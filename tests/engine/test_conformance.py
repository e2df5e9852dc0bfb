"""What everything of a kind must hold, found through the registries: nothing here names what it tests."""

import numpy as np
import pytest

from bpx.engine import ACTIVATIONS, INITIALIZERS, LOSSES, OPTIMIZERS, gradcheck, mlp, residual_mlp
from bpx.engine.normalization import NORMALIZATIONS

DTYPES = [np.float32, np.float64]
NEAR_THE_END = {np.float32: 1e38, np.float64: 1e308}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_take_the_extremes_of_their_dtype(name, dtype):
    info, big = np.finfo(dtype), NEAR_THE_END[dtype]
    z = np.array([[big, -big, 0.0, -0.0, info.smallest_subnormal, -info.smallest_subnormal, info.tiny]], dtype)
    kept, a, d, phi = z.copy(), np.empty_like(z), np.empty_like(z), ACTIVATIONS[name]()
    with np.errstate(all="raise", under="ignore"):
        phi.f(z, a)
        phi.df(z, a, d)
        phi.f(np.array([[info.max, -info.max]], dtype), np.empty((1, 2), dtype))
    assert np.isfinite(a).all() and np.isfinite(d).all()
    np.testing.assert_array_equal(z, kept)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_keep_dtype_fill_everything_and_repeat(name, dtype):
    drawn = []
    for _ in range(2):
        W = np.full((30, 20), np.nan, dtype)
        INITIALIZERS[name]()(np.random.default_rng(4), W)
        assert W.dtype == dtype and np.isfinite(W).all()
        drawn.append(W)
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_keep_dtype_and_arguments(name, dtype, rng):
    loss = LOSSES[name]()
    loss.bind(6, 3, np.dtype(dtype))
    loss.set_batch_size(5)
    z, y = rng.standard_normal((5, 3)).astype(dtype), rng.integers(0, 3, 5)
    kept, kept_y = z.copy(), y.copy()
    cost, dz, p = loss.forward(z, y), loss.backward(), loss.predict(z)
    assert isinstance(cost, float) and dz.dtype == p.dtype == dtype and dz.shape == p.shape == (5, 3)
    np.testing.assert_array_equal(z, kept)
    np.testing.assert_array_equal(y, kept_y)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([0, 3, 0, 0], "from 0 to 2, got 3"),
        ([0, -1, 0, 0], "from 0 to 2, got -1"),
        ([0.0, 1.0, 0.0, 0.0], "must be integers"),
        ([0], "shape"),
        ([[0], [1], [2], [0]], "shape"),
    ],
)
def test_targets_that_do_not_fit_are_named(name, y, said):
    net = mlp(2, [3], 3, loss=name).bind(4)
    with pytest.raises(ValueError, match=said):
        net.cost(np.ones((4, 2), np.float32), np.array(y))


def test_inputs_that_do_not_fit_are_named():
    net = mlp(2, [3], 3).bind(4)
    for x in (np.ones((4, 2)), np.ones((4, 3), np.float32), np.ones(4, np.float32)):
        with pytest.raises(ValueError, match=r"x must be \(rows, 2\) of float32"):
            net.forward(x, train=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("normalization", ["none", *NORMALIZATIONS])
@pytest.mark.parametrize("model", [mlp, residual_mlp])
def test_layers_keep_dtype_arguments_and_each_others_buffers(model, normalization, dtype, rng):
    net = model(4, [6, 6], 3, "tanh", normalization=normalization, dropout=0.2, dtype=dtype).bind(5)
    x, y = rng.standard_normal((5, 4)).astype(dtype), rng.integers(0, 3, 5)
    kept, theta = x.copy(), net.store.theta.copy()
    net.cost(x, y)
    outputs = {layer.name: layer.y.copy() for layer in net.layers()}
    net.backward()
    for layer in net.layers():
        assert layer.y.dtype == layer.dx.dtype == dtype, layer.name
        np.testing.assert_array_equal(layer.y, outputs[layer.name], err_msg="backward changed an output")
    assert len(outputs) == len(list(net.layers())), "two layers share a name"
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(net.store.theta, theta)
    assert net.store.grad.dtype == dtype and np.linalg.norm(net.store.grad) > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_propose_before_they_apply(name, dtype, rng):
    net = mlp(4, [6], 3, "tanh", dtype=dtype, seed=2).bind(5)
    keys = {"clip_norm": 0.5, "clip_value": 0.1, "weight_decay": 0.01, "max_norm": 0.7}
    optimizer = OPTIMIZERS[name](lr=0.1, **keys).bind(net.store)
    x, y = rng.standard_normal((5, 4)).astype(dtype), rng.integers(0, 3, 5)
    for _ in range(3):
        net.cost(x, y)
        net.backward()
        before = net.store.theta.copy()
        optimizer.propose()
        np.testing.assert_array_equal(net.store.theta, before)
        step = optimizer.factor * optimizer.u
        optimizer.apply()
        assert optimizer.u.dtype == net.store.theta.dtype == dtype
        np.testing.assert_allclose(net.store.theta - before, step, atol=1e-6, err_msg="the step is not factor * u")
        assert all(np.linalg.norm(d.W.value, axis=0).max() <= 0.7 + 1e-6 for d in net.dense)
    remembered = [a for transform in optimizer.chain for a in transform.state_dict().values() if a.ndim]
    assert all(a.dtype == dtype for a in remembered)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_check_along_directions_agrees_with_the_check_of_entries(name, rng):
    net = mlp(4, [6, 6], 3, name, dtype="float64", initializer={"name": "lecun_normal", "bias_std": 0.3}).bind(5)
    x, y = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    theta = net.store.theta.copy()
    check = gradcheck(net, x, y, directions=8)
    assert check.directional <= 1e-7 and check.relative <= 1e-7
    assert sum(t.entries for t in check.tensors) == theta.size
    np.testing.assert_array_equal(net.store.theta, theta)
