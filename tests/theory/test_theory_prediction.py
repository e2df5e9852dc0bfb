"""The predicted profile of delta against networks that are built, run backward and measured."""

import itertools
import math
import time
from dataclasses import astuple, replace

import numpy as np
import pytest

from bpx.diagnosis.architecture import network_ends
from bpx.engine import INITIALIZERS, mlp, residual_mlp
from bpx.engine.activations import ACTIVATIONS, Tanh
from bpx.engine.rectifiers import ReLU
from bpx.theory import (
    Architecture,
    Ends,
    backward_slope,
    mean_field,
    predict,
    slope_verdict,
    weight_stds,
)
from bpx.theory.batchnorm import batch_factors, batch_moments
from bpx.theory.finite_width import finite_width
from bpx.theory.fluctuation import _moments, moments, spread
from bpx.theory.steps import step

N_IN, N_OUT = 100, 10


def measure(activation, initializer, depth, width, seed, *, batch=32, residual=False, **options):
    """Return (log10 delta_l2 of every hidden layer, theory's prediction) of one random network."""
    rng = np.random.default_rng(seed)
    build = residual_mlp if residual else mlp
    dropout = options.get("dropout", 0.0)
    net = build(
        N_IN,
        [width] * depth,
        N_OUT,
        activation,
        initializer=initializer,
        seed=seed,
        dtype="float64",
        **options,
    )
    net.bind(batch, np.random.default_rng(seed))
    net.cost(rng.standard_normal((batch, N_IN)), rng.integers(0, N_OUT, batch))
    net.backward()
    deltas = [b.dx for a, b in itertools.pairwise(net.blocks) if a.kind in ("dense", "residual")]
    normalization = options.get("normalization", "none")
    z = net.dense[0].y
    q1 = float(z.var(axis=0).mean() if normalization == "batch" else np.mean(z**2))
    fans = (N_IN, *[width] * depth, N_OUT)
    net_in_theory = Architecture(
        ACTIVATIONS[activation](),
        fans,
        weight_stds(fans, initializer.weight_std),
        bias_std=initializer.bias_std,
        keep_prob=1 - dropout,
        normalization=normalization,
        residual=residual,
        batch_size=batch,
        orthogonal=initializer.name == "orthogonal",
    )
    logs = np.array([math.log10(math.sqrt(np.sum(d**2))) for d in deltas])
    return logs - logs[-1], predict(net_in_theory, q1, ends=network_ends(net))


CASES = {
    "relu": ("relu", "he_normal", {}, {}),
    "relu gain 2": ("relu", "he_normal", {"gain": 2.0}, {}),
    "sigmoid": ("sigmoid", "xavier_normal", {}, {}),
    "tanh biased": ("tanh", "lecun_normal", {"sigma_w": 1.5, "bias_std": 0.3}, {}),
    "tanh orthogonal": ("tanh", "orthogonal", {}, {}),
    "relu dropout": ("relu", "he_normal", {}, {"dropout": 0.3}),
    "relu layer": ("relu", "he_normal", {}, {"normalization": "layer"}),
    "tanh rms": ("tanh", "lecun_normal", {}, {"normalization": "rms"}),
    "relu batch": ("relu", "he_normal", {}, {"normalization": "batch"}),
    "relu residual": ("relu", "he_normal", {}, {"residual": True}),
    "tanh residual": ("tanh", "lecun_normal", {}, {"residual": True}),
    "relu residual layer": ("relu", "he_normal", {}, {"residual": True, "normalization": "layer"}),
    "relu residual batch": ("relu", "he_normal", {}, {"residual": True, "normalization": "batch"}),
}


@pytest.mark.parametrize("case", CASES)
def test_measured_factor_and_band(case):
    activation, name, settings, options = CASES[case]
    initializer = INITIALIZERS[name](**settings)
    slopes, predicted, inside = [], [], []
    for seed in range(12):
        logs, p = measure(activation, initializer, 16, 100, seed, **options)
        assert p.reason is None and p.slope is not None
        slopes.append(backward_slope(logs))
        predicted.append(p.slope)
        inside.append(p.slope_low <= slopes[-1] <= p.slope_high)
    assert 10 ** np.mean(slopes) == pytest.approx(10 ** np.mean(predicted), rel=0.02)
    assert np.mean(inside) >= 0.75  # nominally 0.95; twelve nets at 0.95 fall below this once in 450


@pytest.mark.slow
def test_deep_batch_normalized_relu_explodes_as_pi_over_pi_minus_1():
    _, p = measure("relu", INITIALIZERS["he_normal"](), 50, 200, 0, batch=256, normalization="batch")
    slopes = [
        backward_slope(measure("relu", INITIALIZERS["he_normal"](), 50, 200, seed, batch=256, normalization="batch")[0])
        for seed in range(2)
    ]
    assert 10 ** np.mean(slopes) == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), rel=0.03)
    assert p.factor == pytest.approx(10 ** np.mean(slopes), rel=0.015)
    assert p.verdict == "exploding"


