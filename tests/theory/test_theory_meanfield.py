"""Fixed points, chi_1, depth scales and the edge of chaos, against published and simulated values."""

import math

import numpy as np
import pytest

from bpx.engine.activations import ACTIVATIONS, GELU, Linear, Sigmoid, Softplus, Tanh
from bpx.engine.rectifiers import ELU, SELU, LeakyReLU, ReLU
from bpx.theory import Ensemble, critical_sigma_w, mean_field, phase_diagram

ROOT5 = math.sqrt(0.05)


@pytest.mark.parametrize(
    ("function", "sigma_w", "sigma_b", "q", "q_digit", "chi", "chi_digit"),
    [
        (Sigmoid(), 1, 0, 0.26469, 1e-5, 0.05572, 1e-5),
        (Sigmoid(), math.sqrt(20), 0, 7.5483, 1e-4, 0.44797, 1e-5),
        (Sigmoid(), 20, 0, 188.5, 1e-1, 1.9307, 1e-4),
        (Tanh(), 1.32701, ROOT5, 0.57005, 1e-5, 1, 1e-5),
        (Tanh(), 5 / 3, 0, 1.1785, 1e-4, 1.2098, 1e-4),
        (Tanh(), 2, 0, 2.1215, 1e-4, 1.3627, 1e-4),
        (ELU(), 1.229251, 0.2, 1.107, 1e-3, 1, 1e-6),
        (SELU(), 1, 0, 1, 1e-12, 1.07157, 1e-5),
        (Softplus(), 1, 0, 0.8563, 1e-4, 0.28872, 1e-5),
    ],
)
def test_fixed_points_to_every_printed_digit(function, sigma_w, sigma_b, q, q_digit, chi, chi_digit):
    answer = mean_field(function, sigma_w, sigma_b)
    assert answer.limit == "fixed"
    assert abs(answer.q_star - q) <= q_digit / 2
    assert abs(answer.chi_1 - chi) <= chi_digit / 2


@pytest.mark.parametrize(
    ("function", "sigma_w"), [(Linear(), 1), (ReLU(), math.sqrt(2)), (LeakyReLU(0.2), math.sqrt(2 / 1.04))]
)
def test_any_length_is_a_fixed_point_of_a_critical_rectifier(function, sigma_w):
    answer = mean_field(function, sigma_w, start=3.7)
    assert (answer.limit, answer.q_star) == ("any", 3.7)
    assert answer.chi_1 == pytest.approx(1, abs=1e-12)


def test_lengths_vanish_and_diverge():
    answer = mean_field(ReLU(), 1)
    assert (answer.limit, answer.q_star) == ("vanishes", 0)
    assert answer.chi_1 == pytest.approx(0.5)
    assert mean_field(ReLU(), 2).limit == "diverges"
    assert mean_field(ReLU(), math.sqrt(2), 0.1).limit == "diverges"
    assert mean_field(Softplus(), math.sqrt(2)).limit == "diverges"
    assert mean_field(Tanh(), 1).limit == "vanishes"
    assert mean_field(Tanh(), 0, 0.5).q_star == pytest.approx(0.25)


def test_an_unstable_fixed_point_is_named_and_not_returned():
    below = mean_field(GELU(), 1.5, 0.1, start=0.5)
    above = mean_field(GELU(), 1.5, 0.1, start=5.0)
    unstable = Ensemble(GELU(), 1.5, 0.1).unstable_lengths()
    assert len(unstable) == 1 and 0.5 < unstable[0] < 5
    assert below.q_star < unstable[0] and above.limit == "diverges"
    assert f"{unstable[0]:.4g}" in below.note and "no net shows" in below.note
    assert mean_field(GELU(), 1.5, 0.1, start=unstable[0] * 1.01).limit == "diverges"


@pytest.mark.parametrize(
    ("name", "values"),
    [  # solved apart from this library, with scipy's quad and again with a trapezoid rule of 2e6 points
        ("tanh", (1.19340073, 1.30414584, 1.39558398)),
        ("softsign", (1.51286807, 1.72962862, 1.89749177)),
        ("elu", (1.17614847, 1.22925112, 1.26310785)),
    ],
)
def test_edge_of_chaos_agrees_with_independent_solutions(name, values):
    function = ACTIVATIONS[name]()
    assert critical_sigma_w(function) == pytest.approx(1, abs=1e-12)
    for sigma_b, value in zip((0.1, 0.2, 0.3), values, strict=True):
        sigma_w = critical_sigma_w(function, sigma_b)
        assert sigma_w == pytest.approx(value, abs=6e-9)
        assert mean_field(function, sigma_w, sigma_b).chi_1 == pytest.approx(1, abs=1e-9)


def test_rectifiers_are_critical_where_the_closed_form_says():
    assert critical_sigma_w(ReLU()) == pytest.approx(math.sqrt(2), rel=1e-14)
    assert critical_sigma_w(ReLU(), 0.3) == pytest.approx(math.sqrt(2), rel=1e-14)
    assert critical_sigma_w(LeakyReLU(0.2)) == pytest.approx(math.sqrt(2 / 1.04), rel=1e-14)
    assert critical_sigma_w(Sigmoid()) > 10


