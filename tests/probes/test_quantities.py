"""Every fast quantity against a slow, obvious reference in float64."""

import math

import numpy as np
import pytest

from bpx.engine import ACTIVATIONS, Activation, adam, mlp, momentum, residual_mlp, rnn, sgd, transformer
from bpx.probes import PROBES, Every, LogSpaced, ProbeContext, ProbeSet, ReportSchedule, between_hidden, parse_schedule
from bpx.probes.histograms import ABOVE, BELOW, NOT_FINITE, ZERO, log_histogram
from bpx.probes.moments import TensorMoments
from bpx.probes.probe import weight_layers

N_IN, N_OUT, B = 12, 4, 300  # more rows than a block of the sums


def network(model=mlp, hidden=(9, 9, 9), activation="tanh", batch=B, **options):
    net = model(N_IN, list(hidden), N_OUT, activation, **{"seed": 5, **options})
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((batch, N_IN)).astype(net.dtype), rng.integers(0, N_OUT, batch)
    return net.bind(batch, np.random.default_rng(8)), x, y


def look(name, net, x, y, optimizer=None, steps=1):
    """Train for ``steps`` steps and return the probe's values at the last, by key, before the step is made."""
    optimizer = (optimizer or sgd(0.1)).bind(net.parameters)
    probe = PROBES[name](ProbeContext(net, optimizer, x, y))
    for step in range(steps):
        net.cost(x, y)
        net.backward()
        probe.on_gradient(step)
        optimizer.propose()
        probe.on_update(optimizer)
        if step < steps - 1:
            optimizer.apply()
    return dict(zip(probe.keys, probe.values.tolist(), strict=True)), probe, optimizer


def by_sample(net, x, y):
    """Return the gradients of W of every layer for every sample alone: [(B, n_in, n_out)], by B backward passes."""
    replica = net.replica(1)
    found = [[] for _ in net.dense]
    for i in range(len(x)):
        replica.cost(x[i : i + 1], y[i : i + 1])
        replica.backward()
        for kept, dense in zip(found, replica.dense, strict=True):
            kept.append(dense.W.grad.astype(np.float64))
    return [np.array(g) for g in found]


def deltas(net):
    return [np.array(p.next.dx, np.float64) * len(p.next.dx) for p in weight_layers(net)]


def as_layer(net, values, quantity):
    return [values[f"layer_{i:02d}", "", quantity, 0] for i in range(1, len(net.dense) + 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scales(activation, dtype):
    net, x, y = network(activation=activation, dtype=dtype, initializer={"name": "lecun_normal", "bias_std": 0.5})
    optimizer = momentum(0.3)
    values, _, optimizer = look("scales", net, x, y, optimizer, steps=2)
    update = net.parameters.views(optimizer.factor * np.asarray(optimizer.u, np.float64))
    close = {"rtol": 3e-6 if dtype == "float32" else 1e-12}
    for quantity, reference in {
        "delta_rms": lambda d: np.sqrt(np.mean(d**2)),
        "delta_l2": lambda d: np.sqrt(np.mean(np.sum(d**2, axis=1))),
    }.items():
        np.testing.assert_allclose(as_layer(net, values, quantity), [reference(d) for d in deltas(net)], **close)
    for i, layer in enumerate(weight_layers(net)):
        dense = layer.dense
        z, a = np.array(dense.y, np.float64), np.array(layer.output.y, np.float64)
        for kind, v in (("preactivation", z), ("activation", a)):
            got = [as_layer(net, values, f"{kind}_{k}")[i] for k in ("mean", "abs_mean", "std", "rms")]
            want = [v.mean(), np.abs(v).mean(), v.std(), np.sqrt(np.mean(v**2))]
            np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "float32" else 1e-10, atol=1e-8)
        W = np.array(dense.W.value, np.float64)
        norms = {"grad_norm": dense.W.grad, "grad_norm_bias": dense.b.grad, "weight_norm": W}
        for quantity, v in norms.items():
            np.testing.assert_allclose(as_layer(net, values, quantity)[i], np.linalg.norm(np.float64(v)), **close)
        ratio = np.linalg.norm(update[dense.W.name]) / np.linalg.norm(W)
        np.testing.assert_allclose(as_layer(net, values, "update_ratio")[i], ratio, **close)
        if layer.activation is None:
            assert math.isnan(as_layer(net, values, "saturation")[i])
            continue
        h, function = 1e-6, layer.activation.function
        ends = [np.empty_like(z) for _ in range(2)]
        function.f(z + h, ends[0])
        function.f(z - h, ends[1])
        share = np.mean(np.abs(ends[0] - ends[1]) / (2 * h) < 0.05 * function.max_slope)
        assert as_layer(net, values, "saturation")[i] == pytest.approx(share, abs=2 / z.size)


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e25])
def test_extreme_scales_come_out_right(scale):
    v = (np.random.default_rng(0).standard_normal((257, 33)) * scale).astype(np.float32)
    out = np.empty(4)
    TensorMoments(33, np.dtype(np.float32))(v, out)
    w = v.astype(np.float64)
    np.testing.assert_allclose(out, [w.mean(), np.abs(w).mean(), w.std(), np.sqrt(np.mean(w**2))], rtol=2e-5)


