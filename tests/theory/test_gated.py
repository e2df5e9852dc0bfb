"""The gradient through time of cells with gates, where it has a closed form."""

import math

import numpy as np
import pytest

from bpx.theory.gated import gradient_through_time

STEPS, DRAWS = 12, 50


def constant(keep, to_gate, variance, source_is_h):
    ones, none = np.ones((STEPS, DRAWS)), np.zeros((1, STEPS, DRAWS))
    return gradient_through_time(keep * ones, ones, to_gate + none, none, np.array([variance]), source_is_h)


def test_without_a_gate_that_keeps_each_step_is_the_plain_recurrence():
    """|g| changes by sqrt(n var(W) E phi'**2)."""
    found = constant(0.0, 0.6, 1.7, True)
    np.testing.assert_allclose(found, (0.6 * np.sqrt(1.7)) ** np.arange(STEPS)[::-1])


def test_without_recurrent_weights_the_gate_alone_is_left():
    np.testing.assert_allclose(constant(0.9, 0.0, 1.0, False), 0.9 ** np.arange(STEPS)[::-1])


def test_the_same_weights_add_up_as_the_powers_of_a_random_matrix():
    """g_(t-1) = (k + d W^T) g_t with one Gaussian W: E |g_(T-m)|**2 -> sum_j (C(m, j) k**(m-j) d**j)**2.

    The powers of W give directions at right angles; with weights drawn anew it would be (k**2 + d**2)**m.
    """
    k, d, n = 0.8, 0.5, 500
    exact = [sum((math.comb(m, j) * k ** (m - j) * d**j) ** 2 for j in range(m + 1)) for m in range(STEPS)]
    found = constant(k, d, 1.0, False)[::-1]
    np.testing.assert_allclose(found, np.sqrt(exact))
    rng = np.random.default_rng(0)
    W, g = rng.standard_normal((n, n)) / math.sqrt(n), rng.standard_normal((n, 64)) / math.sqrt(n * 64)
    for expected in found:
        assert np.linalg.norm(g) == pytest.approx(expected, rel=0.1)
        g = k * g + d * W.T @ g
    assert (k * k + d * d) ** (STEPS - 1) < exact[-1] / 10
