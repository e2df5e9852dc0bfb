"""The largest eigenvalue of the Hessian, and the limit of each optimizer, against dense references."""

import numpy as np
import pytest

from bpx.engine import OPTIMIZERS, mlp, plain_conv, residual_mlp, sgd
from bpx.probes import PROBES, ProbeContext
from bpx.probes.sharpness import MAX_PRODUCTS, largest_eigenvalue, products


def measured(net, optimizer, x, y, steps=1):
    """Train, and return the values by quantity at the last step, before it is made, and those of all steps."""
    optimizer.bind(net.parameters)
    probe, found = PROBES["sharpness"](ProbeContext(net, optimizer, x, y)), []
    for _ in range(steps):
        net.cost(x, y)
        net.backward()
        probe.on_gradient(0)
        optimizer.propose()
        probe.on_update(optimizer)
        found.append({key[2]: value for key, value in zip(probe.keys, probe.values.tolist(), strict=True)})
        optimizer.apply()
    return found


def dense_hessian(net, x, y, step=1e-5):
    replica = net.replica(len(x))
    replica.parameters.detach()
    theta = replica.parameters.theta

    def gradient(i, h):
        theta[i] += h
        replica.cost(x, y)
        replica.backward()
        theta[i] -= h
        return replica.parameters.grad.copy()

    H = np.array([(gradient(i, step) - gradient(i, -step)) / (2 * step) for i in range(theta.size)])
    return (H + H.T) / 2