def test_a_small_spread_on_a_large_mean():
    v = (1000 + 1e-2 * np.random.default_rng(0).standard_normal((200, 50))).astype(np.float32)
    out = np.empty(4)
    TensorMoments(50, np.dtype(np.float32))(v, out)
    assert out[2] == pytest.approx(v.astype(np.float64).std(), rel=1e-6)


@pytest.mark.parametrize("clip", [{"clip_units": 0.01}, {"clip_units": 0.02, "clip_zscore": 2.0}])
def test_clipping_by_unit(clip):
    net, x, y = network(dtype="float64")
    optimizer = adam(1e-3, **clip)
    values, _, _ = look("clipping", net, x, y, optimizer, steps=3)
    net.cost(x, y)
    net.backward()
    hit = []
    for i, p in enumerate(net.dense):
        g, w = p.W.grad.copy(), np.linalg.norm(p.W.value, axis=0)
        if p is not net.dense[-1]:
            factors = np.minimum(1, clip["clip_units"] * w / np.linalg.norm(g, axis=0))
            bias = min(1, clip["clip_units"] * max(np.linalg.norm(p.b.value), 1e-3) / np.linalg.norm(p.b.grad))
            g, hit = g * factors, [*hit, *(factors < 1), bias < 1]
        assert as_layer(net, values, "grad_norm_clipped")[i] == pytest.approx(np.linalg.norm(g))
    assert values["", "", "clipped_units", 0] == np.mean(hit) > 0
    assert values.get(("", "", "clip_coefficient", 0), 1.0) == 1.0  # the first steps are not clipped


@pytest.mark.parametrize("clip", [{"clip_norm": 0.05}, {"clip_value": 0.01}, {"clip_norm": 0.02, "clip_value": 0.01}])
def test_clipping(clip):
    net, x, y = network(dtype="float64")
    values, _, _ = look("clipping", net, x, y, adam(1e-3, **clip), steps=3)
    net.cost(x, y)
    net.backward()
    g = net.parameters.grad.copy()
    if "clip_value" in clip:
        assert values["", "", "clipped_entries", 0] == np.mean(np.abs(g) > 0.01) > 0
        g = np.clip(g, -0.01, 0.01)
    if "clip_norm" in clip:
        c = min(1, clip["clip_norm"] / (np.linalg.norm(g) + 1e-6))
        assert values["", "", "clip_coefficient", 0] == pytest.approx(c) and c < 1
        assert values["", "", "clipped_steps", 0] == 1.0
        g = c * g
    for i, p in enumerate(net.dense):
        views = net.parameters.views(g)
        got = as_layer(net, values, "grad_norm_clipped")[i], as_layer(net, values, "grad_norm_bias_clipped")[i]
        np.testing.assert_allclose(got, [np.linalg.norm(views[p.W.name]), np.linalg.norm(views[p.b.name])])


def test_no_clipping_no_rows():
    assert look("clipping", *network())[1].keys == ()


