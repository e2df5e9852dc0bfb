"""Networks of the engine as PyTorch modules and back: the same outputs, before and after."""

import numpy as np
import pytest

from bpx.engine import ACTIVATIONS, mlp, models, residual_mlp, sgd

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from bpx.torch import from_torch, to_torch  # noqa: E402

nn = torch.nn
HAS_NO_MODULE = ("sin",)


def trained(model, activation, normalization, dtype="float32"):
    net = model(6, [8, 8], 3, activation, normalization=normalization, dropout=0.2, dtype=dtype).bind(16)
    optimizer = sgd(0.05).bind(net.parameters)
    rng = np.random.default_rng(0)
    for _ in range(5):
        net.cost(rng.standard_normal((16, 6)).astype(dtype), rng.integers(0, 3, 16))
        net.backward()
        optimizer.propose()
        optimizer.apply()
    return net


@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "rms"])
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name not in HAS_NO_MODULE])
@pytest.mark.parametrize("model", [mlp, residual_mlp])
def test_outputs_are_equal_there_and_back(model, activation, normalization):
    net = trained(model, activation, normalization)
    x = np.random.default_rng(1).standard_normal((40, 6)).astype("f")
    module = to_torch(net).eval()
    with torch.no_grad():
        there = module(torch.from_numpy(x)).softmax(1).numpy()
    np.testing.assert_allclose(there, net.predict(x), rtol=1e-5, atol=1e-6)
    back = from_torch(module)
    np.testing.assert_allclose(back.predict(x), net.predict(x), rtol=1e-5, atol=1e-6)
    assert back.parameters.theta.tobytes() == net.parameters.theta.tobytes()
    for key, value in net.state_dict().items():  # the engine keeps running statistics in float64
        np.testing.assert_allclose(back.state_dict()[key], value, rtol=1e-6)


SETTINGS = {
    "branches of two layers, 1/sqrt(L)": {"branch_scale": "inv_sqrt", "layers_per_branch": 2, "normalization": "batch"},
    "SkipInit": {"branch_scale": "zero"},
    "post-norm": {"norm_position": "post", "normalization": "layer"},
    "prelu": {"activation": "prelu", "normalization": "rms"},
}


@pytest.mark.parity
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_twenty_steps_of_sgd_are_those_of_the_engine(settings):
    words = {"activation": "tanh", "normalization": "none"} | settings
    net = residual_mlp(6, [8] * 5, 3, dtype="float64", seed=1, **words).bind(16)
    module = to_torch(net)
    ours, theirs = sgd(0.1).bind(net.parameters), torch.optim.SGD(module.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.standard_normal((16, 6)), rng.integers(0, 3, 16)
        net.cost(x, y)
        net.backward()
        ours.propose()
        ours.apply()
        theirs.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        theirs.step()
    trained = from_torch(module)
    assert not np.array_equal(trained.parameters.theta, residual_mlp(6, [8] * 5, 3, seed=1, **words).parameters.theta)
    np.testing.assert_allclose(trained.parameters.theta, net.parameters.theta, rtol=0, atol=1e-10)
    np.testing.assert_allclose(trained.predict(x), net.predict(x), rtol=0, atol=1e-10)


IMAGES, TOKENS = (9, 8, 3), (5, 4)
POSITIONED = {  # model, shape of a sample, settings
    "LeNet": ("convnet", IMAGES, {"hidden": [7], "channels": [3, 4], "kernel": 3, "normalization": "batch"}),
    "plain convolutions": ("plain_conv", IMAGES, {"hidden": [5] * 2, "stride": 2, "activation": "prelu"}),
    "residual convolutions": ("residual_conv", IMAGES, {"hidden": [5] * 3, "normalization": "layer"}),
    "rnn": ("rnn", TOKENS, {"hidden": [6, 5], "truncate": 2, "learn_start": True}),
    "rnn, gelu": ("rnn", TOKENS, {"hidden": [6], "activation": "gelu", "learn_start": True}),
    "lstm": ("lstm", TOKENS, {"hidden": [6, 5], "truncate": 4, "learn_start": True}),
    "gru": ("gru", TOKENS, {"hidden": [6, 5]}),
    "pre-norm": ("transformer", TOKENS, {"hidden": [8, 8], "heads": 2}),
    "post-norm": ("transformer", TOKENS, {"hidden": [8], "norm_position": "post", "normalization": "batch"}),
}


def positioned(name, dtype="float64"):
    """Return a model whose samples have positions, every number of it moved, and data for it."""
    model, shape, settings = POSITIONED[name]
    net, rng = getattr(models, model)(shape, n_out=3, dtype=dtype, **settings), np.random.default_rng(0)
    for value in net.tensors().values():
        value += rng.uniform(0, 0.2, value.shape).astype(dtype)
    return net, rng.standard_normal((6, *shape)).astype(dtype), rng.integers(0, 3, 6)


@pytest.mark.parametrize("name", POSITIONED)
def test_models_with_positions_there_and_back(name):
    net, x, _ = positioned(name)
    state = torch.get_rng_state()
    module = to_torch(net).eval()
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)).softmax(1), net.predict(x), rtol=1e-12, atol=1e-14)
    back = from_torch(module, shape=net.shape)
    assert back.parameters.theta.tobytes() == net.parameters.theta.tobytes()
    np.testing.assert_allclose(back.predict(x), net.predict(x), rtol=1e-14, atol=1e-15)


