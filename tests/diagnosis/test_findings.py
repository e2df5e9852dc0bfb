"""The verdict, its number, its cause and its remedy, on networks whose truth is known."""

import json
import math

import numpy as np
import pytest
from conftest import thinned

from bpx.diagnosis import diagnose_pass, observe, predict_network
from bpx.diagnosis.judge import usual_saturation
from bpx.engine import mlp
from bpx.engine.activations import Tanh
from bpx.engine.rectifiers import ReLU
from bpx.probes import fit_slope
from bpx.theory import slope_verdict

B = 256


def finding(depth, width=200, batch=B, model=mlp, seed=0, **options):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((batch, width)), rng.integers(0, 10, batch)
    net = model(width, [width] * depth, 10, **{"seed": seed, **options})
    net.bind(batch)
    net.cost(x.astype(net.dtype), y)
    net.backward()
    return diagnose_pass(net, observe(net), predict_network(net)[-1])


def gain(value, name="he_normal"):
    return {"name": name, "gain": value}


def median_factor(n, *args, **options):
    return float(np.median([finding(*args, seed=seed, **options).factor for seed in range(n)]))


def test_deep_sigmoid_under_xavier_vanishes_as_theory_says():
    f = finding(20, activation="sigmoid", initializer="xavier_normal")
    assert f.verdict == "vanishing" and f.cause == "weights"
    assert f.factor == pytest.approx(math.sqrt(0.05572), rel=0.05)  # the formula sheet's chi_1
    assert f.factor == pytest.approx(f.predicted_factor, rel=0.05)
    assert f.ratio < 1e-10 and "Gradients vanish" in f.sentence and "theory predicts" in f.sentence


def test_deep_relu_under_he_is_healthy():
    f = finding(30, activation="relu", initializer="he_normal")
    assert f.verdict == "healthy" and f.cause == "" and f.remedies == ()
    assert f.factor == pytest.approx(1, abs=0.05)


def test_relu_with_gain_2_explodes_by_root_2():
    factor = median_factor(5, 20, activation="relu", initializer=gain(2.0))
    assert factor == pytest.approx(math.sqrt(2), rel=0.02)
    f = finding(20, activation="relu", initializer=gain(2.0))
    assert f.verdict == "exploding" and f.cause == "weights"


def test_batch_normalized_relu_explodes_at_initialization_and_layer_norm_does_not():
    factor = median_factor(3, 50, activation="relu", normalization="batch")
    assert factor == pytest.approx(1.211, rel=0.03)  # Yang et al. 2019
    f = finding(50, activation="relu", normalization="batch")
    assert f.verdict == "exploding" and f.cause == "normalization"
    assert finding(50, activation="relu", normalization="layer").verdict == "healthy"


def test_it_reports_what_was_measured_where_intuition_is_wrong():
    """Weights of N(0, 2**2) in five sigmoid units: said to explode, and they do not."""
    f = finding(10, 5, 1, activation="sigmoid", initializer={"name": "normal", "std": 2.0}, loss="mean_squared_error")
    assert f.verdict == "vanishing" and f.factor < 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"activation": "gelu"}, "lengths are unstable"),
        ({"activation": "silu"}, "lengths are unstable"),
        ({"activation": "softplus"}, "along z"),
        ({"activation": "silu", "normalization": "batch"}, "a sample's length"),
        ({"activation": "softplus", "normalization": "batch"}, "a sample's length"),
    ],
)
def test_where_the_line_is_rough_it_is_said_and_no_band_is_claimed(options, reason):
    f = finding(20, 100, 128, initializer="he_normal", **options)
    assert f"but only roughly: {f.caveat}" in f.sentence and reason in f.caveat
    assert "95 % band" not in f.sentence


BANDS = ["linear", "sigmoid", "tanh", "relu", "elu", "selu", "softsign", "hard_tanh"]