@pytest.mark.parametrize("model", [mlp, residual_mlp])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "rms"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gains_add_up_to_the_attenuation(model, normalization, dropout):
    net, x, y = network(model, normalization=normalization, dropout=dropout, activation="relu")
    values, _, _ = look("gains", net, x, y)
    gain = {i: g for (_, _, quantity, i), g in values.items() if quantity == "backward_gain"}
    total = sum(math.log(gain[i]) for i in between_hidden(net))
    d = deltas(net)
    assert total == pytest.approx(math.log(np.linalg.norm(d[0]) / np.linalg.norm(d[-2])), abs=1e-5)
    kinds = {kind for (_, kind, quantity, i) in values if quantity == "backward_gain" and i in between_hidden(net)}
    assert kinds == {"residual"} if model is residual_mlp else "dense" in kinds and "activation" in kinds
    assert len(between_hidden(net)) == (len(net.dense) - 2) * (1 if model is residual_mlp else len(kinds))


def test_the_gain_of_one_operation():
    net, x, y = network(activation="sigmoid", dtype="float64")
    values, _, _ = look("gains", net, x, y)
    d = deltas(net)
    W = net.dense[2].W.value
    da = d[2] @ W.T
    assert values["layer_03", "dense", "backward_gain", 4] == pytest.approx(np.linalg.norm(da) / np.linalg.norm(d[2]))
    gain = values["layer_02", "activation", "backward_gain", 3]
    assert gain == pytest.approx(np.linalg.norm(d[1]) / np.linalg.norm(da))


def test_the_gains_of_a_branch():
    net, x, y = network(residual_mlp, dtype="float64")
    values, _, _ = look("gains", net, x, y)
    inner = {key[:2]: g for key, g in values.items() if key[2] == "branch_gain"}
    block = {kind: g for (layer, kind), g in inner.items() if layer == "layer_03"}
    inside = [g for kind, g in block.items() if kind != "branch"]
    assert len(inside) == 2
    assert block["branch"] == pytest.approx(math.prod(inside))


def test_a_gain_of_zero_is_zero_and_nothing_is_no_gain():
    net, x, y = network(activation="relu")
    net.dense[1].b.value.fill(-1e6)  # every unit of the second layer is dead
    net.dense[2].b.value.fill(1.0)  # and the third lives on its biases
    values, _, _ = look("gains", net, x, y)
    assert values["layer_02", "activation", "backward_gain", 3] == 0
    assert math.isnan(values["layer_02", "dense", "backward_gain", 2])


def test_dead_units_are_not_the_zeros_of_a_batch():
    net, x, y = network(activation="relu", dropout=0.5, hidden=(40, 40))
    net.dense[0].b.value[:10] = -1e6
    values, _, _ = look("units", net, x, y)
    replica = net.replica(len(x))
    a = replica.forward(x, train=False)
    first = next(layer for layer in replica.layers() if isinstance(layer, Activation)).y
    assert a is not None and values["layer_01", "", "dead_units", 0] == np.mean((first == 0).all(axis=0)) >= 0.25
    own = next(layer for layer in net.layers() if isinstance(layer, Activation)).y
    assert values["layer_01", "", "zero_activations", 0] == pytest.approx(np.mean(own == 0))
    assert values["layer_01", "", "zero_activations", 0] > values["layer_01", "", "dead_units", 0]


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "leaky_relu"])
def test_units_that_pass_a_gradient_are_not_dead(name):
    values, _, _ = look("units", *network(activation=name))
    assert all(v == 0 for (_, _, quantity, _), v in values.items() if quantity == "dead_units")


def test_updates_lost_to_rounding():
    net, x, y = network(activation="relu", hidden=(9, 9))
    net.dense[0].b.value[:3] = -1e6
    values, _, optimizer = look("updates", net, x, y, sgd(1e-6))
    before = net.parameters.theta.copy()
    optimizer.apply()
    start = 0
    for i, dense in enumerate(net.dense):
        part = slice(start, start + dense.W.size)
        same = before[part] == net.parameters.theta[part]
        zero = net.parameters.grad[part] == 0
        assert as_layer(net, values, "zero_gradients")[i] == pytest.approx(np.mean(zero))
        assert as_layer(net, values, "lost_updates")[i] == pytest.approx(np.mean(same & ~zero))
        start += dense.W.size
    assert as_layer(net, values, "lost_updates")[1] > 0.2 and as_layer(net, values, "zero_gradients")[0] >= 1 / 3