def test_batch_moments_tend_to_the_gaussian_ones():
    spread, slope = batch_factors(ReLU(), 10**6)
    assert slope / spread == pytest.approx(math.pi / (math.pi - 1), rel=1e-5)
    assert spread == pytest.approx((1 - 1 / math.pi) / 2, rel=1e-5)


def test_batch_moments_agree_with_points_drawn_on_the_sphere():
    z = np.random.default_rng(0).standard_normal((400_000, 12))
    z -= z.mean(axis=1, keepdims=True)
    x = z / z.std(axis=1, keepdims=True)
    m, a = batch_moments(Tanh(), 12), np.tanh(x)
    assert m.A == pytest.approx(np.mean(a**2), rel=3e-3)
    assert m.A_pair == pytest.approx(np.mean(a[:, 0] * a[:, 1]), abs=3e-3)
    assert m.D == pytest.approx(np.mean((1 - a**2) ** 2), rel=3e-3)
    assert m.M == pytest.approx(np.mean((x * (1 - a**2)) ** 2), rel=3e-3)


def test_deep_layers_have_the_factor_sqrt_chi_1():
    net = Architecture(Tanh(), (500,) * 62, (1.5 / math.sqrt(500),) * 61, bias_std=0.2)
    p, limit = predict(net, 2.0, band=False), mean_field(Tanh(), 1.5, 0.2)
    step = p.log10_delta[40] - p.log10_delta[41]
    assert 10**step == pytest.approx(math.sqrt(limit.chi_1), rel=1e-9)
    assert p.q[-1] == pytest.approx(limit.q_star, rel=1e-9)


def test_profile_starts_at_the_measured_variance():
    net = Architecture(Tanh(), (50,) * 12, (2 / math.sqrt(50),) * 11)
    assert predict(net, 0.01).q[0] == 0.01
    assert predict(net, 0.01).slope != predict(net, 5.0).slope


def test_widths_that_differ_enter_through_both_fans():
    # linear: E ||delta_l||**2 = n_l std**2 E ||delta_(l+1)||**2 with std**2 = 2 / (n_l + n_(l+1))
    fans = (30, 400, 100, 50, 10)
    std = weight_stds(fans, INITIALIZERS["xavier_normal"]().weight_std)
    p = predict(Architecture(ACTIVATIONS["linear"](), fans, std), 1.0, band=False)
    assert p.log10_delta[1] == pytest.approx(0.5 * math.log10(100 * 2 / 150))
    assert p.log10_delta[0] == pytest.approx(0.5 * math.log10(100 * 2 / 150 * 400 * 2 / 500))


def test_narrow_nets_have_wide_bands():
    give = {}
    for n in (20, 2000):
        p = predict(Architecture(ReLU(), (n,) * 12, (math.sqrt(2 / n),) * 11), 2.0)
        assert p.slope_low < p.slope < p.slope_high
        give[n] = p.slope_high - p.slope_low
    assert give[20] > 5 * give[2000]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weight_std": None}, "drawn at random"),
        ({"weight_std": (0.0, 0.0, 0.0)}, "zero"),
        ({"normalization": "batch", "batch_size": 4}, "fewer than 8"),
        (
            {"normalization": "batch", "batch_size": 3},
            "over 3 samples leaves little of the gradient but its float32 rounding",
        ),
    ],
)
def test_where_theory_has_no_answer_it_says_so(changes, reason):
    settings = {"fans": (5, 5, 5, 5), "weight_std": (0.4, 0.4, 0.4)} | changes
    p = predict(Architecture(Tanh(), **settings), 1.0)
    assert p.slope is None and p.factor is None and p.log10_delta == ()
    assert reason in (p.reason or "") and p.verdict == "undetermined"


def test_a_signal_out_of_range_is_a_reason_and_no_overflow():
    net = Architecture(ReLU(), (10,) * 600, (1e3,) * 599)
    assert "range" in (predict(net, 1.0).reason or "")


def test_verdict_takes_a_decade_between_first_and_last():
    assert slope_verdict(0.051, 21) == "exploding" and slope_verdict(0.049, 21) == "healthy"
    assert slope_verdict(-0.051, 21) == "vanishing" and slope_verdict(-5.0, 2) == "vanishing"
    assert slope_verdict(-5.0, 1) == "undetermined"


def test_slope_is_signed_backward():
    assert backward_slope([-3.0, -2.0, -1.0, 0.0]) == pytest.approx(-1)
    noise = np.random.default_rng(0).standard_normal(9)
    assert backward_slope(noise) == pytest.approx(-np.polyfit(np.arange(9), noise, 1)[0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["tanh", "relu", "gelu", "softplus"])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e8, 1e30])
