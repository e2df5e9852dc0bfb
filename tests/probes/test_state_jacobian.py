"""The Jacobian from a step's state to the last one."""

import numpy as np
import pytest

from bpx.engine import gru, lstm, rnn
from bpx.probes import PROBES, ProbeContext
from bpx.probes.through_time import recurrent_layers

STEPS, N = 6, 5


def measured(net, x):
    probe = PROBES["state_jacobian"](ProbeContext(net.bind(len(x)), samples=x))
    probe.on_gradient(0)
    return probe, probe.values.reshape(-1, N) if probe.keys else None


@pytest.fixture
def x(rng):
    return rng.standard_normal((3, STEPS, 4))


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.5])
def test_of_a_linear_orthogonal_net_all_are_the_gain_to_the_power_of_the_steps(gain, x):
    net = rnn((STEPS, 4), [N], 3, "linear", recurrent="orthogonal", recurrent_scale=gain, dtype="float64")
    _, found = measured(net, x)
    powers = gain ** np.arange(STEPS - 1, 0, -1.0)
    np.testing.assert_allclose(found, np.repeat(powers[:, None], N, axis=1), rtol=1e-10)


@pytest.mark.parametrize("model", [rnn, lstm, gru])
def test_singular_values_of_differences(model, x):
    """h_t moved by a small amount, the steps behind it run again from there."""
    net = model((STEPS, 4), [N], 3, dtype="float64", learn_start=True).bind(3)
    _, found = measured(net, x)
    net.bind(3).forward(x, train=False)
    cell, t, e = recurrent_layers(net)[-1], 2, 1e-6
    rest = model((STEPS - t, 4), [N], 3, dtype="float64", learn_start=True).bind(1)
    rest.load_state_dict(net.state_dict())
    behind = recurrent_layers(rest)[-1]
    if hasattr(behind, "c0"):
        behind.c0.value[...] = cell.c[t, 0]
    columns = []
    for k in range(N):
        ends = []
        for sign in (1, -1):
            behind.h0.value[...] = cell.y[0, t - 1]
            behind.h0.value[k] += sign * e
            rest.forward(x[:1, t:], train=False)
            ends.append(behind.y[0, -1].copy())
        columns.append((ends[0] - ends[1]) / (2 * e))
    np.testing.assert_allclose(found[t - 1], np.linalg.svd(np.array(columns), compute_uv=False), rtol=1e-6, atol=1e-9)


def test_what_is_large_is_left_out(x):
    probe, _ = measured(rnn((STEPS, 4), [65], 3), x.astype("f"))
    assert probe.keys == () and "6 steps of 65 units" in probe.left_out
