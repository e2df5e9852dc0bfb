"""What is measured of attention: entropy by head, gradients of queries, keys and values."""

import math

import numpy as np
import pytest

from bpx.engine import transformer
from bpx.engine.attention import Attention
from bpx.probes import PROBES, ProbeContext


def measured(rng, scale=1.0):
    net = transformer((5, 3), [8], 4, heads=2, dtype="float64").bind(6)
    (layer,) = (layer for layer in net.layers() if isinstance(layer, Attention))
    for dense in net.dense:
        if dense.n_out == 24:
            dense.W.value[:, :16] *= scale  # queries and keys
    net.cost(rng.standard_normal((6, 5, 3)), rng.integers(0, 4, 6))
    net.backward()
    probe = PROBES["attention"](ProbeContext(net))
    probe.on_gradient(0)
    return net, layer, {(key[2], key[3]): value for key, value in zip(probe.keys, probe.values, strict=True)}


def test_entropy_and_gradients_are_those_of_the_layer(rng):
    _, layer, values = measured(rng)
    for head in (1, 2):
        P = layer.P[:, head - 1]
        assert values["attention_entropy", head] == pytest.approx(-(P * np.log(P)).sum(-1).mean() / math.log(5))
    q, k, v = np.split(layer.dx * 6, 3, axis=2)
    for name, part in (("query_grad_l2", q), ("key_grad_l2", k), ("value_grad_l2", v)):
        assert values[name, 0] == pytest.approx(np.sqrt(np.mean(np.square(part).sum(axis=(1, 2)))))


def test_a_saturated_softmax_keeps_the_gradient_from_queries_and_keys(rng):
    even, saturated = measured(rng, 0.0)[2], measured(rng, 1e3)[2]
    assert even["attention_entropy", 1] == pytest.approx(1) and saturated["attention_entropy", 1] < 0.05
    assert saturated["query_grad_l2", 0] < 0.2 * saturated["value_grad_l2", 0]


def test_other_networks_have_nothing_to_measure(rng):
    net = transformer((1, 3), [8], 4, dtype="float64").bind(2)  # one token: its entropy is zero
    net.cost(rng.standard_normal((2, 1, 3)), np.array([0, 1]))
    net.backward()
    probe = PROBES["attention"](ProbeContext(net))
    probe.on_gradient(0)
    assert np.isfinite(probe.values).all() and probe.values[0] == 0