def test_coherence_tells_cancelled_from_vanished():
    net, x, y = network(dtype="float64")
    values, _, _ = look("coherence", net, x, y)
    wanted = [np.linalg.norm(d.mean(axis=0)) / np.sqrt(np.mean(np.sum(d**2, axis=1))) for d in deltas(net)]
    np.testing.assert_allclose(as_layer(net, values, "delta_coherence"), wanted)
    one, _, _ = look("coherence", *[network(dtype="float64", batch=1)][0])
    assert all(v == pytest.approx(1) for v in one.values())


@pytest.mark.parametrize("scale", [1.0, 1e-200])
def test_signal_to_noise_needs_no_gradient_of_a_sample(scale):
    net, x, y = network(dtype="float64", batch=40)
    net.dense[-1].W.value *= scale  # delta of the hidden layers scales with it
    values, _, _ = look("signal_to_noise", net, x, y)
    for i, g in enumerate(by_sample(net, x, y)):
        g = g / np.abs(g).max()
        mean = g.mean(axis=0)
        cov = ((g - mean) ** 2).sum() / (len(g) - 1)
        assert as_layer(net, values, "gradient_snr")[i] == pytest.approx((mean**2).sum() / (cov / len(g)), rel=1e-9)


@pytest.mark.parametrize("model", [mlp, residual_mlp])
def test_jacobian_against_differences(model):
    net, x, y = network(model, dtype="float64", dropout=0.4)
    values, probe, _ = look("jacobian", net, x, y)
    replica = ProbeContext(net, sgd(0.1), x).replica(32)
    for sample in range(4):
        J = np.empty((N_OUT, N_IN))
        for j in range(N_IN):
            ends = []
            for h in (1e-6, -1e-6):
                moved = x[:32].copy()
                moved[sample, j] += h
                ends.append(replica.forward(moved, train=True)[sample].copy())
            J[:, j] = (ends[0] - ends[1]) / 2e-6
        want = np.linalg.svd(J, compute_uv=False)
        got = [values["", "", "jacobian_singular_value", sample * N_OUT + k] for k in range(N_OUT)]
        np.testing.assert_allclose(got, want, rtol=1e-7)
    assert len(probe.keys) == 4 * N_OUT


def test_orthogonal_linear_nets_have_unit_spectra():
    rng = np.random.default_rng(0)
    net = mlp(20, [20] * 10, 20, "linear", initializer="orthogonal", dtype="float64").bind(40)
    values, _, _ = look("jacobian", net, rng.standard_normal((40, 20)), rng.integers(0, 20, 40))
    np.testing.assert_allclose(list(values.values()), 1, rtol=1e-10)  # Saxe et al. 2014


def test_weights():
    net, x, y = network()
    values, _, _ = look("weights", net, x, y, steps=4)
    start = np.concatenate([w.W.value.reshape(-1) for w in network()[0].dense])
    at = 0
    for i, dense in enumerate(net.dense):
        W = dense.W.value.astype(np.float64)
        s = np.sqrt(np.linalg.eigvalsh(W.T @ W).max())
        assert as_layer(net, values, "spectral_norm")[i] == pytest.approx(s)
        assert as_layer(net, values, "stable_rank")[i] == pytest.approx((W**2).sum() / s**2)
        W0 = start[at : at + W.size]
        moved = np.linalg.norm(W.reshape(-1) - W0) / np.linalg.norm(W0)
        assert as_layer(net, values, "distance_from_init")[i] == pytest.approx(moved) and moved > 0
        at += W.size


