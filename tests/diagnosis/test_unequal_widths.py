"""Networks whose layers differ in width: gains and ratio agree, funnels are healthy where theory says so."""

import math

import numpy as np
import pytest

from bpx.diagnosis import diagnose_pass, observe, predict_network
from bpx.engine import ACTIVATIONS, INITIALIZERS, mlp, residual_mlp
from bpx.engine.normalization import NORMALIZATIONS
from bpx.probes import ProbeContext, between_hidden
from bpx.probes.gains import Gains

N_IN, N_OUT = 30, 10
LEFT_OUT = {"zeros", "constant", "identity", "lsuv", "critical", "looks_linear", "delta_orthogonal", "file"}
DRAWN = sorted(set(INITIALIZERS) - LEFT_OUT)


def passed(build, hidden, batch, seed, **options):
    """Return a network after one pass forward and backward on random data."""
    rng = np.random.default_rng([seed, 1])
    net = build(N_IN, hidden, N_OUT, **{"seed": seed, "dtype": "float64", **options})
    net.bind(batch, np.random.default_rng([seed, 2]))
    net.cost(rng.standard_normal((batch, N_IN)), rng.integers(0, N_OUT, batch))
    net.backward()
    return net


@pytest.mark.parametrize("seed", range(120))
def test_the_gains_between_first_and_last_hidden_delta_multiply_to_the_ratio(seed):
    rng = np.random.default_rng(seed)
    residual, depth = rng.random() < 0.25, int(rng.integers(2, 13))
    one_width = residual or rng.random() < 0.1  # a shortcut keeps the width
    widths = [int(n) for n in np.exp(rng.uniform(math.log(2), math.log(200), depth))]
    net = passed(
        residual_mlp if residual else mlp,
        [widths[0]] * depth if one_width else widths,
        int(rng.integers(2, 60)),
        seed,
        activation=str(rng.choice(list(ACTIVATIONS))),
        initializer=str(rng.choice(DRAWN)),
        normalization=str(rng.choice(["none", *NORMALIZATIONS])),
        dropout=float(rng.choice([0.0, 0.3])),
    )
    gains = Gains(ProbeContext(net))
    gains.on_gradient(0)
    within = between_hidden(net)
    named = zip(gains.keys, gains.values.tolist(), strict=True)
    product = math.prod(g for (_, _, quantity, i), g in named if quantity == "backward_gain" and i in within)
    line = observe(net).depth_slope
    if line is None:  # every unit of the last hidden layer is dead or dropped: no ratio
        assert not observe(net).delta_l2[-1] > 0
        return
    assert product == pytest.approx(line.ratio, rel=1e-6)


def test_hardly_any_of_these_networks_is_dead():
    """The test above would hold for networks without a ratio whatever the gains are."""
    alive = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        net = passed(mlp, [int(n) for n in rng.integers(2, 200, 5)], 20, seed, activation="relu")
        line = observe(net).depth_slope
        alive += line is not None and line.ratio > 0
    assert alive >= 57


NARROWING = [400, 200, 100, 50, 25]
CASES = {"relu, He": ("relu", "he_normal"), "tanh, LeCun": ("tanh", "lecun_normal"), "selu": ("selu", "lecun_normal")}


@pytest.mark.parametrize("widths", [NARROWING, NARROWING[::-1]], ids=["narrowing", "widening"])
@pytest.mark.parametrize("case", CASES)
def test_funnels_are_healthy_both_ways_where_theory_says_so(case, widths):
    activation, initializer = CASES[case]
    slopes, predicted, healthy = [], [], 0
    for seed in range(16):
        net = passed(mlp, widths, 64, seed, activation=activation, initializer=initializer)
        finding = diagnose_pass(net, observe(net), predict_network(net)[-1])
        assert finding.slope is not None and finding.predicted_slope is not None
        slopes.append(finding.slope)
        predicted.append(finding.predicted_slope)
        healthy += finding.verdict == "healthy"
    assert healthy == 16 and abs(np.mean(predicted)) * (len(widths) - 1) < 0.5
    # theory leaves terms of order 1/n in the mean out
    assert 10 ** np.mean(slopes) == pytest.approx(10 ** np.mean(predicted), rel=0.03)


def fan_out(net, seed, variance):
    """Draw every W (n_in, n_out) from N(0, variance / n_out), forward and backward anew."""
    rng = np.random.default_rng([seed, 3])
    for dense in net.dense:
        dense.W.value[...] = rng.standard_normal(dense.W.value.shape) * math.sqrt(variance / dense.n_out)
    x = rng.standard_normal((64, N_IN))
    net.cost(x, rng.integers(0, N_OUT, 64))
    net.backward()


@pytest.mark.parametrize(
    ("activation", "scheme", "squared"),
    [
        # E ||delta_l||**2 / E ||delta_(l+1)||**2 = n_l Var(W) E[phi'**2], and n_l = 2 n_(l+1) here
        ("relu", "fan_out", 2.0),  # n_l (2 / n_(l+1)) / 2
        ("relu", "xavier_normal", 2 / 3),  # n_l 2 / (n_l + n_(l+1)) / 2
        ("linear", "xavier_normal", 4 / 3),
        ("linear", "lecun_normal", 1.0),
    ],
)
def test_a_scheme_that_is_not_fan_in_has_theorys_factor_in_a_funnel(activation, scheme, squared):
    slopes, predicted = [], []
    for seed in range(16):
        initializer = "he_normal" if scheme == "fan_out" else scheme
        net = passed(mlp, [512, 256, 128, 64, 32], 64, seed, activation=activation, initializer=initializer)
        if scheme == "fan_out":
            fan_out(net, seed, 2.0)
        line, prediction = observe(net).depth_slope, predict_network(net)[2]
        assert line is not None and prediction.slope is not None
        slopes.append(line.slope)
        predicted.append(prediction.slope)
    assert 10 ** np.mean(slopes) == pytest.approx(math.sqrt(squared), rel=0.05)
    assert 10 ** np.mean(predicted) == pytest.approx(math.sqrt(squared), rel=0.05)
