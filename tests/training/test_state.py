"""A state taken at any step, put back at any later time: training goes on to the same last bit."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpx.data import Batches
from bpx.engine import OPTIMIZERS, SCHEDULES, mlp, residual_mlp
from bpx.probes import PROBES, Every, ProbeContext, ProbeSet
from bpx.training import Cadence, Progress, State, Training, fit

SAMPLES, BATCH, EPOCHS = 23, 5, 4
STEPS = EPOCHS * 5


class Counts:
    """A stateful thing like a probe with a memory."""

    def __init__(self):
        self.seen = np.zeros(2)

    def state_dict(self):
        return {"seen": self.seen.copy()}

    def load_state_dict(self, state):
        self.seen[...] = state["seen"]


def build(optimizer, schedule, dropout, normalization, model=mlp, patience=None, dtype="float32"):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((SAMPLES + 7, 4)).astype(dtype), rng.integers(0, 3, SAMPLES + 7)
    net = model(4, [6, 6], 3, "tanh", dropout=dropout, normalization=normalization, dtype=dtype, seed=2)
    net.bind(BATCH, np.random.default_rng(3))
    own = {"plateau": {"patience": 0}, "step": {"step_size": 7}}.get(schedule, {})
    rate = SCHEDULES[schedule](total_steps=STEPS, warmup_steps=3, **own)
    chain = OPTIMIZERS[optimizer](lr=0.1, schedule=rate, clip_norm=0.5, weight_decay=0.01, max_norm=1.0)
    batches = Batches(x[:SAMPLES], y[:SAMPLES], BATCH, np.random.default_rng(4))
    context = ProbeContext(net, chain.bind(net.parameters), x[:SAMPLES])
    probe_set = ProbeSet([(PROBES[name](context), Every(1 + i % 3)) for i, name in enumerate(PROBES)])
    training = Training(net, chain, batches, Progress(), {"counts": Counts(), "probes": probe_set})

    def run(at=None):
        """Train on from where the training stands; capture before step ``at``."""
        taken = []

        def on_step_end():
            training.others["counts"].seen += training.progress.step
            if training.progress.step == at:
                taken.append(training.capture())

        records = fit(
            training,
            Cadence(EPOCHS, len(batches)),
            validation=(x[SAMPLES:], y[SAMPLES:]),
            probe_set=probe_set,
            patience=patience,
            on_step_end=on_step_end,
        )
        told = [(r.step, r.metrics, [seen.values.tobytes() for seen in r.measured]) for r in records]
        return told, taken

    return training, run


def through_json(state):
    return State(state.arrays, json.loads(json.dumps(state.facts)))


ANY_TRAINING = given(
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    dropout=st.sampled_from([0.0, 0.4]),
    normalization=st.sampled_from(["none", "batch", "layer"]),
    model=st.sampled_from([mlp, residual_mlp]),
    dtype=st.sampled_from(["float32", "float64"]),
    at=st.integers(1, STEPS - 1),
)


@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.slow)])
def test_the_same_bits_from_a_state_on(examples):
    some = settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    some(ANY_TRAINING(goes_on_alike))()


def goes_on_alike(optimizer, schedule, dropout, normalization, model, dtype, at):
    key = (optimizer, schedule, dropout, normalization, model, None, dtype)
    training, run = build(*key)
    told, (state,) = run(at=at)
    end = training.capture()
    for again, go in ((training, run), build(*key)):  # in the same process' objects, and in fresh ones
        again.restore(through_json(state))
        later, _ = go()
        assert later == [t for t in told if t[0] > at or (t[0] == at and t[2])]
        finish = again.capture()
        assert finish.facts == end.facts and finish.arrays.keys() == end.arrays.keys()
        for name, value in end.arrays.items():
            assert finish.arrays[name].tobytes() == value.tobytes(), name


def test_a_state_is_a_copy():
    training, run = build("adam", "constant", 0.4, "batch")
    state = training.capture()
    before = {name: value.copy() for name, value in state.arrays.items()}
    run()
    assert all(np.array_equal(state.arrays[name], value) for name, value in before.items())
    assert not np.array_equal(training.net.parameters.theta, before["net/theta"])


def test_early_stopping_goes_on_counting():
    training, run = build("sgd", "constant", 0.0, "none", patience=1)
    training.progress.best = -1.0  # no cost is ever lower
    told, _ = run()
    assert told[-1][0] == 5 and training.progress.n_bad == 1
    assert run() == ([], [])


@pytest.mark.parametrize("name", ["net/theta", "optimizer/2.Adam/m", "optimizer/2.Adam/t", "batches/order",
                                  "batches/position", "progress/step"])  # fmt: skip
def test_a_state_of_another_run_is_refused(name):
    training, _ = build("adam", "plateau", 0.4, "batch")
    state = training.capture()
    assert name in state.arrays
    for value in (None, state.arrays[name].astype(np.float16), np.zeros((2, 3))):
        arrays = {k: v for k, v in state.arrays.items() if k != name} | ({} if value is None else {name: value})
        with pytest.raises(ValueError, match=r"state\["):
            training.restore(State(arrays, state.facts))
    with pytest.raises(ValueError, match="generators"):
        training.restore(State(state.arrays, {"generators": {"dropout": {"bit_generator": "PCG64"}}}))


def test_what_blas_adds_up_begins_where_it_began_before():
    training, _ = build("adam", "constant", 0.4, "batch")
    net = training.net
    arrays = [net.parameters.theta, net.parameters.grad, net.loss.dz, *(layer.y for layer in net.layers())]
    assert {a.ctypes.data % 64 for a in arrays} == {0}
