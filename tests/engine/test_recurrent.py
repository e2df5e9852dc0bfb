"""Recurrent layers against differences, against PyTorch, and by what truncation, initializers and starts promise."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from conftest import thinned

from bpx.engine import ACTIVATIONS, LOSSES, Recurrent, gradcheck, gru, lstm, rnn, sgd
from bpx.engine.losses import MeanSquaredError

MODELS = {"rnn": rnn, "lstm": lstm, "gru": gru}
STEPS, FEATURES, OUTPUTS = 5, 3, 3


def batch(loss, n=4, steps=STEPS, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, steps, FEATURES))
    y = rng.standard_normal((n, OUTPUTS)) if loss == MeanSquaredError.name else rng.integers(0, OUTPUTS, n)
    return x, y


def drawn(model, hidden=(4, 3), seed=0, **given):
    net = MODELS[model]((given.pop("steps", STEPS), FEATURES), hidden, OUTPUTS, dtype="float64", seed=seed, **given)
    rng = np.random.default_rng(seed + 7)
    net.parameters.theta += 0.1 * rng.standard_normal(net.parameters.theta.size)
    return net


@pytest.mark.parametrize(("model", "loss", "train"), thinned(MODELS, LOSSES, [True, False]))
def test_gradients_agree_with_differences(model, loss, train):
    net = drawn(model, loss=loss, learn_start=True, dropout=0.2).bind(4)
    check = gradcheck(net, *batch(loss), train=train)
    assert check.passed, (check.relative, check.worst, [c for c in check.layers if not c.passed])
    names = {t.name.rpartition(".")[2] for t in check.tensors if t.relative is not None}
    assert {"W", "b", "h0"} <= names and ("c0" in names) == (model == "lstm")


@pytest.mark.parametrize(("model", "loss"), thinned(MODELS, LOSSES))
def test_gradients_of_a_loss_at_every_step_agree_with_differences(model, loss):
    net = drawn(model, loss=loss, learn_start=True, loss_at="every").bind(4)
    x, y = batch(loss, 4 * STEPS, 1)
    check = gradcheck(net, x.repeat(STEPS, axis=1)[:4], y.reshape(4, STEPS, *y.shape[1:]))
    assert check.passed, (check.relative, check.worst, [c for c in check.layers if not c.passed])
    with pytest.raises(ValueError, match=r"targets must be \(4, 5\), one a step, got \(4,\)"):
        net.cost(x[:4].repeat(STEPS, axis=1), np.zeros(4, int))


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "prelu"])
def test_every_activation_agrees_with_differences(activation):
    check = gradcheck(drawn("rnn", activation=activation).bind(4), *batch("softmax_cross_entropy"))
    assert check.passed, (check.relative, check.worst)


def torch_twin(net, model):
    torch = pytest.importorskip("torch")
    sizes = [FEATURES, *(layer.n_out for layer in net.layers() if isinstance(layer, Recurrent))]
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[model]
    cells = [kind(a, b, batch_first=True, dtype=torch.float64) for a, b in pairwise(sizes)]
    out = torch.nn.Linear(sizes[-1], OUTPUTS, dtype=torch.float64)
    recurrent = [layer for layer in net.layers() if isinstance(layer, Recurrent)]
    with torch.no_grad():
        for cell, layer, dense in zip(cells, recurrent, net.dense, strict=False):
            cell.weight_ih_l0.copy_(torch.tensor(dense.W.value.T.copy()))
            cell.weight_hh_l0.copy_(torch.tensor(layer.W.value.T.copy()))
            cell.bias_ih_l0.copy_(torch.tensor(dense.b.value.copy()))
            cell.bias_hh_l0.zero_()
            if model == "gru":
                cell.bias_hh_l0[2 * layer.n_out :] = torch.tensor(layer.b.value.copy())
            else:
                cell.bias_hh_l0.requires_grad = False
        out.weight.copy_(torch.tensor(net.dense[-1].W.value.T.copy()))
        out.bias.copy_(torch.tensor(net.dense[-1].b.value.copy()))
    return torch, cells, out, recurrent


@pytest.mark.parametrize("model", MODELS)
def test_twenty_steps_agree_with_pytorch(model):
    net = drawn(model, hidden=(6, 5), steps=12).bind(8)
    torch, cells, out, recurrent = torch_twin(net, model)
    trained = [p for part in (*cells, out) for p in part.parameters() if p.requires_grad]
    x, y = batch("softmax_cross_entropy", 8, 12)
    optimizer, other = sgd(lr=0.5).bind(net.parameters), torch.optim.SGD(trained, 0.5)
    for _ in range(20):
        cost = net.cost(x, y)
        net.backward()
        optimizer.propose()
        optimizer.apply()
        h = torch.tensor(x)
        for cell in cells:
            h, _ = cell(h)
        loss = torch.nn.functional.cross_entropy(out(h[:, -1]), torch.tensor(y))
        other.zero_grad()
        loss.backward()
        for cell in cells:
            if model == "gru":  # a bias of both products at r and z: one parameter here
                cell.bias_hh_l0.grad[: 2 * cell.hidden_size] = 0
        other.step()
        assert cost == pytest.approx(loss.item(), abs=1e-10)
    for cell, layer, dense in zip(cells, recurrent, net.dense, strict=False):
        np.testing.assert_allclose(layer.W.value, cell.weight_hh_l0.detach().numpy().T, rtol=0, atol=1e-10)
        np.testing.assert_allclose(dense.W.value, cell.weight_ih_l0.detach().numpy().T, rtol=0, atol=1e-10)
    assert loss.item() < 1.0


@pytest.mark.parametrize("model", MODELS)
def test_twenty_steps_of_all_settings_agree_with_pytorch(model):
    """A loss at every step, a start that is learned, and the gradient cut after four steps of ten."""
    steps, k, n = 10, 4, 6
    net = drawn(model, hidden=(5,), steps=steps, truncate=k, learn_start=True, loss_at="every").bind(n)
    torch, (cell,), out, (layer,) = torch_twin(net, model)
    starts = [torch.tensor(getattr(layer, key).value.copy(), requires_grad=True) for key in layer.states]
    trained = [*starts, *(p for part in (cell, out) for p in part.parameters() if p.requires_grad)]
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((n, steps, FEATURES)), rng.integers(0, OUTPUTS, (n, steps))
    optimizer, other = sgd(lr=0.5).bind(net.parameters), torch.optim.SGD(trained, 0.5)
    for _ in range(20):
        cost = net.cost(x, y)
        net.backward()
        optimizer.propose()
        optimizer.apply()
        state, outputs = [s.expand(1, n, -1).contiguous() for s in starts], []
        for piece in torch.tensor(x).split(k, dim=1):
            h, state = cell(piece, tuple(state) if len(state) > 1 else state[0])
            state = [s.detach() for s in (state if isinstance(state, tuple) else (state,))]
            outputs.append(h)
        loss = torch.nn.functional.cross_entropy(out(torch.cat(outputs, 1)).flatten(0, 1), torch.tensor(y).flatten())
        other.zero_grad()
        loss.backward()
        if model == "gru":
            cell.bias_hh_l0.grad[: 2 * cell.hidden_size] = 0
        other.step()
        assert cost == pytest.approx(loss.item(), abs=1e-10)
    np.testing.assert_allclose(layer.W.value, cell.weight_hh_l0.detach().numpy().T, rtol=0, atol=1e-10)
    for key, start in zip(layer.states, starts, strict=True):
        np.testing.assert_allclose(getattr(layer, key).value, start.detach().numpy(), rtol=0, atol=1e-10)
    predicted, (found, accuracy) = net.predict(x), net.evaluate(x, y)
    z = out(torch.cat(outputs, 1)).detach().numpy()
    assert predicted.shape == z.shape and accuracy == np.mean(predicted.argmax(-1) == y) and found < cost


@pytest.mark.parametrize("model", MODELS)
def test_truncation_is_that_of_a_detached_state(model):
    steps, k = 7, 3
    net = drawn(model, hidden=(4,), steps=steps, truncate=k).bind(4)
    torch, (cell,), out, (layer,) = torch_twin(net, model)
    x, y = batch("softmax_cross_entropy", 4, steps)
    net.cost(x, y)
    net.backward()
    state, pieces = None, torch.tensor(x).split(k, dim=1)
    for piece in pieces:
        if state is not None:
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
        h, state = cell(piece, state)
    torch.nn.functional.cross_entropy(out(h[:, -1]), torch.tensor(y)).backward()
    np.testing.assert_allclose(layer.W.grad, cell.weight_hh_l0.grad.numpy().T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(net.dense[0].W.grad, cell.weight_ih_l0.grad.numpy().T, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="truncate leaves out a part of the gradient"):
        gradcheck(net, x, y)
    assert not layer.dh[:, : steps // k * k].any()
    assert layer.dh[:, steps // k * k :].any()


@pytest.mark.parametrize("model", MODELS)
def test_gradient_by_step_is_that_of_the_state(model):
    """dh_t is dJ/dh_t: moving the start of a net that begins at step t moves the cost by it."""
    net = drawn(model, hidden=(4,), learn_start=True).bind(1)
    x, y = batch("softmax_cross_entropy", 1)
    net.cost(x, y)
    net.backward()
    layer = next(layer for layer in net.layers() if isinstance(layer, Recurrent))
    for t in range(STEPS - 1):
        rest = drawn(model, hidden=(4,), steps=STEPS - 1 - t, learn_start=True).bind(1)
        rest.load_state_dict(net.state_dict())
        behind = next(other for other in rest.layers() if isinstance(other, Recurrent))
        behind.h0.value[...] = layer.y[0, t]
        if model == "lstm":
            behind.c0.value[...] = layer.c[t + 1, 0]
        rest.cost(x[:, t + 1 :], y)
        rest.backward()
        np.testing.assert_allclose(layer.dh[0, t], behind.h0.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("model", MODELS)
def test_short_batches_and_replicas_are_the_same_network(model):
    net = drawn(model).bind(8)
    x, y = batch("softmax_cross_entropy", 8)
    net.cost(x, y)
    costs = [net.cost(x[i : i + 3], y[i : i + 3]) for i in (0, 3)]
    twin = net.replica(3)
    assert costs == [twin.cost(x[i : i + 3], y[i : i + 3]) for i in (0, 3)]
    assert net.predict(x.reshape(8, -1)).shape == (8, OUTPUTS)


def test_initializers_of_the_recurrent_weights():
    for model, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        for how in ("orthogonal", "identity"):
            net = MODELS[model]((5, 3), [6], 2, recurrent=how, recurrent_scale=0.5, dtype="float64")
            W = next(layer for layer in net.layers() if isinstance(layer, Recurrent)).W.value
            for k in range(gates):
                part = W[:, 6 * k : 6 * k + 6]
                np.testing.assert_allclose(part.T @ part, 0.25 * np.eye(6), atol=1e-12)
                assert (how == "identity") == np.allclose(part, 0.5 * np.eye(6))


def test_gates_that_keep_the_state_start_at_their_bias():
    b = lstm((5, 3), [6], 2, forget_bias=3.0).dense[0].b.value
    assert (b == np.repeat([0, 3, 0, 0], 6)).all()
    b = gru((5, 3), [6], 2, update_bias=3.0).dense[0].b.value
    assert (b == np.repeat([0, 3, 0], 6)).all()


@pytest.mark.parametrize("model", MODELS)
def test_what_does_not_fit_is_named(model):
    build = MODELS[model]
    for given, said in (
        ({"truncate": 6}, "model.truncate must be at most the 5 steps of a sample, got 6"),
        ({"truncate": 0}, "model.truncate must be at least 1, got 0"),
        ({"recurrent": "no"}, "model.recurrent must be same or orthogonal or identity, got no"),
        ({"recurrent_scale": 0.0}, "model.recurrent_scale must be a positive number"),
        ({"normalization": "layer"}, f"model={model} takes no normalization, got layer"),
    ):
        with pytest.raises(ValueError, match=said):
            build((5, 3), [4], 2, **given)
    with pytest.raises(ValueError, match="samples"):
        build((15,), [4], 2)


@pytest.mark.parametrize("model", MODELS)
def test_a_step_allocates_nothing_that_grows_with_the_steps(model):
    peaks = []
    for steps in (20, 200):
        net = MODELS[model]((steps, 8), [32], 4).bind(16)
        x, y = np.ones((16, steps, 8), np.float32), np.zeros(16, np.int64)
        for _ in range(2):
            net.cost(x, y)
            net.backward()
        tracemalloc.start()
        net.cost(x, y)
        net.backward()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < max(1.5 * peaks[0], 64 * 1024)