def test_every_scale_has_an_answer_or_a_reason(name, scale):
    function, start = ACTIVATIONS[name](), time.perf_counter()
    for sigma_w, sigma_b in ((scale, 0.0), (1.0, scale)):
        net = Architecture(function, (100,) * 7, (sigma_w / 10,) * 6, bias_std=sigma_b)
        predicted = predict(net, sigma_w**2 + sigma_b**2)
        assert predicted.reason or math.isfinite(predicted.slope_high - predicted.slope_low)
        assert mean_field(function, sigma_w, sigma_b).limit in ("fixed", "any", "vanishes", "diverges")
    assert time.perf_counter() - start < 20  # gelu and softplus at 1e30 took minutes


def test_a_scale_whose_square_is_no_number_has_no_prediction():
    for net in (
        Architecture(Tanh(), (10,) * 6, (1e200,) * 5),
        Architecture(Tanh(), (10,) * 6, (0.1,) * 5, bias_std=1e200),
    ):
        assert predict(net, 1.0).reason == "the length of the signal leaves the range of numbers"
    with pytest.raises(ValueError, match="sigma_w must be"):
        mean_field(Tanh(), 1e200)


def test_where_phi_is_a_line_or_two_its_moments_are_those_of_any_length():
    """The band's moments at a small and a large variance, against the same integrals done there."""
    function, c = ACTIVATIONS["gelu"](), 0.6
    for q in (1e-16, 1e10):
        assert astuple(moments(function, q, c)) == pytest.approx(astuple(_moments(function, q, c)), rel=0.01)


def test_saturated_layers_have_no_prediction_instead_of_an_absurd_one():
    """tanh at q = 1e18: of 100 units less than one is off saturation, and a gamma variable no model of their mean."""
    p = predict(Architecture(Tanh(), (3, *[100] * 20, 2), (2.5, *[0.25] * 20)), 1e18)
    assert p.slope is None and p.reason == "less than one unit of layer_01 carries delta: what passes is chance"
    assert predict(Architecture(Tanh(), (3, *[100] * 20, 2), (2.5, *[0.25] * 20)), 1e2).slope is not None


def test_shortcuts_beyond_the_range_of_squares_have_a_line():
    """A leaky ReLU's tables do not depend on the length; E[phi'**2]**2 in its units would overflow."""
    net = Architecture(ACTIVATIONS["leaky_relu"](), (20,) * 6, (1.0,) * 5, residual=True)
    assert predict(net, 1e167).slope == pytest.approx(predict(net, 1.0).slope)


def test_the_sine_of_long_signals_is_answered_but_not_with_shortcuts():
    """Phases are uniform: ||delta||**2 grows by sigma_w**2 / 2 a layer, at any variance."""
    net = Architecture(ACTIVATIONS["sin"](), (400,) * 8, (1.0,) * 7)
    p = predict(net, 1e6)
    assert p.factor == pytest.approx(math.sqrt(200), rel=0.01) and not p.caveat
    assert "oscillates" in predict(replace(net, residual=True), 1e6).caveat


@pytest.mark.parametrize(("n_out", "factor"), [(10, 1.0082), (64, 1.0296), (256, 1.0479)])
def test_delta_that_squared_error_sends_back_along_z_grows_as_measured(n_out, factor):
    """Linear, 20 layers of 256: half of delta = z - t lies along z, kappa = n_out / 2. Measured to 0.0018."""
    net = Architecture(ACTIVATIONS["linear"](), (256, *[256] * 20, n_out), (1 / 16,) * 21)
    assert predict(net, 1.0, ends=Ends(kappa=n_out / 2)).factor == pytest.approx(factor, abs=0.004)
    assert predict(net, 1.0, ends=Ends(kappa=1.0)).factor == pytest.approx(1.0, abs=0.004)
    assert ("along z" in predict(net, 1.0, ends=Ends(kappa=n_out / 2)).caveat) == (n_out > 51.2)


def test_kappa_of_a_rectifier_is_conserved_through_its_layers():
    """By Euler's theorem z . delta is the same in every layer of a ReLU net: the part along z does not shrink."""
    rng = np.random.default_rng(0)
    net = mlp(30, [40] * 6, 5, "relu", dtype="float64", loss="mean_squared_error", seed=1).bind(4)
    net.cost(rng.standard_normal((4, 30)), rng.standard_normal((4, 5)))
    net.backward()
    products = [
        np.sum(d.y * after.dx, axis=1) for d, after in itertools.pairwise([*net.blocks, net.loss]) if d in net.dense
    ]
    assert np.allclose(products, products[-1], rtol=1e-10)


