"""What everything of a kind must hold, found through the registries: nothing here names what it tests."""

import numpy as np
import pytest

from bpx import testing
from bpx.data import Classification, Digits, Gaussian, Moons, Spirals
from bpx.engine import ACTIVATIONS, INITIALIZERS, LOSSES, OPTIMIZERS, SCHEDULES, gradcheck, mlp, residual_mlp
from bpx.engine.normalization import NORMALIZATIONS
from bpx.probes import PROBES


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_pass_their_check(name):
    testing.check_activation(ACTIVATIONS[name]())


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_pass_their_check(name):
    testing.check_initializer(INITIALIZERS[name]())


@pytest.mark.parametrize("name", LOSSES)
def test_losses_pass_their_check(name):
    testing.check_loss(LOSSES[name]())


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations_pass_their_check(name):
    testing.check_normalization(NORMALIZATIONS[name]())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_pass_their_check(name):
    testing.check_optimizer(OPTIMIZERS[name])


@pytest.mark.parametrize("total", [1, 40])
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_pass_their_check(name, total):
    testing.check_schedule(SCHEDULES[name](total_steps=total))


@pytest.mark.parametrize("name", PROBES)
def test_probes_pass_their_check(name):
    testing.check_probe(PROBES[name])


@pytest.mark.parametrize("source", [Classification, Digits, Gaussian, Moons, Spirals], ids=lambda s: s.__name__)
def test_data_sources_pass_their_check(source):
    testing.check_dataset(source())


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
    kept, theta = x.copy(), net.parameters.theta.copy()
    net.cost(x, y)
    outputs = {layer.name: layer.y.copy() for layer in net.layers()}
    net.backward()
    for layer in net.layers():
        assert layer.y.dtype == layer.dx.dtype == dtype, layer.name
        np.testing.assert_array_equal(layer.y, outputs[layer.name], err_msg="backward changed an output")
    assert len(outputs) == len(list(net.layers())), "two layers share a name"
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(net.parameters.theta, theta)
    assert net.parameters.grad.dtype == dtype and np.linalg.norm(net.parameters.grad) > 0


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("whole", [{"clip_norm": 0.5}, {"clip_zscore": 0.1}])
def test_optimizers_pass_their_check_with_every_limit(name, whole):
    keys = {**whole, "clip_value": 0.1, "clip_units": 0.05, "weight_decay": 0.01, "max_norm": 0.7}

    def limited(lr):
        """Build it with clipping, decay and a ball for the weights."""
        return OPTIMIZERS[name](lr=lr, **keys)

    testing.check_optimizer(limited)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_max_norm_keeps_every_unit_in_its_ball(name, rng):
    net = mlp(4, [6], 3, "tanh", seed=2).bind(5)
    optimizer = OPTIMIZERS[name](lr=0.1, max_norm=0.7).bind(net.parameters)
    for _ in range(3):
        net.cost(rng.standard_normal((5, 4)).astype(np.float32), rng.integers(0, 3, 5))
        net.backward()
        optimizer.propose()
        optimizer.apply()
        assert all(np.linalg.norm(d.W.value, axis=0).max() <= 0.7 + 1e-6 for d in net.dense)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_check_along_directions_agrees_with_the_check_of_entries(name, rng):
    net = mlp(4, [6, 6], 3, name, dtype="float64", initializer={"name": "lecun_normal", "bias_std": 0.3}).bind(5)
    x, y = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    theta = net.parameters.theta.copy()
    check = gradcheck(net, x, y, directions=8)
    assert check.directional <= 1e-7 and check.relative <= 1e-7
    assert sum(t.entries for t in check.tensors) == theta.size
    np.testing.assert_array_equal(net.parameters.theta, theta)
