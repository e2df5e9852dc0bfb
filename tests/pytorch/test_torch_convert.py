"""Networks of the engine as PyTorch modules and back: the same outputs, before and after."""

import numpy as np
import pytest

from bpx.engine import ACTIVATIONS, mlp, residual_mlp, sgd

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


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), "^0: .*Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.CELU())), "^1.0: .*CELU"),
        (nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)), "^1: .*GroupNorm"),
        (nn.Sequential(nn.ReLU()), "nn.Linear"),
    ],
)
def test_what_the_engine_has_no_layer_for_is_named(module, named):
    with pytest.raises(ValueError, match=named):
        from_torch(module)
