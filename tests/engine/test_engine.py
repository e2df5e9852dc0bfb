"""Facts about the parts of the engine that no gradient shows."""

import inspect
import json
import math
import re
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from bpx.engine import (
    ACTIVATIONS,
    INITIALIZERS,
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
    Activation,
    BatchNorm,
    Dropout,
    mlp,
    recommended_gain,
    residual_mlp,
    sgd,
)
from bpx.engine.blas import norm
from bpx.engine.features import Scaler
from bpx.engine.lsuv import scale_to_unit_variance
from bpx.engine.model_files import load_model, save_model
from bpx.engine.models import build
from bpx.engine.spec import NetworkSpec

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_largest_slope_is_reached_and_monotone_is_so(name):
    phi = ACTIVATIONS[name]()
    z = np.linspace(-40, 40, 1_000_001)[None]
    a, d = np.empty_like(z), np.empty_like(z)
    phi.f(z, a)
    phi.df(z, a, d)
    assert np.abs(d).max() == pytest.approx(phi.max_slope, rel=1e-8)
    assert phi.monotone == bool((d >= 0).all())


def test_published_activation_values():
    values = {"selu": 1.0507009873554805, "gelu": 0.8413447460685429, "silu": 0.7310585786300049,
              "softplus": 1.3132616875182228, "softsign": 0.5, "sigmoid": 0.7310585786300049,
              "sin": 0.8414709848078965, "mish": 0.8650983882673103, "hard_swish": 2 / 3}  # fmt: skip
    for name, at_one in values.items():
        a = np.empty((1, 1))
        ACTIVATIONS[name]().f(np.ones((1, 1)), a)
        assert a[0, 0] == pytest.approx(at_one, rel=1e-12), name


def test_prelu_learns_its_slope_and_a_saved_network_has_it(rng, tmp_path):
    net = mlp(4, [6, 6], 3, {"name": "prelu", "slope": 0.1}, dtype="float64").bind(8)
    optimizer = OPTIMIZERS["sgd"](lr=0.5, weight_decay=0.1).bind(net.parameters)
    x, y = rng.standard_normal((8, 4)), rng.integers(0, 3, 8)
    slopes = [p for p in net.parameters if p.name.endswith(".slope")]
    assert [p.value.tolist() for p in slopes] == [[0.1], [0.1]] and not any(p.is_weight for p in slopes)
    for _ in range(5):
        net.cost(x, y)
        net.backward()
        optimizer.propose()
        optimizer.apply()
    assert all(abs(p.value[0] - 0.1) > 1e-3 for p in slopes)
    save_model(tmp_path, net, Scaler(np.zeros(4), np.ones(4)))
    np.testing.assert_array_equal(load_model(tmp_path).net.predict(x), net.predict(x))


N_IN, N_OUT = 400, 300
STD = {
    "normal": 0.01, "uniform": 1 / math.sqrt(3 * N_IN), "lecun_normal": N_IN**-0.5, "lecun_uniform": N_IN**-0.5,
    "xavier_normal": math.sqrt(2 / (N_IN + N_OUT)), "xavier_uniform": math.sqrt(2 / (N_IN + N_OUT)),
    "he_normal": math.sqrt(2 / N_IN), "he_uniform": math.sqrt(2 / N_IN),
}  # fmt: skip


@pytest.mark.parametrize("name", STD)
def test_initializers_have_their_distribution(name, rng):
    for keys, std in (({}, STD[name]), ({"sigma_w": 1.5}, 1.5 / math.sqrt(N_IN))):
        initializer, W = INITIALIZERS[name](**keys), np.empty((N_IN, N_OUT))
        initializer(rng, W)
        assert initializer.weight_std(N_IN, N_OUT) == pytest.approx(std)
        assert W.std() == pytest.approx(std, rel=0.01) and abs(W.mean()) < 4 * std / math.sqrt(W.size)
        if name == "uniform" or name.endswith("_uniform"):
            expected = stats.uniform(-math.sqrt(3) * std, 2 * math.sqrt(3) * std)
        else:
            expected = stats.norm(0, std)
        assert stats.kstest(W.ravel()[:5000], expected.cdf).pvalue > 1e-4


