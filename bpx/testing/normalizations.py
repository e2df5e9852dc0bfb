"""The check of a normalization layer."""

from __future__ import annotations

import copy

import numpy as np

from bpx.engine.activation import Activation
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.arrays import Array
from bpx.engine.dense import Dense
from bpx.engine.gradcheck import gradcheck
from bpx.engine.initializers import INITIALIZERS
from bpx.engine.losses import SoftmaxCrossEntropy
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.testing.expect import DTYPES, expect, expect_named, expect_same_state

ROWS, SHORT, N_IN, WIDTH, N_OUT = 12, 7, 4, 5, 3


def check_normalization(norm: Normalization) -> None:
    """Check a normalization layer.

    Its gradient by differences, in training and in evaluation, on whole and short batches; that forward and backward
    write only into buffers of their own, of the network's dtype; that evaluation takes each row by itself; that
    parameters and running statistics are all that a saved model needs; ``method`` and a docstring.

    Parameters
    ----------
    norm : Normalization
        Not yet built, with the parameters with which it is used.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = expect_named(type(norm), "method")
    expect(isinstance(getattr(norm, "has_shift", None), bool), f"{name}.has_shift must be True or False")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((ROWS, N_IN)), rng.integers(0, N_OUT, ROWS)
    net = _network(norm, "float64")
    for rows, train in ((ROWS, True), (SHORT, True), (ROWS, False)):
        check = gradcheck(net, x[:rows], y[:rows], train=train)
        wrong = next((layer.name for layer in check.layers if not layer.passed), check.worst.name)
        mode = "training" if train else "evaluation"
        expect(check.passed, f"{name}: {wrong} is off by {check.relative:.1e} in {mode}, a batch of {rows}")
    for dtype in DTYPES:
        _check_buffers(name, _network(norm, dtype.name), x.astype(dtype), y)
        _check_evaluation(name, norm, _network(norm, dtype.name), x.astype(dtype), y)


def _network(norm: Normalization, dtype: str) -> Network:
    bias = not norm.has_shift
    blocks = [Dense(WIDTH, bias), copy.deepcopy(norm), Activation(ACTIVATIONS["tanh"]()), Dense(N_OUT)]
    net = Network(N_IN, blocks, SoftmaxCrossEntropy(), dtype)
    net.initialize(INITIALIZERS["lecun_normal"](), np.random.default_rng(1))
    return net.bind(ROWS)


def _check_buffers(name: str, net: Network, x: Array, y: Array) -> None:
    net.cost(x, y)
    net.backward()
    norm, theta, rng = net.blocks[1], net.parameters.theta.copy(), np.random.default_rng(2)
    z, dy = rng.standard_normal((2, ROWS, WIDTH)).astype(net.dtype)
    kept_z, kept_dy = z.copy(), dy.copy()
    out = norm.forward(z, train=True)
    kept = out.copy()
    norm.backward(dy)
    for what, array in (("y", norm.y), ("dx", norm.dx)):
        expect(array.shape == (ROWS, WIDTH), f"{name}.{what} must be {(ROWS, WIDTH)}, got {array.shape}")
        expect(array.dtype == net.dtype, f"{name}.{what} must be {net.dtype}, got {array.dtype}")
    pairs = ((z, kept_z), (dy, kept_dy), (out, kept), (net.parameters.theta, theta))
    untouched = all(np.array_equal(a, b) for a, b in pairs)
    expect(untouched, f"{name} must not write into its input, dy, its output in backward, or the parameters")


def _check_evaluation(name: str, norm: Normalization, net: Network, x: Array, y: Array) -> None:
    for _ in range(3):
        net.cost(x, y)
    together = net.forward(x, train=False).copy()
    alone = np.concatenate([net.forward(x[i : i + 1], train=False).copy() for i in range(len(x))])
    close = 1e-4 if net.dtype == np.float32 else 1e-10
    expect(np.allclose(together, alone, close, close), f"{name}: evaluation must not depend on the batch's other rows")
    other = _network(norm, net.dtype.name)
    other.load_state_dict(net.state_dict())
    expect_same_state(net.state_dict(), other.state_dict(), f"{name} changes its state when it is loaded")
    same = np.array_equal(other.forward(x, train=False), net.forward(x, train=False))
    expect(same, f"{name}.statistics must give all that evaluation needs beside the parameters")
