"""Residual networks: where they normalize, what their branches are multiplied by, how many layers a branch has."""

import itertools
import math

import numpy as np
import pytest
from conftest import thinned

from bpx.diagnosis.architecture import predict_network
from bpx.diagnosis.observation import observe
from bpx.engine import Dense, Residual, Scale, gradcheck, residual_mlp
from bpx.engine.normalization import Normalization
from bpx.probes import ProbeContext, between_hidden
from bpx.probes.gains import Gains
from bpx.probes.probe import weight_layers

CHOICES = list(itertools.product(("pre", "post"), ("one", "inv_sqrt", "zero"), (1, 2)))


def network(position="pre", scale="one", each=1, normalization="layer", depth=5, seed=0, **kwargs):
    net = residual_mlp(
        6, [8] * depth, 4, "tanh", normalization=normalization, norm_position=position, branch_scale=scale,
        layers_per_branch=each, seed=seed, **{"dtype": "float64"} | kwargs,
    )  # fmt: skip
    return net.bind(16)


def batch(rows=16):
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 6)), rng.integers(0, 4, rows)


def open_branches(net, value=0.6):
    for p in net.parameters:
        if p.name.endswith(".alpha"):
            p.value.fill(value)


@pytest.mark.parametrize(("choice", "normalization"), thinned(CHOICES, ["batch", "layer", "rms"]))
def test_gradients(choice, normalization):
    position, scale, each = choice
    net = network(position, scale, each, normalization)
    open_branches(net)
    check = gradcheck(net, *batch(), entries=20)
    assert check.passed, check.worst


@pytest.mark.parametrize(("position", "scale", "each"), CHOICES)
def test_the_output_is_the_formula(position, scale, each):
    net = network(position, scale, each)
    open_branches(net)
    x, _ = batch()
    blocks = [block for block in net.blocks if isinstance(block, Residual)]
    alpha = {"one": 1.0, "inv_sqrt": 1 / math.sqrt(len(blocks)), "zero": 0.6}[scale]

    def norm(z):
        mean = z.mean(axis=1, keepdims=True)
        return (z - mean) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)

    z = x @ net.dense[0].W.value
    for block in blocks:
        y = z
        for dense in (layer for layer in block.branch if isinstance(layer, Dense)):
            y = np.tanh(norm(y) if position == "pre" else y) @ dense.W.value
        z = z + alpha * y if position == "pre" else norm(z + alpha * y)
    last = net.dense[-1]
    out = np.tanh(norm(z) if position == "pre" else z) @ last.W.value + last.b.value
    np.testing.assert_allclose(net.forward(x, train=True), out, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("position", "scale", "each"), CHOICES)
def test_delta_ends_where_the_differences_say(position, scale, each):
    """Delta of a Dense at the end of a branch is dJ/d(block output); of any other, dJ/dz."""
    net = network(position, scale, each, dtype="float64")
    open_branches(net)
    x, y = batch()
    net.cost(x, y)
    net.backward()
    for layer in weight_layers(net)[:-1]:
        b = layer.dense.b
        if b is not None:
            continue
        through = layer.dense.x.T @ np.asarray(layer.following.dx)
        np.testing.assert_allclose(layer.dense.W.grad, through, rtol=1e-9, atol=1e-14)
    ends = [layer.on_main_path for layer in weight_layers(net)]
    assert ends == ([True] * 6 if each == 1 else [True, False, True, False, True, True])


@pytest.mark.parametrize(("position", "scale", "each"), CHOICES)
def test_gains_add_up(position, scale, each):
    net = network(position, scale, each)
    net.cost(*batch())
    net.backward()
    probe = Gains(ProbeContext(net))
    probe.on_gradient(0)
    gain = {key[3]: g for key, g in zip(probe.keys, probe.values, strict=True) if key[2] == "backward_gain"}
    total = sum(math.log(gain[i]) for i in between_hidden(net))
    main = [layer for layer in weight_layers(net)[:-1] if layer.on_main_path]
    first, last = (float(np.linalg.norm(layer.next.dx)) for layer in (main[0], main[-1]))
    assert total == pytest.approx(math.log(first / last), abs=1e-9)
    assert len(set(probe.keys)) == len(probe.keys)


@pytest.mark.parametrize("each", [1, 2, 4])
def test_closed_branches_leave_the_identity(each):
    """SkipInit: at the start every block is the identity, delta neither grows nor shrinks, and only alpha learns."""
    net = network(scale="zero", each=each, normalization="none")
    net.cost(*batch())
    net.backward()
    line = observe(net).depth_slope
    assert line is not None and abs(line.slope) < 1e-12 and not line.zeros
    inside = {id(layer) for block in net.blocks for layer in block.branch}
    scales = [layer for layer in net.layers() if isinstance(layer, Scale)]
    assert len(scales) == 4 // each and all(abs(s.alpha.grad[0]) > 0 for s in scales)
    assert all(not d.W.grad.any() for d in net.dense if id(d) in inside)


@pytest.mark.parametrize(
    ("activation", "normalization", "scale"), thinned(["relu", "tanh"], ["none", "layer"], ["one", "inv_sqrt", "zero"])
)
def test_theory_follows_scaled_branches(activation, normalization, scale):
    """The mean slope of eight networks lies within 6 % of theory's, or 0.001."""
    measured, expected = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        net = residual_mlp(
            64, [100] * 21, 10, activation, normalization=normalization, branch_scale=scale, seed=seed
        ).bind(64)  # fmt: skip
        net.cost(rng.standard_normal((64, 64), dtype=np.float32), rng.integers(0, 10, 64))
        net.backward()
        measured.append(observe(net).depth_slope.slope)
        expected.append(predict_network(net)[2].slope)
    assert np.mean(measured) == pytest.approx(np.mean(expected), rel=0.06, abs=0.001)


def test_a_constant_branch_scale_grows_with_the_depth_and_the_root_does_not():
    """De & Smith 2020, section 2: unscaled branches double the variance, those of 1 / sqrt(L) keep it below e."""
    for depth in (11, 41):
        rms = {}
        for scale in ("one", "inv_sqrt"):
            net = residual_mlp(
                64, [100] * depth, 10, "relu", branch_scale=scale, dtype="float64"
            ).bind(64)  # fmt: skip
            net.forward(np.random.default_rng(0).standard_normal((64, 64)), train=True)
            z = [net.dense[0].y, *(block.y for block in net.blocks if isinstance(block, Residual))]
            rms[scale] = float(np.mean(z[-1] ** 2) / np.mean(z[0] ** 2))
        assert math.log2(rms["one"]) == pytest.approx(depth - 1, rel=0.15)
        assert 1.8 < rms["inv_sqrt"] < math.e * 1.3


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"norm_position": "inside"}, "model.norm_position must be pre or post, got inside"),
        ({"branch_scale": "two"}, "model.branch_scale must be one, inv_sqrt or zero, got two"),
        ({"layers_per_branch": 3}, "model.layers_per_branch must divide the 4 hidden layers after the first, got 3"),
        ({"layers_per_branch": 0}, "model.layers_per_branch must be at least 1, got 0"),
        ({"norm_position": "post"}, "model.norm_position=post needs a normalization"),
    ],
)
def test_what_cannot_be(kwargs, text):
    with pytest.raises(ValueError, match=text):
        residual_mlp(3, [4] * 5, 2, **kwargs)


def test_post_norm_stands_behind_every_addition():
    kinds = [type(block) for block in network("post").blocks]
    after = [kinds[i + 1] for i, kind in enumerate(kinds[:-1]) if kind is Residual]
    assert len(after) == 4 and all(issubclass(kind, Normalization) for kind in after)
