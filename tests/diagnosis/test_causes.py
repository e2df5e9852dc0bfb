"""The cause is the part whose removal was tried and brought the factor nearest to 1."""

import math

import numpy as np
import pytest

from bpx.diagnosis import diagnose_pass, observe, predict_network
from bpx.diagnosis.observation import hidden_slope
from bpx.diagnosis.trials import find_causes, gains, needed_gains, without
from bpx.engine import mlp, residual_mlp
from bpx.engine.dense import Dense


def passed(net, x=None, batch=128, seed=0):
    """Return the net after a pass forward and backward."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((batch, net.n_in)) if x is None else x
    net.bind(len(x), np.random.default_rng(seed))
    with np.errstate(all="ignore"):
        net.cost(np.ascontiguousarray(x, net.dtype), rng.integers(0, net.n_out, len(x)))
        net.backward()
    return net


def finding(net, x=None, batch=128, seed=0):
    passed(net, x, batch, seed)
    return diagnose_pass(net, observe(net), predict_network(net)[-1])


def scaled(name, **settings):
    return {"name": name, **settings}


@pytest.mark.parametrize(
    ("build", "options", "verdict", "cause"),
    [
        (mlp, {"activation": "tanh", "initializer": scaled("lecun_normal", gain=0.5)}, "vanishing", "weights"),
        (mlp, {"activation": "tanh", "initializer": scaled("lecun_normal", gain=4.0)}, "exploding", "weights"),
        (mlp, {"activation": "relu", "initializer": scaled("he_normal", gain=2.0)}, "exploding", "weights"),
        (mlp, {"activation": "sigmoid", "initializer": "xavier_normal"}, "vanishing", "weights"),
        (mlp, {"activation": "relu", "dropout": 0.2}, "exploding", "dropout"),
        (mlp, {"activation": "relu", "dropout": 0.5}, "exploding", "dropout"),
        (mlp, {"activation": "relu", "normalization": "batch"}, "exploding", "normalization"),
        (mlp, {"activation": "relu", "initializer": "zeros"}, "vanishing", "symmetry"),
        (mlp, {"activation": "relu", "initializer": scaled("constant", value=0.1)}, "exploding", "symmetry"),
        (residual_mlp, {"activation": "linear", "initializer": "lecun_normal"}, "exploding", "shortcuts"),
        (residual_mlp, {"activation": "relu"}, "exploding", "shortcuts"),
    ],
)
def test_the_cause(build, options, verdict, cause):
    f = finding(build(100, [100] * 26, 10, **options))
    assert f.verdict == verdict and cause in f.cause.split(" and "), f.cause
    if cause != "shortcuts":  # beside which smaller weights in the branches would do as well
        assert f.cause == cause


def test_dropout_is_blamed_where_weights_and_activation_level_out():
    """The largest gain is the weights'; with the activation's it makes 1.01, and without dropout the net is healthy."""
    f = finding(mlp(64, [100] * 26, 10, "relu", dropout=0.2), batch=32)
    assert f.gains["weights"] > f.gains["dropout"] and f.cause == "dropout"
    assert abs(math.log10(f.trials["dropout"])) * 25 < 1 < abs(math.log10(f.trials["weights"])) * 25
    assert "Cause: dropout at rate 0.2 (without it:" in f.sentence


def test_several_parts_that_help_alike_are_all_named():
    f = finding(mlp(100, [100] * 20, 10, "relu", dropout=0.5, initializer=scaled("he_normal", gain=2.0)))
    assert f.cause == "weights and dropout" and "each not enough alone" in f.sentence


def test_where_nothing_helps_that_is_said():
    """Deep and narrow, this net vanishes at the critical scale, by its width and by chance."""
    for seed in range(20):
        f = finding(mlp(10, [10] * 60, 10, "relu", seed=seed), batch=32, seed=seed)
        if f.verdict != "healthy" and not f.cause:
            assert "Cause: no single part" in f.sentence
            return
    pytest.fail("each of these nets was healthy or had a cause")


def test_weights_stand_beside_what_the_activation_needs():
    f = finding(mlp(200, [200] * 20, 10, "relu", initializer=scaled("he_normal", gain=2.0)))
    assert f.weights_gain == pytest.approx(2, rel=0.01) and f.needed_gain == pytest.approx(math.sqrt(2))
    assert "weights ×2.00 per layer where relu needs ×1.41" in f.sentence
    f = finding(mlp(200, [200] * 20, 10, "tanh", initializer=scaled("lecun_normal", bias_std=4.0)))
    assert "tanh with biases of 4 needs ×" in f.sentence and f.cause == "weights"


def test_saturated_units_are_a_fact_beside_the_cause():
    f = finding(mlp(100, [100] * 20, 10, "tanh", initializer=scaled("lecun_normal", sigma_w=5.0)))
    assert f.cause == "weights" and "% of the units are saturated (tanh at unit scale: 3 %)" in f.sentence
    f = finding(mlp(100, [100] * 20, 10, "tanh", initializer=scaled("lecun_normal", gain=0.5)))
    assert "saturated" not in f.sentence


def test_inputs_that_are_too_large_are_the_cause():
    """Of linear units behind one tanh layer, only the inputs decide whether that one is cut off."""
    x = 300 * np.random.default_rng(0).standard_normal((128, 100))
    net = passed(mlp(100, [100] * 3, 10, "tanh", initializer="lecun_normal"), x)
    causes = find_causes(net, hidden_slope(net).slope)
    assert causes.parts[0] == "inputs"


def test_inputs_of_unit_scale_are_no_part_to_rescale():
    net = passed(mlp(100, [100] * 20, 10, "relu", dropout=0.2))
    assert set(find_causes(net, hidden_slope(net).slope).slopes) == {"weights", "dropout"}


@pytest.mark.parametrize(
    "x",
    [np.zeros((32, 20)), np.tile(np.arange(20.0), (32, 1)), 1e-30 * np.ones((32, 20))],
    ids=["zero", "same", "tiny"],
)
def test_inputs_that_carry_nothing(x):
    f = finding(mlp(20, [30] * 20, 3, "sigmoid"), x)
    assert f.verdict == "vanishing" and f.cause == "inputs" and f.remedies == ()
    assert "Cause: the inputs carry nothing" in f.sentence
    f = finding(mlp(20, [30] * 6, 3, "tanh"), x)
    assert "he inputs carry nothing" in f.sentence and "Try:" not in f.sentence


def test_features_whose_square_underflows_carry_nothing():
    x = 1e-170 * np.random.default_rng(0).standard_normal((32, 20))
    assert "carry nothing" in finding(mlp(20, [30] * 6, 3, "sigmoid", dtype="float64"), x).sentence
    one = finding(mlp(20, [30] * 6, 3, "tanh"), np.random.default_rng(0).standard_normal((1, 20)))
    assert "carry nothing" not in one.sentence  # one sample is the same as itself


def test_a_trial_leaves_the_network_alone():
    net = passed(residual_mlp(20, [30] * 8, 3, "relu", normalization="batch", dropout=0.1))
    before, blocks = {key: value.copy() for key, value in net.state_dict().items()}, list(net.blocks)
    grad = net.parameters.grad.copy()
    find_causes(net, hidden_slope(net).slope)
    assert all(np.array_equal(net.state_dict()[key], value) for key, value in before.items())
    assert net.blocks == blocks and np.array_equal(net.parameters.grad, grad)


@pytest.mark.parametrize("build", [mlp, residual_mlp])
def test_what_is_taken_out_is_out(build):
    options = {"normalization": "layer", "dropout": 0.3, "initializer": scaled("lecun_normal", gain=3.0)}
    net = passed(build(30, [30] * 5, 3, "tanh", **options))
    for part in {layer.part for layer in net.layers()} - {""}:
        replica = net.replica(4)
        without(replica, part)
        left = [layer.kind for layer in net.layers() if layer.part != part]
        assert [layer.kind for layer in replica.layers()] == left


def test_removing_the_shortcuts_gives_the_plain_network():
    net = passed(residual_mlp(30, [30] * 5, 3, "tanh", initializer="lecun_normal"))
    plain = mlp(30, [30] * 5, 3, "tanh")
    plain.parameters.theta[:] = net.parameters.theta
    replica = net.replica(8)
    without(replica, "shortcuts")
    x = np.random.default_rng(1).standard_normal((8, 30)).astype("f")
    np.testing.assert_array_equal(replica.forward(x, train=True), plain.bind(8).forward(x, train=True))


def test_gains_of_weights_are_sigma_w():
    net = mlp(50, [400, 300, 200], 5, "relu", initializer=scaled("he_normal", gain=1.7))
    np.testing.assert_allclose(gains(net), 1.7, rtol=0.02)
    np.testing.assert_allclose(needed_gains(net), math.sqrt(2))
    net = residual_mlp(50, [100] * 5, 5, "relu")
    np.testing.assert_allclose(needed_gains(net), [math.sqrt(2), *[math.sqrt(2 / 4)] * 4])


def test_a_residual_block_is_one_operation():
    """In a linear residual net with branches of gain 1 a block's factor is sqrt(2), whatever its branch does."""
    f = finding(residual_mlp(100, [100] * 20, 10, "linear", initializer="lecun_normal"))
    assert f.gains == {"residual blocks": pytest.approx(math.sqrt(2), rel=0.03)}
    limit = 10 ** (1 / 19)
    assert f"per block where 20 layers stay healthy below ×{limit:.3f}" in f.sentence