@pytest.mark.parametrize(("activation", "normalization"), thinned(BANDS, ["none", "batch", "layer"]))
def test_elsewhere_the_band_stands(activation, normalization):
    options = {"activation": activation, "normalization": normalization, "initializer": "xavier_normal"}
    if normalization == "batch" and activation != "relu":
        f = finding(20, 100, 128, **options)
        assert "terms of order 1 / width" in f.caveat and "95 % band" not in f.sentence
        return
    found = [finding(20, 100, 128, seed=seed, **options) for seed in range(6)]
    assert all(f.caveat == "" and "95 % band" in f.sentence for f in found)
    assert sum(f.predicted_low <= f.slope <= f.predicted_high for f in found) >= 4  # fewer: 0.2 % of the time
    width = np.mean([f.predicted_high - f.predicted_low for f in found]) / (2 * 1.96)
    assert width < 5 * np.std([f.slope for f in found], ddof=1)


def test_no_gradient_that_enters_is_none_that_vanishes():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 20))
    net = mlp(20, [30] * 6, 3, "tanh", loss="mean_squared_error", dtype="float64").bind(64)
    net.cost(x, net.predict(x))
    net.backward()
    f = diagnose_pass(net, observe(net), predict_network(net)[-1])
    assert f.verdict == "undetermined" and "no gradient enters" in f.sentence and f.remedies == ()


def test_masks_that_let_nothing_through_are_no_matter_of_scale():
    f = finding(20, 30, 32, activation="relu", dropout=0.95)
    assert f.verdict == "vanishing" and f.zero_layers and f.cause == "dropout"


def test_exact_zeros_are_said_to_be_zeros():
    f = finding(50, 100, activation="sigmoid", initializer={"name": "normal", "std": 0.01})
    assert f.verdict == "vanishing" and f.slope is None and f.zero_layers[0] == "layer_01"
    assert "exactly zero" in f.sentence and "float64" in f.sentence and "gradient_flow/slope" not in f.metrics()
    g = finding(50, 100, activation="sigmoid", initializer={"name": "normal", "std": 0.01}, dtype="float64")
    assert g.zero_layers == () and g.factor == pytest.approx(0.025, rel=0.05)


def test_one_hidden_layer_has_no_verdict_and_the_sentence_gives_what_is_known():
    rng = np.random.default_rng(0)
    net = mlp(20, [50], 4, "relu", dtype="float64").bind(64)
    net.cost(rng.standard_normal((64, 20)), rng.integers(0, 4, 64))
    net.backward()
    f = diagnose_pass(net, observe(net, [1e-3, 2e-2]), predict_network(net)[-1])
    hidden, output = net.blocks[1].dx, net.loss.dx
    gain = np.linalg.norm(hidden) / np.linalg.norm(output)
    assert f.verdict == "undetermined" and f.slope is None
    assert f.sentence.startswith(f"One hidden layer, so no slope: going backward delta changes ×{gain:.3f} from")
    assert f"{100 * np.mean(net.dense[0].y <= 0):.0f} % saturated" in f.sentence
    assert f.sentence.endswith("the first step changes the weights by 1.0e-03 and 2.0e-02 of their norm.")


def test_a_dead_hidden_layer_alone_is_said_to_be_one():
    rng = np.random.default_rng(0)
    net = mlp(20, [50], 4, "relu").bind(64)
    net.dense[0].b.value.fill(-1e6)
    net.cost(rng.standard_normal((64, 20)).astype("f"), rng.integers(0, 4, 64))
    net.backward()
    f = diagnose_pass(net, observe(net), predict_network(net)[-1])
    assert f.sentence == "One hidden layer: delta is exactly zero in layer_01, lost in the activation of layer_01."


def test_without_hidden_layers_nothing_can_vanish():
    f = finding(0, activation="relu")
    assert f.verdict == "undetermined" and f.sentence == "No hidden layer."


def test_from_two_hidden_layers_on_the_rule_answers():
    assert finding(2, activation="relu").verdict == "healthy"
    assert finding(2, activation="sigmoid", initializer=gain(0.1)).verdict == "vanishing"


def test_theory_says_where_it_has_no_answer():
    for initializer in ("constant", "identity"):
        f = finding(10, activation="tanh", initializer=initializer)
        assert f.predicted_slope is None and "theory has no prediction" in f.sentence