def test_dropout_scales_the_critical_sigma_w():
    for function in (Tanh(), ReLU()):
        assert critical_sigma_w(function, 0.2, 0.64) == pytest.approx(0.8 * critical_sigma_w(function, 0.2))
    answer = mean_field(Tanh(), critical_sigma_w(Tanh(), 0.2, 0.64), 0.2, keep_prob=0.64)
    assert answer.chi_1 == pytest.approx(1, abs=1e-9)


def test_where_no_net_is_critical_the_error_says_from_where_on_one_is():
    # Roberts, Yaida & Hanin 2022: GELU's half-stable point has sigma_b**2 = 0.1729
    with pytest.raises(ValueError, match=r"gelu has no critical .* at least 0\.416$"):
        critical_sigma_w(GELU(), 0.2)
    sigma_w = critical_sigma_w(GELU(), 0.42)
    assert sigma_w**2 == pytest.approx(1.983, abs=0.005)
    with pytest.raises(ValueError, match="softplus"):
        critical_sigma_w(Softplus(), 0.2)


def test_correlations_reach_the_fixed_point():
    net = Ensemble(Tanh(), 2.0, 0.3)
    answer = mean_field(Tanh(), 2.0, 0.3)
    c = 0.95
    for _ in range(200):
        c = net.correlation(c, answer.q_star)
    assert answer.c_star is not None and 0 < answer.c_star < 1
    assert c == pytest.approx(answer.c_star, abs=1e-9)


def test_xi_c_is_the_decay_of_the_distance_to_the_fixed_point():
    net, answer = Ensemble(Tanh(), 2.0, 0.3), mean_field(Tanh(), 2.0, 0.3)
    assert answer.c_star is not None and answer.xi_c is not None
    distance = [answer.c_star + 1e-4]
    distance.append(net.correlation(distance[0], answer.q_star))
    ratio = (distance[1] - answer.c_star) / 1e-4
    assert -1 / math.log(ratio) == pytest.approx(answer.xi_c, rel=1e-3)


def test_ordered_phase_forgets_at_chi_1_and_criticality_never():
    ordered = mean_field(Tanh(), 0.9, 0.2)
    assert ordered.c_star == 1 and ordered.xi_c == pytest.approx(-1 / math.log(ordered.chi_1), rel=1e-9)
    assert mean_field(Tanh(), critical_sigma_w(Tanh(), 0.2), 0.2).xi_c == pytest.approx(math.inf, abs=1e9)
    # Schoenholz et al. 2017: with dropout two samples never become equal
    assert (mean_field(Tanh(), 0.9, 0.2, keep_prob=0.9).c_star or 1) < 0.999


def test_xi_q_is_the_decay_of_the_length():
    net, answer = Ensemble(ELU(), 1.2, 0.2), mean_field(ELU(), 1.2, 0.2)
    ratio = (net.length(answer.q_star + 1e-5) - answer.q_star) / 1e-5
    assert answer.xi_q == pytest.approx(-1 / math.log(ratio), rel=1e-3)


def test_phase_diagram_agrees_with_the_fixed_points():
    across, up = np.linspace(0.2, 3.5, 12), np.linspace(0, 1, 7)
    for name in ("tanh", "relu", "gelu", "sigmoid"):
        diagram = phase_diagram(ACTIVATIONS[name](), across, up)
        assert diagram.chi_1.shape == (7, 12)
        for i, j in ((0, 3), (2, 5), (4, 1), (6, 11)):
            want = mean_field(ACTIVATIONS[name](), across[j], up[i]).chi_1
            assert diagram.chi_1[i, j] == pytest.approx(want, rel=1e-3)


def test_the_edge_in_the_diagram_is_the_critical_sigma_w():
    diagram = phase_diagram(Tanh(), np.linspace(0.1, 3, 5), np.linspace(0, 1, 5))
    assert diagram.stable.all()
    for sigma_b in (0.1, 0.3, 0.9):
        sigma_w = np.interp(sigma_b, diagram.edge[1], diagram.edge[0])
        assert sigma_w == pytest.approx(critical_sigma_w(Tanh(), sigma_b), abs=1e-3)
    sigmoid = phase_diagram(Sigmoid(), np.linspace(0.1, 13, 5), np.linspace(0, 1, 5))  # crosses within one cell
    for sigma_b in (0.0, 0.5, 1.0):
        sigma_w = np.interp(sigma_b, sigmoid.edge[1], sigmoid.edge[0])
        assert sigma_w == pytest.approx(critical_sigma_w(Sigmoid(), sigma_b), rel=1e-4)
    gelu = phase_diagram(GELU(), np.linspace(0.1, 3, 5), np.linspace(0, 1, 5))
    assert not gelu.stable[gelu.edge[1] < 0.4].any() and gelu.stable[gelu.edge[1] > 0.43].all()


@pytest.mark.parametrize(("sigma_w", "sigma_b", "keep_prob"), [(-1, 0, 1), (1, -1, 1), (1, 0, 0), (math.nan, 0, 1)])
def test_what_is_no_ensemble_is_refused(sigma_w, sigma_b, keep_prob):
    with pytest.raises(ValueError, match=r"sigma|keep_prob"):
        mean_field(Tanh(), sigma_w, sigma_b, keep_prob=keep_prob)