def test_theory_keeps_z_delta_through_the_layers_of_a_rectifier():
    """What a layer's part along z adds to ||delta||**2, 2 (kappa - 1) / n by AD = 2, it takes from kappa below."""
    n, L, kappa = 40, 8, 6.0
    fans = (30, *[n] * L, 5)
    net = Architecture(ReLU(), fans, weight_stds(fans, INITIALIZERS["he_normal"]().weight_std))
    found = finite_width(net, [1.0] * L, [step(net, layer, 1.0) for layer in range(L - 1)], Ends(kappa=kappa))
    grown = np.exp([noise.mean_shift for noise in found.noise[:-1]])  # of ||delta||**2, beyond the line
    assert 1 + (grown[-1] - 1) * n / 2 == pytest.approx(kappa / (1 + 2 * (kappa - 1) / n), rel=1e-6)
    kappas = 1 + (grown - 1) * n / 2
    assert np.allclose(kappas[:-1] * grown[1:], kappas[1:], rtol=1e-6) and np.all(kappas > 1)


def test_few_directions_under_batch_normalization_are_rough():
    net = Architecture(ReLU(), (2, *[50] * 8, 2), (1.0, *[0.2] * 8), normalization="batch")
    assert "spans only 1.9 directions" in predict(net, 1.0, ends=Ends(rank=1.9)).caveat
    assert predict(net, 1.0, ends=Ends(rank=12.0)).caveat == ""


def test_funnels_of_either_kind_are_not_rough():
    for hidden in ([512, 256, 128, 64, 32], [32, 64, 128, 256, 512]):
        fans = (100, *hidden, 10)
        net = Architecture(ReLU(), fans, weight_stds(fans, INITIALIZERS["he_normal"]().weight_std))
        assert predict(net, 2.0, ends=Ends(kappa=1.7)).caveat == ""


def test_a_known_part_along_z_takes_as_much_from_chance_as_it_would_add():
    """One sample of a ReLU net, delta random: its layers are independent, kappa is chi-squared with variance 2.

    A layer gains 2 kappa / n, which two layers share: 8 / n**2, that their covariance at a known kappa takes back:
    -10 / n**2 for delta that has grown by chance (variance 5 / n), 2 / n**2 for z that has (Hanin & Nica 2020).
    """
    n, L = 10_000, 6
    net = Architecture(ReLU(), (n,) * (L + 2), (math.sqrt(2 / n),) * (L + 1), batch_size=1)
    steps = [step(net, layer, 1.0) for layer in range(L - 1)]
    finite = finite_width(net, (1.0,) * L, steps, Ends(kappa=1.0))
    layers = np.diff(np.eye(L), axis=0)
    covariance = layers @ spread(finite.noise, finite.between).covariance @ layers.T * n * n
    assert np.diag(covariance, 1) == pytest.approx(-8, abs=0.05) and np.diag(covariance, 3) == pytest.approx(
        -8, abs=0.05
    )


def test_what_the_output_shows_moves_the_line_and_narrows_the_band():
    """A ReLU signal that has grown by chance has grown through more active units, and delta comes back through them."""
    n, L = 100, 10
    net = Architecture(ReLU(), (n,) * (L + 2), (math.sqrt(2 / n),) * (L + 1))
    blind, short, long = (predict(net, 1.0, ends=Ends(length=length)) for length in (None, 0.25, 1.0))
    assert short.slope < blind.slope < long.slope
    assert long.slope_high - long.slope_low < blind.slope_high - blind.slope_low


@pytest.mark.parametrize("name", ["linear", "relu", "tanh"])
def test_without_a_band_the_line_has_what_comes_back_along_z(name):
    """Squared error with many outputs, without the tables of pairs: the same growth, to what the noise's mean adds."""
    net = Architecture(ACTIVATIONS[name](), (256, *[256] * 20, 64), (1 / 16,) * 21)
    random, sent = (predict(net, 1.0, band=False, ends=Ends(kappa=kappa)) for kappa in (1.0, 8.0))
    whole = [predict(net, 1.0, ends=Ends(kappa=kappa)).slope for kappa in (1.0, 8.0)]
    assert sent.slope - random.slope == pytest.approx(whole[1] - whole[0], rel=0.08) and sent.slope > random.slope


def test_a_known_output_never_makes_an_absurd_line():
    """Narrow layers, where kappa and lengths far from the line leave the range of first-order terms."""
    for n, length, kappa in itertools.product((1, 2, 3), (1e-12, 0.5, 1e12), (0.0, 0.4, 30.0)):
        for residual in (False, True):
            net = Architecture(ReLU(), (n,) * 62, (math.sqrt(2 / n),) * 61, residual=residual)
            p = predict(net, 1.0, ends=Ends(kappa=kappa, length=length))
            assert p.slope is None or abs(p.slope) < 3, (n, length, kappa, residual)