def test_orthogonal_weights_are_seen_to_be_orthogonal():
    rng = np.random.default_rng(0)
    net = mlp(50, [50] * 5, 10, "tanh", initializer="orthogonal").bind(20)
    net.forward(rng.standard_normal((20, 50)).astype("f"), train=True)
    assert predict_network(net)[0].orthogonal
    net = mlp(50, [50] * 5, 10, "tanh", initializer="lecun_normal").bind(20)
    net.forward(rng.standard_normal((20, 50)).astype("f"), train=True)
    assert not predict_network(net)[0].orthogonal


def test_the_line_through_the_layers():
    line = fit_slope(np.array([1e-6, 1e-5, 1e-4, 1e-3]))
    assert line.slope == pytest.approx(-1) and line.ratio == pytest.approx(1e-3) and line.residual < 1e-12
    bent = fit_slope(np.array([1e-6, 1e-5, 1e-4, 1e-3 * 10]))
    logs = np.log10([1e-6, 1e-5, 1e-4, 1e-2])
    a, b = np.polyfit(np.arange(4), logs, 1)
    off = logs - (a * np.arange(4) + b)
    assert bent.slope == pytest.approx(-a) and bent.residual == pytest.approx(np.sqrt(np.mean(off**2)))
    assert bent.worst == int(np.argmax(np.abs(off))) + 1 and abs(bent.worst_residual) == pytest.approx(
        np.abs(off).max()
    )
    assert (
        fit_slope(np.array([1.0])) is None
        and fit_slope(np.array([1.0, np.nan])) is None
        and fit_slope(np.zeros(3)) is None
    )
    assert fit_slope(np.array([0, 0, 1.0])).zeros == (1, 2)


@pytest.mark.parametrize(
    ("activation", "initializer", "width"),
    [
        ("relu", "he_normal", 100),
        ("tanh", "lecun_normal", 100),
        ("tanh", {"name": "lecun_normal", "sigma_w": 2.0}, 100),
        ("sigmoid", "xavier_normal", 50),
    ],
    ids=["relu", "tanh", "chaos", "sigmoid"],
)
def test_the_forward_band_holds_most_networks(activation, initializer, width):
    inside = []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        net = mlp(50, [width] * 15, 10, activation, initializer=initializer, seed=seed).bind(64)
        net.forward(rng.standard_normal((64, 50)).astype("f"), train=True)
        _, _, theory = predict_network(net)
        q = np.array([np.mean(dense.y.astype(float) ** 2) for dense in net.dense[:-1]])
        inside.append(((theory.q_low <= q) & (q <= theory.q_high))[1:])
        assert theory.q_low[0] == theory.q_high[0] == pytest.approx(q[0])
    assert np.mean(inside) > 0.85
    assert np.mean(np.log(theory.q_high) - np.log(theory.q_low)) < 2


def test_the_forward_slope_grows_with_the_signal():
    f = finding(20, activation="relu", initializer=gain(2.0))
    assert f.forward_slope == pytest.approx(math.log10(math.sqrt(2)), rel=0.1)
    assert f.metrics()["gradient_flow/forward_slope"] == f.forward_slope


@pytest.mark.parametrize(
    ("slope", "hidden", "verdict"),
    [
        (0.11, 11, "exploding"),
        (0.09, 11, "healthy"),
        (-0.11, 11, "vanishing"),
        (-5, 2, "vanishing"),
        (-5, 1, "undetermined"),
    ],
)
def test_the_rule(slope, hidden, verdict):
    assert slope_verdict(slope, hidden) == verdict


def test_usual_saturation():
    assert usual_saturation(ReLU()) == pytest.approx(0.5) and usual_saturation(Tanh()) < 0.05


def test_a_finding_is_plain_json():
    f = finding(5, activation="tanh")
    plain = json.loads(json.dumps(f.as_dict(), allow_nan=False))
    assert plain["factor"] == f.factor and plain["sentence"] == str(f) and "figure" not in plain