def test_gains_of_layers_that_underflow_are_means_over_the_layers_that_do_not():
    """sigmoid at N(0, 0.01**2): true 0.1 for weights of 100 units and 0.25 for the activation, in every layer."""
    options = {"activation": "sigmoid", "initializer": scaled("normal", std=0.01)}
    under = finding(mlp(100, [100] * 60, 10, **options))
    full = finding(mlp(100, [100] * 60, 10, dtype="float64", **options))
    assert under.zero_layers and not full.zero_layers
    for part in ("weights", "activation"):
        assert under.gains[part] == pytest.approx(full.gains[part], rel=0.03)
    assert math.prod(full.gains.values()) == pytest.approx(0.0255, rel=0.05)


def test_every_hidden_dense_is_rescaled_and_the_output_is_not():
    from bpx.diagnosis.trials import _rescale_weights

    net = passed(mlp(30, [40, 20, 50], 3, "relu", initializer=scaled("normal", std=1.0)))
    replica = net.replica(8)
    _rescale_weights(replica, np.zeros((8, 30), "f"))
    dense = [layer for layer in replica.layers() if isinstance(layer, Dense)]
    found = [float(np.sqrt(np.mean(d.W.value**2) * d.n_in)) for d in dense]
    np.testing.assert_allclose(found[:-1], math.sqrt(2), rtol=1e-5)
    np.testing.assert_array_equal(dense[-1].W.value, net.dense[-1].W.value)