@pytest.mark.parity
@pytest.mark.parametrize("name", POSITIONED)
def test_gradients_of_models_with_positions_are_those_of_the_engine(name):
    net, x, y = positioned(name)
    module = to_torch(net.bind(6))
    net.cost(x, y)
    net.backward()
    nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    with torch.no_grad():  # the gradients in the places of the weights
        for key, p in module.named_parameters():
            p.copy_(torch.zeros(()) if "bias_hh" in key and "gru" not in name else p.grad)
            if "bias_hh" in key and "gru" in name:  # of the candidate alone it is a number of its own
                p[: 2 * len(p) // 3] = 0
    gradients = from_torch(module, shape=net.shape).parameters.theta
    np.testing.assert_allclose(gradients, net.parameters.grad, rtol=1e-9, atol=1e-12)


CHAIN = nn.Sequential(
    *(nn.Conv2d(3, 6, 3, padding="same"), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(6, 5, 1, stride=2, bias=False), nn.Flatten(), nn.BatchNorm1d(30), nn.PReLU(), nn.Linear(30, 4)),
)
POOLED = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AvgPool2d(2, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


@pytest.mark.parametrize("module", [CHAIN, POOLED])
def test_a_convolutional_chain_of_pytorch(module):
    torch.manual_seed(0)
    module = module.double().train()
    x = torch.randn(6, 3, 8, 12, dtype=torch.float64)
    module(x)  # running statistics
    net = from_torch(module.eval(), shape=(3, 8, 12))
    with torch.no_grad():
        expected = module(x).softmax(1)
    np.testing.assert_allclose(net.predict(x.movedim(1, -1).numpy()), expected, rtol=1e-12, atol=1e-14)


def test_the_copies_share_no_memory():
    net = trained(mlp, "tanh", "batch")
    before = net.parameters.theta.copy()
    module = to_torch(net)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    np.testing.assert_array_equal(net.parameters.theta, before)


@pytest.mark.parametrize("name", HAS_NO_MODULE)
def test_an_activation_without_a_module_is_named(name):
    with pytest.raises(ValueError, match=f"no counterpart for the activation {name}"):
        to_torch(mlp(6, [8], 3, name))


def behind_convolution(*parts):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *parts)


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.CELU())), None, "^1.0: .*CELU"),
        (nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)), None, "^1: .*GroupNorm"),
        (nn.Sequential(nn.ReLU()), None, "nn.Linear"),
        (nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3)), None, "^1: expected a module for 3 features"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), (4, 5, 5), "^0: .*groups=2"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, padding=3)), (4, 5, 5), "^0: .*Conv2d"),
        (behind_convolution(nn.MaxPool2d(3, 2)), (3, 5, 5), "^1: .*MaxPool2d"),
        (behind_convolution(nn.LayerNorm(3)), (3, 5, 5), "^1: .*LayerNorm"),
        (behind_convolution(nn.Flatten(), nn.Linear(36, 2)), None, "^0: expected shape="),
        (behind_convolution(nn.Flatten(), nn.Linear(36, 2)), (3, 9, 9), "^2: expected a module for 196 features"),
    ],
)
def test_what_the_engine_has_no_layer_for_is_named(module, shape, message):
    with pytest.raises(ValueError, match=message):
        from_torch(module, shape=shape)