@pytest.mark.parametrize("activation", ["tanh", "gelu", "sin"])
@pytest.mark.parametrize("model", [mlp, residual_mlp])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer"])
def test_lambda_max_is_that_of_the_dense_hessian(model, activation, normalization, rng):
    net = model(4, [6, 6], 3, activation, normalization=normalization, dtype="float64", seed=3).bind(20)
    x, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    largest = np.linalg.eigvalsh(dense_hessian(net, x, y))[-1]
    assert measured(net, sgd(0.3), x, y)[0] == {
        "lambda_max": pytest.approx(largest, rel=1e-4), "lr_lambda_max": pytest.approx(0.3 * largest, rel=1e-4),
        "stability_bound": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("lr", [0.1, 1.0, 3.0])
def test_lambda_max_begun_where_the_last_one_ended_is_that_of_the_dense_hessian(lr, rng):
    net = mlp(4, [6], 3, "tanh", dtype="float64", seed=3).bind(20)
    x, y, optimizer = rng.standard_normal((20, 4)), rng.integers(0, 3, 20), sgd(lr).bind(net.parameters)
    probe = PROBES["sharpness"](ProbeContext(net, optimizer, x, y))
    for step in range(40):
        net.cost(x, y)
        net.backward()
        if step % 4 == 0:
            probe.on_gradient(step)
            assert probe.values[0] == pytest.approx(np.linalg.eigvalsh(dense_hessian(net, x, y))[-1], rel=1e-4)
        optimizer.propose()
        optimizer.apply()


def test_lanczos_finds_the_largest_of_many_and_where_another_has_become_it(rng):
    n = 300
    vectors = np.linalg.qr(rng.standard_normal((n, n)))[0]
    spectrum = np.r_[9.0, 8.8, rng.uniform(-5, 5, n - 2)]
    start = rng.standard_normal(n)
    for swapped in (spectrum, np.r_[8.8, 9.1, spectrum[2:]], np.r_[0.0, 0.0, 7.0, spectrum[3:]], np.zeros(n)):
        calls = []

        def product(v, swapped=swapped, calls=calls):
            calls.append(1)
            return vectors @ (swapped * (vectors.T @ v))

        found, start = largest_eigenvalue(product, start)
        assert found == pytest.approx(swapped.max(), rel=1e-4)
    assert len(calls) == 1
    assert np.isnan(largest_eigenvalue(lambda v: v * np.inf, np.ones(3))[0])


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_adaptive_optimizers_have_that_of_the_preconditioned_hessian(name, rng):
    net = mlp(4, [6], 3, "tanh", dtype="float64", seed=3).bind(20)
    x, y, optimizer = rng.standard_normal((20, 4)), rng.integers(0, 3, 20), OPTIMIZERS[name](lr=0.01)
    got = measured(net, optimizer, x, y, steps=4)[-1]
    net = mlp(4, [6], 3, "tanh", dtype="float64", seed=3).bind(20)
    optimizer = OPTIMIZERS[name](lr=0.01).bind(net.parameters)
    for step in range(4):
        net.cost(x, y)
        net.backward()
        optimizer.propose()
        if step < 3:
            optimizer.apply()
    root = np.sqrt(optimizer.preconditioner())
    largest = np.linalg.eigvalsh(root[:, None] * dense_hessian(net, x, y) * root)[-1]
    assert got["lr_lambda_max"] == pytest.approx(0.01 * largest, rel=1e-4)
    assert got["stability_bound"] == pytest.approx(38 if name == "adam" else 2)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_a_quadratic_diverges_beyond_the_bound_and_not_below(name, rng):
    x, y = rng.standard_normal((30, 5)), rng.standard_normal((30, 1))
    largest = np.linalg.eigvalsh(np.c_[x, np.ones(30)].T @ np.c_[x, np.ones(30)] / 30)[-1]
    costs = {}
    for share in (0.98, 1.02):
        net = mlp(5, [], 1, loss="mean_squared_error", dtype="float64", seed=1).bind(30)
        bound = OPTIMIZERS[name](lr=1.0).stability_bound
        optimizer = OPTIMIZERS[name](lr=share * bound / largest)
        found = measured(net, optimizer, x, y, steps=1)[0]
        assert found["lambda_max"] == pytest.approx(largest, rel=1e-5)
        assert found["lr_lambda_max"] / found["stability_bound"] == pytest.approx(share, rel=1e-5)
        start = net.cost(x, y)
        for _ in range(3000):
            net.cost(x, y)
            net.backward()
            optimizer.propose()
            optimizer.apply()
        costs[share] = net.cost(x, y) / start
    assert costs[0.98] <= 1.5 and costs[1.02] > 1e3


def test_the_noise_scale_is_that_of_the_samples_gradients(rng):
    net = mlp(4, [6, 5], 3, "tanh", dtype="float64", seed=3).bind(40)
    x, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    net.cost(x, y)
    net.backward()
    probe = PROBES["signal_to_noise"](ProbeContext(net, None, x))
    probe.on_gradient(0)
    one, gradients = net.replica(1), []
    for i in range(40):
        one.cost(x[i : i + 1], y[i : i + 1])
        one.backward()
        gradients.append(one.parameters.grad[: one.parameters.n_weights].copy())
    trace = np.var(gradients, axis=0, ddof=1).sum()
    square = (np.mean(gradients, axis=0) ** 2).sum() - trace / 40
    expected = trace / square if square > 0 else np.nan
    assert probe.values[-1] == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_its_work_is_bounded_by_fewer_samples(rng):
    dense = mlp(6, [300, 300], 3, "relu").bind(4)
    assert products(dense) == dense.parameters.theta.size
    net = plain_conv((8, 8, 1), [20], 3, "relu").bind(4)
    assert products(net) > 64 * 9 * 20
    x, y = rng.standard_normal((3000, 6)), rng.integers(0, 3, 3000)
    assert len(PROBES["sharpness"](ProbeContext(dense, sgd(0.1), x, y)).x) == MAX_PRODUCTS // products(dense)
    large = plain_conv((64, 64, 1), [90, 90], 3, "relu")
    probe = PROBES["sharpness"](ProbeContext(large, sgd(0.1), np.zeros((8, 64, 64, 1)), np.zeros(8, int)))
    assert not probe.keys and "8 samples need more than" in probe.left_out
