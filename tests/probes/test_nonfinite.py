"""Runs driven to NaN or infinity by planted causes: each is found, and told from what only passed it on."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

from bpx.data import Batches
from bpx.engine import OPTIMIZERS, Activation, Dense, Network, mlp, residual_mlp, sgd
from bpx.engine.activation import ActivationFunction
from bpx.engine.losses import MeanSquaredError
from bpx.engine.optimizers import Optimizer
from bpx.engine.schedules import Constant, Plateau
from bpx.engine.transforms import LearningRate, Transform
from bpx.probes import ProbeSet
from bpx.training import Cadence, FlightRecorder, Progress, Training, fit

SAMPLES, B = 60, 20


@dataclass(frozen=True)
class Wicked(ActivationFunction):
    """tanh with a hole: NaN above a height, or an infinite slope."""

    name = "wicked"
    value: float = math.inf
    slope: float = math.inf

    def f(self, z, out):
        np.tanh(z, out=out)
        out[z > self.value] = np.nan

    def df(self, z, a, out):
        np.subtract(1, a * a, out=out)
        out[z > self.slope] = np.inf


def train(net, lr=0.01, spoil=None, optimizer=None, x=None):
    """Train until something is not finite, and return the event and the frames of the last steps."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, net.n_in)).astype(net.dtype) if x is None else x
    y = rng.integers(0, net.n_out, SAMPLES)
    validation = (x[:9].copy(), y[:9])
    net.bind(B)
    chain = (optimizer or sgd(lr)).bind(net.parameters)
    progress = Progress()
    training = Training(net, chain, Batches(x, y, B, np.random.default_rng(1)), progress, {})
    recorder = FlightRecorder(training)

    def on_step_end():
        recorder()
        if spoil is not None:
            spoil(net, progress.step)

    records = fit(training, Cadence(100, 3), validation=validation, probe_set=ProbeSet(), on_step_end=on_step_end)
    with np.errstate(all="ignore"):
        *_, last = records
        event = last.nonfinite
        return event, recorder.replay(event.step) if event is not None else []


def wicked(depth=4, **holes):
    ops = [layer for _ in range(depth) for layer in (Dense(10), Activation(Wicked(**holes)))]
    net = Network(5, [*ops, Dense(3)], MeanSquaredError())
    rng = np.random.default_rng(2)
    for dense in net.dense:
        dense.W.value[...] = rng.standard_normal(dense.W.shape) / math.sqrt(dense.n_in)
    return net


def where(event):
    return event.phase, event.layer, event.operation, event.tensor


def test_a_hole_in_an_activation():
    event, frames = train(wicked(value=2.5))
    assert where(event) == ("forward", "layer_01", "activation", "a")
    assert event.nan > 0 and event.inf == 0 and event.size == B * 10 and event.largest_before > 2.5
    assert event.passed_on[0] == "forward layer_02 dense z"
    assert frames[-1]["step"] == event.step and frames[-1]["cost"] == "nan"
    assert [f["step"] for f in frames] == list(range(max(0, event.step - 7), event.step + 1))


def test_a_pole_in_a_derivative():
    event, _ = train(wicked(slope=2.5))
    assert event.phase == "backward" and (event.operation, event.tensor) == ("activation", "delta")
    assert event.inf > 0 and "forward" not in " ".join(event.passed_on)


def test_a_sample_that_is_not_a_number():
    x = np.random.default_rng(0).standard_normal((SAMPLES, 5)).astype(np.float32)
    x[17, 3] = np.nan
    event, _ = train(mlp(5, [6, 6], 3), x=x)
    assert where(event) == ("data", "", "batch", "x") and (event.nan, event.inf) == (1, 0)


def test_a_product_that_overflows():
    net = mlp(5, [6, 6, 6], 3, "linear", dtype="float32", loss="mean_squared_error")
    net.dense[1].W.value *= 1e30
    net.dense[2].W.value *= 1e30
    event, _ = train(net)
    assert where(event) == ("forward", "layer_03", "dense", "z") and event.step == 0
    assert 1e29 < event.largest_before < 1e32 and event.inf > 0


def test_a_cost_that_overflows():
    net = mlp(5, [6], 3, "linear", loss="mean_squared_error")
    net.dense[1].W.value *= 1e25
    event, _ = train(net)
    assert where(event) == ("forward", "", "mean_squared_error", "J")


def test_weights_that_are_not_finite_from_the_start():
    net = mlp(5, [6, 6], 3)
    net.dense[1].W.value[2, 2] = np.inf
    event, _ = train(net)
    assert where(event) == ("initialization", "layer_02", "dense", "W") and event.inf == 1


def test_a_learning_rate_that_is_too_high():
    net = mlp(5, [6, 6], 3, "linear", loss="mean_squared_error")
    event, frames = train(net, lr=100.0)
    assert event.phase in ("forward", "backward") and event.step > 0
    largest = [frame["layers"]["layer_02"]["W"] for frame in frames]
    assert largest == sorted(largest) and largest[-1] > 1e3 * largest[0]  # one sees it coming


class Breaks(Transform):
    """Puts a NaN into the update at the fifth step."""

    def __init__(self):
        self.calls = 0

    def __call__(self, u, factor):
        self.calls += 1
        if self.calls == 5:
            self.parameters.views(u)["layer_02.dense.W"][0, 0] = np.nan
        return u, factor


def test_an_optimizer_that_breaks():
    rate = LearningRate(0.01, Constant())
    event, _ = train(mlp(5, [6, 6], 3), optimizer=Optimizer([Breaks(), rate], rate))
    assert where(event) == ("update", "layer_02", "dense", "W") and event.step == 4 and event.nan == 1


def test_a_gradient_of_weights_that_overflows_under_finite_deltas():
    net = mlp(5, [6], 3, "linear", loss="softmax_cross_entropy")
    x = np.full((SAMPLES, 5), 3e38, np.float32)
    net.dense[0].W.value *= 1e-38
    net.dense[1].W.value *= 1e3
    event, _ = train(net, x=x)
    assert where(event) == ("backward", "layer_01", "dense", "dW") and event.step == 0


def test_inside_a_residual_branch():
    net = residual_mlp(5, [6] * 4, 3, "linear")
    net.dense[2].W.value *= 1e38
    net.dense[1].W.value *= 1e20
    event, _ = train(net)
    assert where(event)[:1] == ("forward",) and event.operation == "residual.dense" and event.layer == "layer_03"


def test_an_event_is_json_and_one_line():
    event, frames = train(wicked(value=2.5))
    assert "\n" not in str(event) and "layer_01 activation made" in str(event)
    json.dumps([frames], allow_nan=False)


@pytest.mark.parametrize("at", [3, 66, 100])
@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam"])
def test_a_replay_sees_the_same_bits(name, at, monkeypatch):
    """Dropout, a schedule that follows the evaluations, and a weight that is spoiled in step ``at``."""
    net = mlp(5, [6, 6], 3, "relu", normalization="batch", dropout=0.2)
    costs = []
    cost = net.cost
    monkeypatch.setattr(net, "cost", lambda x, y: costs.append(cost(x, y)) or costs[-1])
    optimizer = OPTIMIZERS[name](0.01, schedule=Plateau(patience=0))
    event, frames = train(net, optimizer=optimizer, spoil=lambda n, s: s == at and n.dense[1].W.value.fill(np.nan))
    assert where(event) == ("update", "layer_02", "dense", "W") and event.nan == event.size == 36
    assert event.step == at - 1
    assert [frame["step"] for frame in frames] == list(range(max(0, at - 8), at))
    assert [frame["cost"] for frame in frames] == costs[max(0, at - 8) : at]
