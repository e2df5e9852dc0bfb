"""Probes at any scale: from finite tensors come finite values, NaN where nothing can be said, or a flag."""

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bpx.data import Batches
from bpx.engine import ACTIVATIONS, OPTIMIZERS, mlp, residual_mlp
from bpx.probes import PROBES, ProbeContext, ProbeSet
from bpx.training import Cadence, Progress, Training, fit

OVERFLOWS = {"model": mlp, "dropout": 0.0, "clip": None, "optimizer": "momentum"}
CLIPPED = OVERFLOWS | {"clip": 1e-3}


@example(activation="leaky_relu", normalization="batch", dtype="float32", weights=3, inputs=-16, rate=0, **OVERFLOWS)
@example(activation="gelu", normalization="none", dtype="float64", weights=17.51953125, inputs=0, rate=0, **OVERFLOWS)
@example(activation="hard_tanh", normalization="none", dtype="float32", weights=9, inputs=30, rate=0, **OVERFLOWS)
@example(activation="sin", normalization="none", dtype="float32", weights=9, inputs=12, rate=0, **OVERFLOWS)
@example(activation="sin", normalization="none", dtype="float32", weights=9, inputs=13, rate=0, **CLIPPED)
@example(activation="elu", normalization="none", dtype="float64", weights=0, inputs=9, rate=1, **OVERFLOWS)
@settings(max_examples=100, deadline=None)
@given(
    model=st.sampled_from([mlp, residual_mlp]),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    normalization=st.sampled_from(["none", "batch", "layer", "rms"]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    dtype=st.sampled_from(["float32", "float64"]),
    dropout=st.sampled_from([0.0, 0.5]),
    weights=st.floats(-40, 30),
    inputs=st.floats(-30, 30),
    rate=st.floats(-10, 10),
    clip=st.sampled_from([None, 1e-3]),
)
def test_finite_in_finite_or_flagged_out(
    model, activation, normalization, optimizer, dtype, dropout, weights, inputs, rate, clip
):
    rng = np.random.default_rng(0)
    net = model(4, [6, 6, 6], 3, activation, normalization=normalization, dropout=dropout, dtype=dtype).bind(5)
    chain = OPTIMIZERS[optimizer](lr=10**rate, clip_norm=clip).bind(net.parameters)
    cadence = Cadence(2, 2)
    with np.errstate(all="ignore"):
        net.parameters.theta[: net.parameters.n_weights] *= 10**weights
        x = (rng.standard_normal((10, 4)) * 10**inputs).astype(dtype)
        context = ProbeContext(net, chain, x)
        probe_set = ProbeSet([(probe(context), cadence.report_schedule) for probe in PROBES.values()])
        batches = Batches(x, rng.integers(0, 3, 10), 5, rng)
        records = list(fit(Training(net, chain, batches, Progress()), cadence, probe_set=probe_set))
    if (told := records[-1].nonfinite) is not None:  # an update is found in the next step's forward
        later = records[-1].step - told.step
        assert later == 1 if told.phase == "update" else later in (0, 1) if told.phase == "backward" else later == 0
        return
    for record in records:
        assert all(math.isfinite(value) for value in record.metrics.values()), record.metrics
        for seen in record.measured:
            infinite = [key for key, value in zip(seen.keys, seen.values, strict=True) if math.isinf(value)]
            assert not infinite, infinite
