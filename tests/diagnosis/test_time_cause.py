"""Why a gradient vanishes or explodes through time, found by trial, and changes that were measured to heal it."""

import re
import shlex

import numpy as np
import pytest
from test_remedies import composed, finding

import bpx
from bpx.config.plan import make_plan, spawn_rngs
from bpx.diagnosis.redrawn import FromSpec
from bpx.diagnosis.time_cause import explained
from bpx.diagnosis.time_flow import time_flow, time_line
from bpx.engine import gru, lstm, rnn
from bpx.runs.networks import build_network
from bpx.theory import Verdict, slope_verdict

STEPS = 28


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((32, STEPS, 10)).astype("f"), rng.integers(0, 5, 32)


def flow(net, x, y, redraw=False):
    net.bind(len(x)).cost(x, y)
    net.backward()
    return explained(time_flow(net), net, FromSpec(net) if redraw else None)


@pytest.mark.parametrize("gain", [0.7, 1.4])
def test_a_linear_net_needs_weights_that_keep_lengths(gain, data):
    found = flow(rnn((STEPS, 10), [30], 5, "linear", recurrent="orthogonal", recurrent_scale=gain), *data)
    assert found.cause == "recurrent weights"
    assert f"recurrent weights ×{gain:#.3g} per step where linear with inputs of" in found.because
    assert "needs ×1.00 (rescaled to that: ×1 per step)" in found.because


def test_saturation_is_the_activations(data):
    x, y = data
    found = flow(rnn((STEPS, 10), [30], 5, "hard_tanh", recurrent="orthogonal"), 20 * x, y)
    assert found.cause == "activation"
    assert re.search(r"activation hard_tanh with inputs of \d+ \(linear in its place: ×1 per step\)", found.because)


@pytest.mark.parametrize(("model", "given"), [(lstm, {"forget_bias": -1.0}), (gru, {})])
def test_gates_that_keep_little_are_the_cause(model, given, data):
    net = model((STEPS, 10), [30], 5, **given)
    found = flow(net, *data, redraw=True)
    assert found.verdict == Verdict.VANISHING and found.cause == "gates"
    kept = float(re.search(r"gates that keep ×([\d.]+) of the state per step", found.because)[1])
    assert kept == pytest.approx(0.33 if model is lstm else 0.5, abs=0.05)
    changes = [remedy.change for remedy in found.remedies]
    key = "model.forget_bias=" if model is lstm else "model.update_bias="
    assert any(change.startswith(key) for change in changes)


def test_a_truncated_gradient_is_said_to_be_cut(data):
    found = flow(rnn((STEPS, 10), [30], 5, truncate=7), *data, redraw=True)
    assert found.because == "model.truncate=7 stops the gradient" and found.remedies == () and found.cause == ""


def test_a_healthy_gradient_has_no_cause(data):
    found = flow(rnn((STEPS, 10), [30], 5, "linear", recurrent="orthogonal"), *data, redraw=True)
    assert found.verdict == Verdict.HEALTHY and found.because == "" and found.remedies == ()


def test_a_remedy_heals_networks_of_other_seeds(data):
    x, y = data
    given = {"initializer": "lecun_normal", "recurrent_scale": 0.3}
    found = bpx.diagnose(rnn((STEPS, 10), [60], 5, "tanh", **given), x, y)
    assert found.cause_time == "recurrent weights" and found.remedies_time
    change = found.remedies_time[0].change
    assert change.startswith("model.recurrent_scale=") and f"Try: {change}" in found.sentence
    given["recurrent_scale"] = float(change.partition("=")[2])
    for seed in range(100, 108):
        net = rnn((STEPS, 10), [60], 5, "tanh", seed=seed, **given)
        assert flow(net, x, y).verdict == Verdict.HEALTHY
    assert type(found).from_dict(found.as_dict()) == found


def test_a_loss_at_every_step_has_a_cause_too(data):
    x, y = data
    found = bpx.diagnose(lstm((STEPS, 10), [20], 5, loss_at="every", forget_bias=-2.0), x, np.tile(y, (STEPS, 1)).T)
    assert found.cause_time == "gates" and "model.forget_bias=3.3" in [r.change for r in found.remedies_time]


def test_what_is_printed_is_typed_and_heals():
    words = ("dataset=mnist", "dataset.subset=200", "dataset.scaling=standard", "model=rnn", "model.depth=1",
             "model.width=60", "activation=tanh", "initializer=lecun_normal", "model.recurrent_scale=0.5")  # fmt: skip
    found, _, samples = finding(*words)
    assert found.verdict_time == Verdict.VANISHING and found.remedies_time
    for _, factor, command in found.remedies_time:
        assert f"{command} (×{factor:.3g} per step)" in found.sentence
        plan = make_plan(composed(*shlex.split(command)[3:]))
        for seed in range(50, 54):
            rngs = spawn_rngs(seed)
            net = build_network(plan, samples, rngs)
            net.cost(samples.x_train[: net.batch], samples.y_train[: net.batch])
            net.backward()
            assert slope_verdict(time_line(net)[0].slope, STEPS) == Verdict.HEALTHY


def test_cells_with_gates_heal_with_the_bias_that_keeps_the_state(data):
    """The targets stay those of every step, and what has no gradient as nothing has come in yet is not followed."""
    x, y = data[0].copy(), np.tile(data[1], (STEPS, 1)).T
    x[:, :3] = 0
    found = flow(rnn((STEPS, 10), [30], 5, "relu", initializer="xavier_normal", loss_at="every"), x, y, redraw=True)
    assert found.blank == 2 and found.verdict == Verdict.VANISHING
    (change,) = (remedy.change for remedy in found.remedies if remedy.change.startswith("model="))
    name, key, bias = re.fullmatch(r"model=(lstm|gru) model\.(forget_bias|update_bias)=([\d.]+)", change).groups()
    model = {"lstm": lstm, "gru": gru}[name]
    for seed in range(100, 104):
        net = model((STEPS, 10), [30], 5, loss_at="every", seed=seed, **{key: float(bias)})
        assert flow(net, x, y).verdict == Verdict.HEALTHY
