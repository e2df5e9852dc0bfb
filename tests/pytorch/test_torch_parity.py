"""Every quantity of a pass in PyTorch equals the engine's, for copied networks in float64 over random compositions."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bpx.diagnosis import observe
from bpx.engine import ACTIVATIONS, mlp, residual_mlp
from bpx.probes.coherence import Coherence, SignalToNoise
from bpx.probes.dead_units import DeadUnits
from bpx.probes.gains import Gains
from bpx.probes.probe import ProbeContext
from bpx.probes.scales import QUANTITIES, Scales

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from bpx.torch import to_torch  # noqa: E402
from bpx.torch.passes import batch, measured_pass  # noqa: E402

N = 12
EPS = np.finfo(float).eps
TINY = 1e-290  # below, numbers of float64 lose digits


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=TINY)


compositions = st.fixed_dictionaries(
    {
        "model": st.sampled_from([mlp, residual_mlp]),
        "depth": st.integers(1, 7),
        "width": st.integers(3, 9),
        "activation": st.sampled_from([name for name in ACTIVATIONS if name != "sin"]),  # which has no module
        "normalization": st.sampled_from(["none", "batch", "layer", "rms"]),
        "initializer": st.sampled_from(["he_normal", "xavier_uniform", "lecun_normal", "orthogonal"]),
        "loss": st.sampled_from(["softmax_cross_entropy", "mean_squared_error"]),
        "reduction": st.sampled_from(["mean", "sum"]),
        "seed": st.integers(0, 10_000),
    }
)

FAR_BELOW = {
    "model": mlp, "depth": 2, "width": 5, "activation": "gelu", "normalization": "none", "initializer": "he_normal",
    "loss": "softmax_cross_entropy", "reduction": "mean", "seed": 3,
}  # fmt: skip


def passes(c):
    """Yield a composed network after a pass, and the same pass in PyTorch."""
    net = c["model"](
        5, [c["width"]] * c["depth"], 3, c["activation"], normalization=c["normalization"], loss=c["loss"],
        initializer={"name": c["initializer"], "bias_std": 0.1}, dtype="float64", seed=c["seed"],
    ).bind(N)  # fmt: skip
    rng = np.random.default_rng(c["seed"])
    x, classes = rng.standard_normal((N, 5)), c["loss"] == "softmax_cross_entropy"
    y = rng.integers(0, 3, N) if classes else rng.standard_normal((N, 3))
    module = to_torch(net)
    net.cost(x, y)
    net.backward()

    def loss(z, t):
        if classes:
            return torch.nn.functional.cross_entropy(z, t, reduction=c["reduction"])
        total = 0.5 * (z - t).square().sum()
        return total / len(z) if c["reduction"] == "mean" else total

    return net, measured_pass(module, batch(torch.from_numpy(x), torch.from_numpy(y), loss, c["reduction"], None, None))


@example(FAR_BELOW)
@given(compositions)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_quantity_is_the_engines(c):
    net, theirs = passes(c)
    context = ProbeContext(net, samples=np.ascontiguousarray(net.last_batch[0]))
    scales, gains, units, coherence, snr = (P(context) for P in (Scales, Gains, DeadUnits, Coherence, SignalToNoise))
    for probe in (scales, gains, units, coherence, snr):
        probe.on_gradient(0)
    with theirs as measured:
        table = measured.scales()
        if c["reduction"] == "sum":  # dJ/dW of a sum is n times that of a mean
            table[:, [QUANTITIES.index("grad_norm"), QUANTITIES.index("grad_norm_bias")]] /= N
        for moment, scale in (("preactivation_mean", "preactivation_rms"), ("activation_mean", "activation_rms")):
            at, size = QUANTITIES.index(moment), scales.table[:, QUANTITIES.index(scale)]
            np.testing.assert_allclose((table - scales.table)[:, at] / size, 0, atol=1e-10)  # may be rounding alone
            table[:, at] = scales.table[:, at]
        close(table, scales.table)
        both = np.column_stack([coherence.values, snr.values[: len(net.dense)]])  # behind them stands the network's
        np.testing.assert_allclose(measured.agreement(), both, rtol=1e-10, atol=1e-14)  # a sum over samples may be zero
        own = measured.units()
        own = own[~np.isnan(own[:, 0])]
        close(own[:, 0], units.table[:, 0])
        if c["activation"] == "gelu":  # z (1 + erf) / 2: PyTorch's is exactly zero from z = -8.3 on, where ours is tiny
            lost = [np.mean(np.abs(layer.y) <= EPS * np.abs(layer.x)) for layer in units.replicas]
            assert (own[:, 1] >= units.table[:, 1] - EPS).all() and (own[:, 1] <= np.array(lost) + EPS).all()
        else:
            close(own[:, 1], units.table[:, 1])
        keys, values = measured.gains()
        known = {key: value for key, value in zip(gains.keys, gains.values, strict=True) if key[2] == "backward_gain"}
        assert list(keys) == list(known)
        close(values, list(known.values()))
        seen = measured.observation()
    same(seen, observe(net))


def same(ours, theirs):
    assert len(ours.layers) == len(theirs.delta_l2)  # the modules' own names
    for field in dataclasses.fields(theirs)[:-1]:
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "depth_slope" and b is not None:
            np.testing.assert_allclose(dataclasses.astuple(a)[:3], dataclasses.astuple(b)[:3], rtol=1e-10, atol=1e-14)
            assert a.zeros == b.zeros
        elif field.name == "gains":
            assert a.keys() == b.keys()
            np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-10, atol=1e-14)
        elif b is None or isinstance(b, (str, bool, tuple)):
            assert a == b, field.name
        else:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=TINY if field.name == "delta_l2" else 1e-14)
