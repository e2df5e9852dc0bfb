"""Networks of extreme scale, depth and shape: every probe and the finding answer, none raises.

BPX_FUZZ_NETS=1500 draws more of them.
"""

import math
import os

import numpy as np
import pytest
from conftest import thinned

from bpx.diagnosis import diagnose_pass, observe, predict_network
from bpx.diagnosis.redrawn import FromSpec
from bpx.diagnosis.rows import predicted
from bpx.engine import ACTIVATIONS, LOSSES, adam, mlp, residual_mlp
from bpx.engine.models import gru, lstm, plain_conv, residual_conv, rnn, transformer
from bpx.probes import PROBES, ProbeContext

NETS, PARTS = int(os.environ.get("BPX_FUZZ_NETS", "80")), 8
WITH_REMEDIES = 20  # one network in so many is drawn anew with every change
OF_POSITIONS = {
    rnn: ((1, 3), (9, 2)), lstm: ((1, 3), (9, 2)), gru: ((1, 3), (9, 2)), transformer: ((1, 3), (9, 2)),
    plain_conv: ((3, 4, 1), (5, 5, 2)), residual_conv: ((3, 4, 1), (5, 5, 2)),
}  # fmt: skip
SCALED = {"normal": "std", "lecun_normal": "gain", "he_uniform": "gain", "xavier_normal": "gain"}


def draw(rng):
    """Return a random composition: (model, its arguments, batch size, inputs)."""

    def pick(*options):
        return options[rng.integers(len(options))]

    dtype, model = pick("float32", "float64"), pick(mlp, residual_mlp, mlp, residual_mlp, *OF_POSITIONS)
    initializer = {"name": pick(*SCALED, "orthogonal", "constant", "zeros", "identity")}
    if key := SCALED.get(initializer["name"]):
        initializer[key] = float(10.0 ** rng.uniform(*pick((-30, 30), (-3, 3))))
        if rng.random() < 0.3:
            initializer["bias_std"] = float(10.0 ** rng.uniform(-20, 20))
    depth, width = int(rng.integers(1, 61)), int(pick(1, 2, 3, 8, 20))
    funnel = model is mlp and rng.random() < 0.2
    hidden = rng.integers(1, 20, depth).tolist() if funnel else [width] * depth
    batch, n_in, n_out = int(pick(1, 2, 3, 8, 32)), int(pick(1, 2, 20)), int(pick(2, 10))
    norms = ("none",) if model in (rnn, lstm, gru) else ("none", "batch", "layer", "rms")
    shape = (n_in,)
    if model in OF_POSITIONS:
        shape = n_in = OF_POSITIONS[model][int(rng.integers(2))]
        hidden = [int(pick(4, 8, 20))] * int(rng.integers(1, 13))
    largest = 30 if dtype == "float32" else 60
    x = rng.standard_normal((batch, *shape)) * 10 ** (rng.uniform(-largest, largest) if rng.random() < 0.5 else 0.0)
    if rng.random() < 0.1:
        x[...] = x.flat[0]
    functions = [name for name in ACTIVATIONS if model is not rnn or name != "prelu"]  # which rnn refuses
    net = model(
        n_in, hidden, n_out, pick(*functions), normalization=pick(*norms),
        dropout=pick(0.0, 0.0, 0.5, 0.95), loss=pick(*LOSSES), initializer=initializer, dtype=dtype,
        seed=int(rng.integers(1000)),
    )  # fmt: skip
    classes = net.loss.classifies
    y = rng.integers(0, n_out, batch) if classes else rng.standard_normal((batch, n_out)).astype(dtype)
    return net.bind(batch, rng), x.astype(dtype), y


@pytest.mark.parametrize("part", thinned(range(PARTS), every=4))
def test_no_network_makes_a_probe_or_the_finding_raise(part):
    for seed in range(part, NETS, PARTS):
        with np.errstate(all="ignore"):
            net, x, y = draw(np.random.default_rng(seed))
            net.cost(x, y)
            net.backward()
            prediction = predict_network(net)[-1]
            seen = observe(net)
            finding = diagnose_pass(net, seen, prediction, None if seed % WITH_REMEDIES else FromSpec(net))
            predicted(prediction, seen)
            optimizer = adam().bind(net.parameters)
            probes = [probe(ProbeContext(net, optimizer, x)) for probe in PROBES.values()]
            for probe in probes:
                probe.on_gradient(0)
            optimizer.propose()
            for probe in probes:
                probe.on_update(optimizer)
        assert all(math.isfinite(value) for value in finding.metrics().values()), seed
        assert finding.sentence and finding.as_dict(), seed
        assert prediction.slope is None or abs(prediction.slope) < 300, seed