def test_every_w_is_found_where_recurrent_weights_lie_between():
    rng = np.random.default_rng(0)
    net, x, y = rnn((4, 5), [6, 6], 3, seed=1).bind(8), rng.standard_normal((8, 4, 5), "f"), rng.integers(0, 3, 8)
    assert as_layer(net, look("weights", net, x, y)[0], "distance_from_init") == [0] * 3
    scales, _, optimizer = look("scales", net, x, y, adam(1e-8))
    named = net.parameters.views(optimizer.u.copy())
    lost = look("updates", net, x, y, adam(1e-8))[0]
    net.cost(x, y)
    net.backward()
    first = [dense.W.grad.copy() for dense in net.dense]
    cosines = look("direction", net, x, y, adam(0.1), steps=2)[0]
    net.cost(x, y)
    net.backward()
    for i, dense in enumerate(net.dense):
        g = dense.W.grad
        cosine = (first[i] * g).sum() / np.linalg.norm(first[i]) / np.linalg.norm(g)
        assert as_layer(net, cosines, "gradient_cosine")[i] == pytest.approx(cosine, rel=1e-5)
    net = rnn((4, 5), [6, 6], 3, seed=1).bind(8)
    for i, dense in enumerate(net.dense):
        W, u = dense.W.value, named[dense.W.name]
        ratio = abs(optimizer.factor) * np.linalg.norm(u) / np.linalg.norm(W)
        assert as_layer(net, scales, "update_ratio")[i] == pytest.approx(ratio, rel=1e-5)
        same = (W + optimizer.factor * u == W) & (u != 0)
        assert as_layer(net, lost, "lost_updates")[i] == pytest.approx(np.mean(same))


def test_histograms_count_everything_once():
    edges = np.linspace(-20, 6, 53)
    v = np.concatenate([[0, 0, np.nan, -np.inf, 1e-30, -1e7], np.random.default_rng(0).standard_normal(1000) * 1e-3])
    shares = log_histogram(v.astype(np.float32))
    assert shares.sum() == pytest.approx(1)
    got = [shares[i] * v.size for i in (ZERO, BELOW, ABOVE, NOT_FINITE)]
    np.testing.assert_allclose(got, [2, 1, 1, 2])
    plain, _ = np.histogram(np.log10(np.abs(v[6:])), edges)
    np.testing.assert_allclose(shares[BELOW + 1 : ABOVE] * v.size, plain, atol=1e-9)
    values, _, _ = look("histograms", *network())
    assert sum(values.values()) == pytest.approx(2 * 4)


def test_direction_compares_with_the_step_before():
    values, _, _ = look("direction", *network(dtype="float64", batch=20))
    assert all(math.isnan(v) for v in values.values())
    net, x, y = network(dtype="float64", batch=20)
    net.cost(x, y)
    net.backward()
    first = [d.W.grad.copy() for d in net.dense]
    values, _, _ = look("direction", net, x, y, adam(0.01), steps=2)
    net2 = net.replica(20)
    net2.cost(x, y)
    net2.backward()
    for i, dense in enumerate(net2.dense):
        want = (first[i] * dense.W.grad).sum() / np.linalg.norm(first[i]) / np.linalg.norm(dense.W.grad)
        assert as_layer(net, values, "gradient_cosine")[i] == pytest.approx(want)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("optimizer", [sgd, adam])
def test_probes_only_read(name, optimizer):
    def train(measured):
        net, x, y = network(normalization="batch", dropout=0.3, dtype="float32")
        chain = optimizer(0.01, clip_norm=0.1, clip_value=0.05).bind(net.parameters)
        probe_set = ProbeSet([(PROBES[name](ProbeContext(net, chain, x)), Every(1))] if measured else [])
        for step in range(4):
            net.cost(x, y)
            net.backward()
            for probe in probe_set.at(step):
                probe.on_gradient(step)
            chain.propose()
            for probe in probe_set.at(step):
                probe.on_update(chain)
            chain.apply()
        return b"".join(v.tobytes() for v in net.state_dict().values())

    assert train(True) == train(False)


@pytest.mark.parametrize("name", PROBES)
def test_a_short_batch_and_a_net_without_hidden_layers(name):
    net, x, y = network()
    values, _, _ = look(name, net, x[:7], y[:7])
    assert values or name in ("clipping", "through_time", "attention", "state_jacobian")
    net, x, y = network(hidden=())
    look(name, net, x, y)


@pytest.mark.parametrize("name", PROBES)
def test_every_key_is_there_once(name):
    _, probe, _ = look(name, *network(residual_mlp, normalization="layer"), sgd(0.1, clip_norm=1.0))
    keys = [key for key in probe.keys if key[2] != "branch_gain"]
    assert len(set(keys)) == len(keys) and len(probe.values) == len(probe.keys)
    assert PROBES[name].__doc__ and PROBES[name].name == name