def test_other_initializers(rng):
    W = np.empty((6, 4))
    for name, value in (("zeros", 0), ("constant", 0.01)):
        INITIALIZERS[name]()(rng, W)
        assert (W == value).all()
    INITIALIZERS["identity"](gain=2.0)(rng, W)
    np.testing.assert_array_equal(W, 2 * np.eye(6, 4))
    for shape in ((50, 50), (80, 30), (30, 80)):
        W = np.empty(shape)
        INITIALIZERS["orthogonal"](gain=1.3)(rng, W)
        np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False), 1.3, rtol=1e-12)
    gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "leaky_relu": math.sqrt(2 / (1 + 0.01**2)), "sigmoid": 1}
    for name, gain in gains.items():
        assert recommended_gain(ACTIVATIONS[name]()) == pytest.approx(gain)
    with pytest.raises(ValueError, match="no gain for gelu"):
        recommended_gain(ACTIVATIONS["gelu"]())


def test_lsuv_gives_every_layer_unit_variance(rng):
    net = mlp(30, [40] * 6, 5, "tanh", dtype="float64", initializer="lsuv").bind(256)
    x = rng.standard_normal((256, 30)) * 7
    scale_to_unit_variance(net, x)
    net.forward(x, train=True)
    assert all(dense.y.std() == pytest.approx(1, abs=2e-3) for dense in net.dense)


@pytest.mark.filterwarnings("error")
def test_lsuv_scales_weights_of_any_size(rng):
    net = mlp(30, [40] * 6, 5, "tanh", initializer=INITIALIZERS["lsuv"](gain=1e30)).bind(64)
    scale_to_unit_variance(net, rng.standard_normal((64, 30)).astype(np.float32))
    assert np.isfinite(net.parameters.theta).all()


def test_biases_are_drawn_from_bias_std(rng):
    net = mlp(10, [4000], 2, initializer={"name": "lecun_normal", "bias_std": 0.3})
    assert net.dense[0].b.value.std() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_stable_at_ten_thousand(name, dtype):
    loss = LOSSES[name]()
    loss.bind(4, 3, np.dtype(dtype))
    z = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [0, 0, 0], [1e4, 1e4, 1e4]], dtype)
    with np.errstate(all="raise", under="ignore"):
        cost = loss.forward(z, np.array([1, 1, 2, 0]))
        dz = loss.backward()
        p = loss.predict(z)
    assert math.isfinite(cost) and np.isfinite(dz).all() and np.isfinite(p).all()
    if name == "softmax_cross_entropy":
        expected = (2e4 + math.log(2) + math.log(3) + math.log(3)) / 4
        assert cost == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(dz.sum(axis=1), 0, atol=1e-6)


def test_norms_of_the_tiniest_and_the_largest_float32():
    for size in (1e-25, 1.0, 1e25):
        assert norm(np.full(10_000, size, np.float32)) == pytest.approx(100 * size, rel=1e-5)


def test_dropout_keeps_the_mean_and_drops_its_share():
    layer = Dropout(0.3)
    layer.build("d", (1000,), None)
    layer.bind(200, np.dtype("float32"), np.random.default_rng(0))
    x = np.ones((200, 1000), np.float32)
    y = layer.forward(x, train=True)
    assert np.mean(y == 0) == pytest.approx(0.3, abs=0.005) and y.mean() == pytest.approx(1, abs=0.01)
    first = y.copy()
    assert (layer.forward(x, train=True) != first).any()
    assert layer.forward(x, train=False) is x


