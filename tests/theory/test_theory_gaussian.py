"""Gaussian expectations against an independent adaptive quadrature and closed forms."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.theory.gaussian import (
    dphi,
    expectation,
    pair_expectation,
    phi,
    resolved_pair,
    rule,
    second_moment,
    second_moment_slope,
    slope_moment,
)

SINE = ACTIVATIONS["sin"]()
BENDING = [name for name in ACTIVATIONS if name != "sin"]  # at last they bend no more; the sine does for ever


def adaptive(function, q, g):
    """E[g(phi, phi', z)] by scipy's quad, piece by piece between the points where something bends."""
    s = math.sqrt(q)
    bends = [0.0, *(k / s for k in function.kinks), *(i * 2.0**k / s for k in range(-2, 13) for i in (1, -1))]
    edges = sorted({-13.0, -6.0, -3.0, -1.0, 1.0, 3.0, 6.0, 13.0, *(b for b in bends if abs(b) < 13)})

    def integrand(z):
        u = np.array([s * z])
        value = g(phi(function, u)[0], dphi(function, u)[0], z)
        return value * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    return sum(quad(integrand, a, b, epsabs=1e-15, epsrel=1e-12)[0] for a, b in pairwise(edges))


@pytest.mark.parametrize("name", BENDING)
@pytest.mark.parametrize("q", [1e-12, 1e-3, 0.3, 1.0, 188.5, 1e6])
def test_moments_agree_with_adaptive_quadrature(name, q):
    function: ActivationFunction = ACTIVATIONS[name]()
    assert second_moment(function, q) == pytest.approx(adaptive(function, q, lambda a, d, z: a * a), rel=1e-10)
    assert slope_moment(function, q) == pytest.approx(adaptive(function, q, lambda a, d, z: d * d), rel=1e-10)
    want = adaptive(function, q, lambda a, d, z: a * d * z) / math.sqrt(q)
    assert second_moment_slope(function, q) == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_of_the_second_moment_is_its_derivative(name):
    function = ACTIVATIONS[name]()
    h = 1e-4
    difference = (second_moment(function, 0.7 + h) - second_moment(function, 0.7 - h)) / (2 * h)
    assert second_moment_slope(function, 0.7) == pytest.approx(difference, rel=1e-6)


def test_even_moments_of_the_normal_distribution():
    assert expectation(np.ones_like, 2.0) == pytest.approx(1, rel=1e-13)
    assert expectation(lambda u: u**2, 1e-12) == pytest.approx(1e-12, rel=1e-12)
    assert expectation(lambda u: u**8, 3.0) == pytest.approx(105 * 3**4, rel=1e-12)


@pytest.mark.parametrize("c", [-0.9, 0.0, 0.3, 0.999, 1 - 1e-8, 1.0])
@pytest.mark.parametrize("q", [1e-3, 1.0, 1e3])
def test_pairs_of_relus_have_the_arc_cosine_kernel(c, q):
    # Cho & Saul 2009, kernels of degree 1 and 0
    relu, theta = ACTIVATIONS["relu"](), math.acos(c)
    kernel = q / (2 * math.pi) * (math.sin(theta) + (math.pi - theta) * math.cos(theta))
    assert pair_expectation(lambda u: phi(relu, u), q, c, relu.kinks) == pytest.approx(kernel, rel=1e-10)
    kernel = (math.pi - theta) / (2 * math.pi)
    assert pair_expectation(lambda u: dphi(relu, u), q, c, relu.kinks) == pytest.approx(kernel, rel=1e-10)


def test_pair_at_correlation_one_half_agrees_with_a_double_quadrature():
    tanh = ACTIVATIONS["tanh"]()
    z, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    q, c = 0.8, 0.5
    second = np.tanh(math.sqrt(q) * (c * z[:, None] + math.sqrt(1 - c * c) * z))
    want = float((w * np.tanh(math.sqrt(q) * z)) @ second @ w)
    assert pair_expectation(lambda u: phi(tanh, u), q, c) == pytest.approx(want, rel=1e-9)


def test_a_negative_variance_is_refused():
    with pytest.raises(ValueError, match="variance"):
        expectation(np.ones_like, -1.0)


@pytest.mark.parametrize("q", [1e-12, 1e-3, 0.3, 1.0, 10.0, 100.0, 1e4, 1e30])
def test_moments_of_the_sine_have_their_closed_form(q):
    """E sin(u)**2 = (1 - exp(-2 q)) / 2, E cos(u)**2 = (1 + exp(-2 q)) / 2."""
    assert second_moment(SINE, q) == pytest.approx(-math.expm1(-2 * q) / 2, rel=1e-10)
    assert slope_moment(SINE, q) == pytest.approx((1 + math.exp(-2 * q)) / 2, rel=1e-10)


@pytest.mark.parametrize(("q", "c"), [(20.0, 0.9), (500.0, 0.999), (1e6, 1 - 1e-7), (1e6, 0.5)])
def test_pairs_of_sines_have_their_closed_form(q, c):
    """E sin(u1) sin(u2) = (exp(-q (1 - c)) - exp(-q (1 + c))) / 2."""
    at = resolved_pair(SINE, q, c)
    want = (math.exp(-q * (1 - c)) - math.exp(-q * (1 + c))) / 2
    assert pair_expectation(lambda u: phi(SINE, u), *at) == pytest.approx(want, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("name", BENDING)
def test_a_variance_beyond_every_bend_costs_no_more_and_is_its_limit(name):
    function = ACTIVATIONS[name]()
    assert len(rule(1e120)[0]) == len(rule(1e30)[0])
    near, far = (slope_moment(function, q) for q in (1e20, 1e60))
    saturates = near < 1e-3
    assert far == pytest.approx(near * (1e-20 if saturates else 1), rel=1e-9)
    near, far = (second_moment(function, q) for q in (1e20, 1e60))
    assert far == pytest.approx(near * (1 if saturates else 1e40), rel=1e-7)
