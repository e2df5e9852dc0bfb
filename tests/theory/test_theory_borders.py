"""What zeros around an image take away, beside an eigenvalue in closed form and drawn networks."""

import math

import numpy as np
import pytest

from bpx.diagnosis.architecture import architecture, network_ends
from bpx.engine.convolution import Convolution
from bpx.engine.models import plain_conv, residual_conv
from bpx.engine.pooling import MeanPositions
from bpx.theory.borders import shares_inside


@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 5), (16, 4)])
def test_many_convolutions_come_to_the_largest_eigenvalue(height, width):
    axes = [np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1 for n in (height, width)]
    forward, backward = shares_inside([tuple(a / 3 for a in axes)] * 400)
    exact = math.prod((1 + 2 * math.cos(math.pi / (n + 1))) / 3 for n in (height, width))
    assert forward[-1] == pytest.approx(exact, rel=1e-6) and backward[0] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("make", [plain_conv, residual_conv])
def test_drawn_networks_lose_what_is_predicted(make):
    depth, found = 8, []
    for seed in range(60):
        net = make((5, 5, 2), [24] * depth, 3, "linear", initializer="lecun_normal", seed=seed, dtype="float64").bind(4)
        rng = np.random.default_rng(seed)
        net.forward(rng.standard_normal((4, 5, 5, 2)), train=True)
        net.backward_from(rng.standard_normal((4, 3)))
        mixing = [
            i for i, block in enumerate(net.blocks[:-1]) if any(isinstance(b, Convolution) for b in block.layers())
        ]
        z = [np.mean(net.blocks[i].y ** 2) for i in mixing]
        delta = [np.mean(net.blocks[i + 1].dx ** 2) for i in mixing]
        found.append([z[0], z[-1], delta[0], delta[-1]])
    first, last, back, start = np.mean(found, axis=0)
    beside = 1.0 if make is residual_conv else 0.0
    forward, backward = architecture(net, 4).inside
    assert last / first == pytest.approx(math.prod(beside + share for share in forward), rel=0.12)
    assert back / start == pytest.approx(math.prod(beside + share for share in backward), rel=0.12)
    assert math.prod(beside + share for share in forward) < 0.6 * math.prod(beside + 1.0 for _ in forward)


@pytest.mark.parametrize("make", [plain_conv, residual_conv])
def test_the_last_length_is_that_before_the_mean_over_the_pixels(make, rng):
    net = make((5, 5, 1), [6] * 3, 3, dtype="float64", seed=0).bind(4)
    net.cost(rng.standard_normal((4, 25)), np.array([0, 1, 2, 0]))
    net.backward()
    (a,) = (layer.x for layer in net.layers() if isinstance(layer, MeanPositions))
    assert network_ends(net).length == pytest.approx(np.mean(a * a))
    assert network_ends(net).length > 1.2 * np.mean(net.dense[-1].x ** 2)


def convolves(layer):
    return isinstance(layer, Convolution)


def test_a_stride_and_no_padding_are_counted(rng):
    net = plain_conv((7, 7, 1), [4, 4], 2, kernel=3, stride=2)
    rows, columns = net.dense[0].overlaps()
    assert rows.shape == columns.shape == (4, 7)
    np.testing.assert_allclose(rows.sum(axis=1) * 3, [2, 3, 3, 2])
