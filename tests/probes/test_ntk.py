"""The neural tangent kernel against differences of the outputs, and against jax."""

import numpy as np
import pytest

from bpx.engine import convnet, lstm, mlp, residual_mlp, rnn, sgd, transformer
from bpx.probes import PROBES, ProbeContext
from bpx.probes.ntk import MAX_PASSES, MAX_SAMPLES, tangent_kernel


def by_differences(net, x, step=1e-6):
    """Return 1/n_out sum_k J_k J_k^T, the gradients of the outputs by central differences."""
    replica = ProbeContext(net).replica(len(x))
    replica.parameters.detach()
    theta, J = replica.parameters.theta, []
    for i in range(theta.size):
        theta[i] += step
        above = replica.forward(x, train=True).copy()
        theta[i] -= 2 * step
        J.append((above - replica.forward(x, train=True)) / (2 * step))
        theta[i] += step
    J = np.array(J)  # (parameters, samples, outputs)
    return np.einsum("pik,pjk->ij", J, J) / J.shape[-1]


@pytest.mark.parametrize(
    "net",
    [
        mlp(4, [5, 6], 3, "tanh", dtype="float64", seed=1),
        mlp(4, [5], 3, "gelu", normalization="layer", dropout=0.2, dtype="float64", seed=1),
        residual_mlp(4, [5, 5], 2, "tanh", dtype="float64", seed=1),
        residual_mlp(4, [5, 5], 2, "tanh", branch_scale="zero", dtype="float64", seed=1),
    ],
    ids=["mlp", "layer_norm", "residual", "scale"],
)
def test_the_kernel_is_that_of_differences(net, rng):
    x = rng.standard_normal((9, 4))
    net.bind(9)
    probe = PROBES["ntk"](ProbeContext(net, None, x))
    probe.on_gradient(0)
    expected = by_differences(net, x)
    np.testing.assert_allclose(probe.start, expected, rtol=1e-6, atol=1e-8)
    eigenvalues = np.linalg.eigvalsh(expected)[::-1]
    np.testing.assert_allclose(probe.values[:9], eigenvalues, rtol=1e-5, atol=1e-7)
    assert probe.values[-2] == pytest.approx(eigenvalues[0] / eigenvalues[-1], rel=1e-3) and probe.values[-1] == 0


@pytest.mark.parametrize(
    "net",
    [
        convnet((8, 8, 1), [6], 3, "tanh", channels=[2], kernel=3, dtype="float64", seed=1),
        rnn((5, 4), [6], 3, "tanh", dtype="float64", seed=1),
        lstm((5, 4), [6], 3, "tanh", dtype="float64", seed=1),
        transformer((5, 4), [4], 3, "gelu", heads=2, dtype="float64", seed=1),
        mlp(4, [5, 6], 3, "prelu", dtype="float64", seed=1),
    ],
    ids=["convnet", "rnn", "lstm", "transformer", "prelu"],
)
def test_other_parameters_take_the_way_of_single_samples(net, rng):
    x = rng.standard_normal((8, net.n_in))
    probe = PROBES["ntk"](ProbeContext(net.bind(8), None, x))
    probe.on_gradient(0)
    assert not probe.by_layer
    np.testing.assert_allclose(probe.start, by_differences(net, net.shaped(x)), rtol=1e-5, atol=1e-7)


def test_the_work_of_single_samples_is_bounded(rng):
    net = mlp(4, [5], 10, "prelu", seed=1).bind(8)
    probe = PROBES["ntk"](ProbeContext(net, None, rng.standard_normal((300, 4))))
    assert len(probe.x) == MAX_PASSES // 10


def test_the_kernel_is_that_of_jax(rng):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    net = mlp(6, [7, 8], 4, "tanh", dtype="float64", initializer={"name": "lecun_normal", "bias_std": 0.3}).bind(20)
    x = rng.standard_normal((20, 6))

    def outputs(tensors, x):
        for i, (W, b) in enumerate(tensors):
            x = x @ W + b
            x = jax.numpy.tanh(x) if i < 2 else x
        return x

    tensors = [(dense.W.value.copy(), dense.b.value.copy()) for dense in net.dense]
    parts = jax.tree_util.tree_leaves(jax.jacrev(outputs)(tensors, x))
    J = np.concatenate([np.asarray(part).reshape(20, 4, -1) for part in parts], axis=2)
    expected = np.einsum("ikp,jkp->ij", J, J) / 4
    for by_layer in (True, False):
        got = tangent_kernel(net.replica(20 if by_layer else 1), x, by_layer)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    eigenvalues = np.linalg.eigvalsh(expected)[::-1]
    probe = PROBES["ntk"](ProbeContext(net, None, x))
    probe.on_gradient(0)
    np.testing.assert_allclose(probe.values[:20], eigenvalues, rtol=1e-6)
    assert probe.values[20] == pytest.approx(eigenvalues[0] / eigenvalues[-1], rel=1e-6)


def test_it_changes_as_the_weights_do_and_less_in_a_wide_network(rng):
    x, y = rng.standard_normal((30, 5)), rng.integers(0, 3, 30)
    change = {}
    for width in (10, 1000):
        net = mlp(5, [width], 3, "tanh", dtype="float64", seed=1).bind(30)
        optimizer = sgd(0.1).bind(net.parameters)
        probe = PROBES["ntk"](ProbeContext(net, optimizer, x))
        for step in range(6):
            net.cost(x, y)
            net.backward()
            probe.on_gradient(step)
            optimizer.propose()
            optimizer.apply()
        change[width] = probe.values[-1]
    assert 0 < change[1000] < 0.5 * change[10]


def test_what_is_not_measured_is_said(rng):
    x = rng.standard_normal((300, 4))
    batch = PROBES["ntk"](ProbeContext(mlp(4, [5], 2, normalization="batch", seed=1).bind(8), None, x))
    assert "batch normalization" in batch.left_out and batch.keys == ()
    assert len(PROBES["ntk"](ProbeContext(mlp(4, [5], 2, seed=1).bind(8), None, x)).keys) == MAX_SAMPLES + 2
    few = PROBES["ntk"](ProbeContext(mlp(4, [5], 2, seed=1).bind(8), None, x[:1]))
    assert "1 samples too few" in few.left_out