def test_batch_norm_normalizes_and_remembers():
    net = mlp(4, [6], 3, normalization="batch", dtype="float64").bind(64)
    norm_layer = next(layer for layer in net.layers() if isinstance(layer, BatchNorm))
    x = np.random.default_rng(0).standard_normal((64, 4)) * 3 + 2
    for _ in range(200):
        net.forward(x, train=True)
    np.testing.assert_allclose(norm_layer.y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(norm_layer.y.std(axis=0), 1, rtol=1e-4)
    z = net.dense[0].y
    np.testing.assert_allclose(norm_layer.running_mean, z.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(norm_layer.running_var, z.var(axis=0, ddof=1), rtol=1e-6)
    assert net.dense[0].b is None and net.dense[1].b is not None


def train(dtype="float32", model=mlp):
    rng = np.random.default_rng(5)
    net = model(8, [16, 16], 3, "tanh", normalization="batch", dropout=0.2, dtype=dtype, seed=3)
    net.bind(10, np.random.default_rng(6))
    optimizer = OPTIMIZERS["adam"](lr=0.01, clip_norm=1.0).bind(net.parameters)
    x, y = rng.standard_normal((40, 8)).astype(dtype), rng.integers(0, 3, 40)
    costs = []
    for _ in range(20):
        for rows in range(0, 40, 10):
            costs.append(net.cost(x[rows : rows + 10], y[rows : rows + 10]))
            net.backward()
            optimizer.propose()
            optimizer.apply()
    return net, x, y, costs


@pytest.mark.parametrize("model", [mlp, residual_mlp])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_seed_same_bits_and_it_learns(dtype, model):
    (a, x, y, costs), (b, *_) = train(dtype, model), train(dtype, model)
    assert a.parameters.theta.tobytes() == b.parameters.theta.tobytes()
    assert a.parameters.theta.dtype == dtype
    assert np.mean(costs[-8:]) < 0.8 * np.mean(costs[:8])
    cost, accuracy = a.evaluate(x, y)
    assert math.isfinite(cost) and accuracy > 0.6


def test_a_twin_touches_nothing_of_training():
    net, x, y, _ = train()
    before, buffers = net.state_dict(), [layer.y.copy() for layer in net.layers()]
    grad = net.parameters.grad.copy()
    replica = net.replica(40)
    replica.cost(x, y)
    replica.backward()
    assert np.linalg.norm(replica.parameters.grad) > 0
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[key])
    np.testing.assert_array_equal(net.parameters.grad, grad)
    for layer, kept in zip(net.layers(), buffers, strict=True):
        np.testing.assert_array_equal(layer.y, kept)
    net.parameters.theta += 1
    np.testing.assert_array_equal(replica.parameters.theta, net.parameters.theta)


@pytest.mark.parametrize("model", [mlp, residual_mlp])
def test_a_network_survives_its_description(model, tmp_path):
    from bpx.engine.features import Scaler
    from bpx.engine.model_files import load_model, save_model

    net, x, *_ = train(model=model)
    description = json.loads(json.dumps(net.spec.as_dict()))
    other = build(NetworkSpec.from_dict(description))
    assert other.spec.as_dict() == description and other.loss is not net.loss
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(net.predict(x), other.predict(x))
    save_model(tmp_path, net, Scaler(np.full(8, 2.0), np.full(8, 4.0)), ("a", "b", "c"))
    loaded = load_model(tmp_path)
    np.testing.assert_allclose(loaded.predict(x * 4 + 2), net.predict(x), atol=1e-6)
    assert loaded.class_names == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"state\['theta'\]: expected float32"):
        mlp(8, [5], 3).load_state_dict(net.state_dict())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_step_allocates_little(activation, rng):
    net = mlp(784, [128, 64], 10, activation).bind(32)
    optimizer = sgd(0.01).bind(net.parameters)
    x, y = rng.random((32, 784), dtype=np.float32), rng.integers(0, 10, 32)

    def step():
        net.cost(x, y)
        net.backward()
        optimizer.propose()
        optimizer.apply()

    step()
    tracemalloc.start()
    step()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    step()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 64 * 1024


