"""The check of an optimizer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bpx.engine.arrays import DType
from bpx.engine.models import mlp
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.testing.expect import DTYPES, expect, expect_same_state

STEPS, LATER = 3, 60  # steps until the state is taken, and until the cost has to be lower


def check_optimizer(build: Callable[..., Optimizer], lr: float = 0.01) -> None:
    """Check an optimizer.

    That ``propose`` leaves theta as it is and ``apply`` makes the step factor * u; that the state is of the network's
    dtype, float32 or float64, and a fresh optimizer that loads it continues bit for bit; that the cost of a small
    network falls; a docstring.

    Parameters
    ----------
    build : callable
        Builds a new Optimizer, given ``lr``: what the configuration's ``_target_`` names.
    lr : float
        A learning rate at which it learns.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = getattr(build, "__name__", type(build).__name__)
    expect(build.__doc__, f"{name} has no docstring")
    for dtype in DTYPES:
        net, optimizer = _network(dtype), build(lr=lr)
        expect(isinstance(optimizer, Optimizer), f"{name} must build an Optimizer, got {type(optimizer).__name__}")
        optimizer.bind(net.parameters)
        first = _cost(net)
        for _ in range(STEPS):
            _step(name, net, optimizer)
        _check_state(name, net, optimizer, build(lr=lr))
        for _ in range(LATER):
            _step(name, net, optimizer)
        expect(_cost(net) < first, f"{name} with lr={lr:g} does not lower the cost: {first:.4g}, then {_cost(net):.4g}")


def _network(dtype: DType) -> Network:
    return mlp(4, [6], 3, "tanh", dtype=dtype.name, seed=2).bind(20)


def _cost(net: Network) -> float:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 4)).astype(net.dtype), rng.integers(0, 3, 20)
    cost = net.cost(x, y)
    net.backward()
    return cost


def _step(name: str, net: Network, optimizer: Optimizer) -> None:
    _cost(net)
    theta = net.parameters.theta.copy()
    optimizer.propose()
    expect(np.array_equal(net.parameters.theta, theta), f"{name}: propose must leave theta as it is")
    expect(optimizer.u.dtype == net.dtype, f"{name}: the direction must be {net.dtype}, got {optimizer.u.dtype}")
    expected = theta + optimizer.factor * optimizer.u
    optimizer.apply()
    expect(np.allclose(net.parameters.theta, expected, rtol=1e-5, atol=1e-6), f"{name}: the step must be factor * u")


def _check_state(name: str, net: Network, optimizer: Optimizer, fresh: Optimizer) -> None:
    other, state = _network(net.dtype), optimizer.state_dict()
    for key, value in state.items():
        kept = not value.ndim or value.dtype == net.dtype
        expect(kept, f"{name}: state[{key!r}] must be {net.dtype}, got {value.dtype}")
    other.load_state_dict(net.state_dict())
    fresh.bind(other.parameters).load_state_dict(state)
    for each, chosen in ((net, optimizer), (other, fresh)):
        _step(name, each, chosen)
    same = np.array_equal(net.parameters.theta, other.parameters.theta)
    expect(same, f"{name}: state_fields must name all that the next step depends on")
    expect_same_state(optimizer.state_dict(), fresh.state_dict(), f"{name}: the state differs after a restored step")