def test_schedules():
    sparse = ReportSchedule(10, 2)
    steps = range(61)
    assert [s for s in steps if sparse(s)] == [0, 1, 2, 4, 8, 20, 40, 60]
    assert [s for s in steps if LogSpaced()(s)] == [0, 1, 2, 4, 8, 16, 32]
    assert [s for s in steps if parse_schedule(25, sparse)(s)] == [0, 25, 50]
    assert [s for s in steps if parse_schedule("epoch", sparse)(s)] == [0, 10, 20, 30, 40, 50, 60]
    assert parse_schedule("log", sparse) == LogSpaced() and parse_schedule("sparse", sparse) is sparse
    for wrong in (0, -1, 1.5, True, "often"):
        with pytest.raises(ValueError, match="must be a number of steps"):
            parse_schedule(wrong, sparse)


def test_a_probe_with_a_lead_runs_before_it_is_due():
    net, x, _ = network()
    context = ProbeContext(net, sgd(0.1).bind(net.parameters), x)
    probe_set = ProbeSet([(PROBES["direction"](context), Every(5))])
    assert [s for s in range(12) if probe_set.at(s)] == [0, 4, 5, 9, 10]
    assert [s for s in range(12) if probe_set.measured(s)] == [0, 5, 10]


@pytest.mark.parametrize("size", [1e-200, 1e-25, 1.0, 1e25, 1e200])
def test_moments_at_every_size_of_float64(size):
    x = np.random.default_rng(0).standard_normal((50, 7)) + 0.3
    out = np.empty(4)
    TensorMoments(7, np.dtype(np.float64))(x * size, out)
    want = [x.mean(), np.abs(x).mean(), x.std(), math.sqrt(np.mean(x * x))]
    assert out / size == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_signal_to_noise_of_inputs_of_any_size_in_float64(size):
    rng = np.random.default_rng(0)
    x, y, found = rng.standard_normal((8, 4)), rng.integers(0, 3, 8), []
    for scale in (1.0, size):
        net = mlp(4, [5], 3, "tanh", dtype="float64", seed=0).bind(8)
        net.dense[0].W.value[...] /= scale  # what the first layer passes on stays what it is
        net.cost(x * scale, y)
        net.backward()
        probe = PROBES["signal_to_noise"](ProbeContext(net, sgd().bind(net.parameters), x))
        probe.on_gradient(0)
        found.append(probe.values[:-1].copy())  # the noise scale follows the inputs' size
    assert found[1] == pytest.approx(found[0], rel=1e-6)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_names_its_quantities(name):
    net, x, y = network(residual_mlp, normalization="layer", dropout=0.2)
    if name in ("through_time", "attention", "state_jacobian"):
        build = transformer if name == "attention" else rnn
        net, x = build((4, 5), [4], 2).bind(6), np.zeros((6, 4, 5), "f")
    optimizer = sgd(clip_norm=1.0, clip_value=1.0, clip_units=1.0).bind(net.parameters)
    probe = PROBES[name](ProbeContext(net, optimizer, x, y))
    several = {quantity for layer, operation, quantity, index in probe.keys if operation or index or not layer}
    assert several == set(probe.other_quantities)
    assert {key[2] for key in probe.keys} - several == set(probe.layer_quantities)


def test_a_jacobian_of_many_outputs_is_bounded_and_said():
    """One backward pass for each output of each sample: 10,000 outputs took minutes a measurement."""
    seen = {n: look("jacobian", *wide(n))[1] for n in (100, 200, 501)}
    assert {n: (probe.few, probe.left_out) for n, probe in seen.items()} == {
        100: (4, ""),
        200: (2, ""),
        501: (0, "probes.jacobian: 501 outputs are more than 500"),
    }
    assert len(seen[501].keys) == 0


def wide(n):
    rng = np.random.default_rng(0)
    net = mlp(3, [4], n, "tanh", seed=0).bind(8)
    return net, rng.standard_normal((8, 3), np.float32), rng.integers(0, n, 8)