def test_short_batches_and_many_samples(rng):
    net = mlp(5, [7], 3).bind(8)
    x = rng.standard_normal((2503, 5))
    p = net.predict(x)
    assert p.shape == (2503, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(net.predict(x[:1]), p[:1], rtol=1e-5)
    assert net.predict(x[:0]).shape == (0, 3)
    with pytest.raises(ValueError, match="9 rows"):
        net.forward(x[:9].astype("float32"), train=True)
    with pytest.raises(ValueError, match=r"\(samples, 5\)"):
        net.predict(x[:, :4])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: mlp(3, [0], 2), "width"),
        (lambda: mlp(3, 4, 2), "list the widths"),
        (lambda: mlp(3, [4], 2, "rellu"), "known are linear"),
        (lambda: mlp(3, [4], 2, normalization="group"), "known are none"),
        (lambda: mlp(3, [4], 2, initializer={"name": "normal", "sd": 1}), "normal has no setting 'sd': known are"),
        (lambda: mlp(3, [4], 2, dropout=1.0), r"\[0, 1\)"),
        (lambda: residual_mlp(3, [4, 5], 2), "keep its width"),
        (lambda: OPTIMIZERS["sgd"](lr=-1), "lr must be positive"),
        (lambda: OPTIMIZERS["adam"](lr=math.nan), "lr must be positive"),
        (lambda: OPTIMIZERS["momentum"](momentum=1.0), r"\[0, 1\)"),
        (lambda: INITIALIZERS["he_normal"](gain=1, sigma_w=1), "not both"),
        (lambda: SCHEDULES["cosine"](final=2), "final"),
        (lambda: SCHEDULES["constant"](warmup_steps=-1), "warmup_steps"),
    ],
)
def test_mistakes_are_named(wrong, said):
    with pytest.raises(ValueError, match=said) as error:
        wrong()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "thing",
    [
        *ACTIVATIONS.values(),
        *INITIALIZERS.values(),
        *LOSSES.values(),
        *SCHEDULES.values(),
        *OPTIMIZERS.values(),
    ],
    ids=lambda c: c.__name__,
)
def test_everything_registered_explains_itself(thing):
    text = inspect.getdoc(thing)
    assert text and text.split("\n")[0].endswith((".", ")", ":")), thing
    assert re.search(r"[=+*/]|\d{4}|zero|equal|identity|rate", text), f"{thing} gives neither formula nor source"


def test_activation_layers_are_pure():
    for name, cls in ACTIVATIONS.items():
        layer = Activation(cls())
        layer.build("a", (5,), None)
        layer.bind(3, np.dtype("float64"), None)
        z = np.random.default_rng(0).standard_normal((3, 5))
        dy, kept = np.ones((3, 5)), z.copy()
        layer.forward(z, train=True)
        layer.backward(dy)
        np.testing.assert_array_equal(z, kept, err_msg=name)
        np.testing.assert_array_equal(dy, 1, err_msg=name)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error"])
@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "bool"])
def test_one_hot_targets_are_the_labels(loss, kind, rng):
    net = mlp(4, [5], 3, "tanh", loss=loss).bind(6)
    x, y = rng.normal(size=(6, 4)).astype(np.float32), np.arange(6) % 3
    cost = net.cost(x, y)
    net.backward()
    grad = net.parameters.grad.copy()
    assert net.cost(x, np.eye(3)[y].astype(kind)) == pytest.approx(cost, rel=1e-6)
    net.backward()
    np.testing.assert_allclose(net.parameters.grad, grad, atol=1e-7)
    if loss == "softmax_cross_entropy":
        with pytest.raises(ValueError, match="one-hot"):
            net.cost(x, np.full((6, 3), 1 / 3))
