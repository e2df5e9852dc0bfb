"""bpx.torch.diagnose: the finding of the engine for a copied network, and the model left as it was, bit for bit."""

import copy
import random

import numpy as np
import pytest

import bpx
from bpx.engine import mlp, residual_mlp

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

import bpx.torch  # noqa: E402

nn, F = torch.nn, torch.nn.functional


def batch(n=64, n_in=20, classes=3):
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, n_in), dtype="f")), torch.arange(n) % classes


def perceptron(depth=6, activation=nn.ReLU, n=20, width=30, norm=None):
    torch.manual_seed(0)
    parts = []
    for i in range(depth):
        parts += [nn.Linear(n if i == 0 else width, width), *([norm(width)] if norm else []), activation()]
    return nn.Sequential(*parts, nn.Linear(width, 3))


@pytest.mark.parametrize("model", [mlp, residual_mlp])
@pytest.mark.parametrize("normalization", ["none", "batch", "layer", "rms"])
def test_finding_and_theory_are_those_of_the_engine(model, normalization):
    net = model(20, [30] * 8, 3, "tanh", normalization=normalization, dtype="float64")
    x, y = batch()
    theirs = bpx.diagnose(net, x.double().numpy(), y.numpy())
    ours = bpx.torch.diagnose(bpx.torch.to_torch(net), x.double(), y)
    assert ours.verdict == theirs.verdict and ours.n_hidden == theirs.n_hidden and ours.reason == theirs.reason
    for name in ("slope", "ratio", "residual", "forward_slope", "predicted_slope", "predicted_low", "predicted_high",
                 "saturation"):  # fmt: skip
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-12), name
    assert ours.gains == pytest.approx(theirs.gains, rel=1e-9)


def test_the_example_of_the_readme():
    x, y = np.random.default_rng(0).standard_normal((64, 20)).astype("f"), np.arange(64) % 3
    net = mlp(20, [50] * 15, 3, "sigmoid", initializer="xavier_normal")
    theirs = bpx.diagnose(net, x, y)
    ours = bpx.torch.diagnose(bpx.torch.to_torch(net), torch.from_numpy(x), torch.from_numpy(y))
    assert ours.verdict == theirs.verdict == "vanishing" and ours.cause == theirs.cause == "weights"
    assert ours.factor == pytest.approx(theirs.factor, rel=1e-5)
    assert ours.trials["weights"] == pytest.approx(theirs.trials["weights"], rel=1e-4)
    assert ours.sentence.partition(" Try:")[0] == theirs.sentence.partition(" Try:")[0]


def dropping():
    """Weights that relu needs, and dropout behind every layer: delta explodes."""
    model = perceptron(10)
    layers = [part for m in model[:-1] for part in ((m, nn.Dropout(0.5)) if isinstance(m, nn.ReLU) else (m,))]
    for m in layers:
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
    return nn.Sequential(*layers, model[-1])


@pytest.mark.parametrize(
    ("make", "verdict", "cause"), [(lambda: perceptron(16), "vanishing", "weights"), (dropping, "exploding", "dropout")]
)
def test_the_code_it_says_to_try_makes_the_model_healthy(make, verdict, cause):
    x, y = batch()
    found = bpx.torch.diagnose(make(), x, y)
    assert found.verdict == verdict and found.cause == cause and len(found.remedies) == 2
    for words, factor, code in found.remedies:
        assert words in found.sentence and code not in found.sentence
        model = make()
        exec(code, {"nn": nn, "model": model})
        after = bpx.torch.diagnose(model, x, y)
        assert after.verdict == "healthy" and after.factor == pytest.approx(factor, rel=0.15)


def state(model):
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
    held = [t.detach().numpy().tobytes() for t in tensors]
    return held, [m.training for m in model.modules()], torch.get_rng_state().tolist(), random.getstate()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("depth", [3, 12])  # healthy, and vanishing: parts are taken out and drawn
def test_the_model_is_left_as_it_was(training, depth):
    model = perceptron(depth, nn.Sigmoid if depth == 12 else nn.Tanh)
    model.append(nn.BatchNorm1d(3)).append(nn.Dropout(0.3)).append(nn.Linear(3, 3)).train(training)
    x, y = batch()
    F.cross_entropy(model(x), y).backward()
    model.eval() if not training else model.train()
    gradients = [p.grad for p in model.parameters()]
    before = state(model)
    first = bpx.torch.diagnose(model, x, y)
    assert state(model) == before and all(a is p.grad for a, p in zip(gradients, model.parameters(), strict=True))
    assert not hooks(model)
    assert bpx.torch.diagnose(model, x, y) == first


def hooks(model):
    return [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


class Broken(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.first, self.second, self.norm = how, nn.Linear(20, 8), nn.Linear(8, 3), nn.BatchNorm1d(8)

    def forward(self, x):
        if self.how == "no_grad":
            with torch.no_grad():
                return self.second(self.norm(self.first(x)))
        if self.how == "some no_grad":
            with torch.no_grad():
                z = self.first(x)
            return self.second(z)
        z = self.norm(self.first(x))
        if self.how == "functions in place":
            z = torch.sigmoid(z).relu_()
        if self.how == "raises":
            raise KeyError("the user's own")
        return self.second(z)


class Overwritten(nn.Sequential):
    pass


class Pair(nn.Linear):
    def __init__(self) -> None:
        super().__init__(20, 3)

    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        (Broken("no_grad"), {}, "the loss of Broken.*detached"),
        (Broken("some no_grad"), {}, "^first runs under torch.no_grad"),
        (
            Broken(""),
            {"loss": lambda z, y: F.cross_entropy(z, y, reduction="none")},
            r"scalar tensor, got shape \(64,\)",
        ),
        (Broken(""), {"loss": lambda z, y: F.cross_entropy(z, y).item()}, "scalar tensor, got float"),
        (Broken(""), {"loss": lambda z, y: F.cross_entropy(z, y).detach()}, "detached"),
        (Broken(""), {"loss": "mse"}, "^loss: expected a function of output and targets, got 'mse'"),
        (Pair(), {}, "^loss: cross_entropy takes a tensor, but the model returns a tuple; give loss or closure"),
        (nn.Linear(20, 1), {}, "^loss: cross_entropy of a single output is always 0"),
        (Broken(""), {"reduction": "none"}, "^reduction: expected mean or sum, got 'none'"),
        (Overwritten(nn.Linear(20, 3), nn.Sigmoid(), nn.ReLU(inplace=True)), {}, "^1: its output is overwritten"),
        (Broken("functions in place"), {}, "^after first a tensor is overwritten in place"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(20)), {}, "^Sequential: expected a model with weight layers"),
        (nn.ReLU(), {}, "^ReLU: expected a model with weight layers"),
    ],
)
def test_what_cannot_be_diagnosed_is_one_clear_line(model, more, message):
    before = state(model)
    with pytest.raises(ValueError, match=message) as caught:
        bpx.torch.diagnose(model, *batch(), **more)
    assert "\n" not in str(caught.value) and state(model) == before and not hooks(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(20, 9), nn.LazyLinear(3)), "^1 is lazy: expected a model that has run once"),
        (nn.Linear(20, 3, dtype=torch.complex64), "^Linear gives complex numbers"),
    ],
)
def test_parameters_that_have_no_numbers_or_complex_ones(model, message):
    (x, y), before = batch(), hooks(model)
    with pytest.raises(ValueError, match=message):
        bpx.torch.diagnose(model, x.to(torch.complex64) if "complex" in message else x, y, closure=absolute)
    assert hooks(model) == before


def test_inputs_that_are_no_tensors_are_named():
    x, y = batch()
    with pytest.raises(ValueError, match=r"^x: expected a tensor of samples.*got ndarray"):
        bpx.torch.diagnose(nn.Linear(20, 3), x.numpy(), y)


def test_what_is_no_model_is_one_clear_line():
    with pytest.raises(ValueError, match=r"^model: expected a torch\.nn\.Module, got function"):
        bpx.torch.diagnose(absolute, *batch())


def test_gradients_beside_the_model_are_kept():
    model, critic, (x, y) = perceptron(12, nn.Sigmoid), nn.Linear(3, 3), batch()
    critic.weight.grad = torch.ones(3, 3)
    held = critic.weight.grad
    found = bpx.torch.diagnose(model, x.requires_grad_(), y, closure=lambda m, x, y: F.cross_entropy(critic(m(x)), y))
    assert found.verdict == "vanishing"  # copies were tried, too
    assert critic.weight.grad is held and (held == 1).all() and critic.bias.grad is None and x.grad is None


def test_a_layer_that_is_used_again_and_again_is_named_with_its_gain():
    torch.manual_seed(0)
    shared = nn.Linear(20, 20)
    chain = nn.Sequential(*[part for _ in range(8) for part in (shared, nn.Tanh())], nn.Linear(20, 3))
    found = bpx.torch.diagnose(chain, *batch())
    gain = float(shared.weight.detach().square().mean().sqrt()) * 20**0.5
    assert found.verdict == "vanishing" and f"weights ×{gain:#.3g} per layer where tanh needs" in found.sentence


class Noisy(nn.ReLU):
    def forward(self, x):
        return x + torch.rand_like(x)


@pytest.mark.parametrize("activation", [nn.RReLU, Noisy])
def test_an_activation_that_draws_runs_once(activation):
    model, (x, y) = perceptron(3, activation).double(), batch()
    x, state, deltas = x.double(), torch.get_rng_state(), []
    found = bpx.torch.diagnose(model, x, y)
    z = x
    for part in model:
        z = part(z)
        if isinstance(part, nn.Linear):
            z.retain_grad()
            deltas.append(z)
    torch.set_rng_state(state)
    F.cross_entropy(z, y).backward()
    sizes = [float(z.grad.norm()) for z in deltas]
    assert found.ratio == pytest.approx(sizes[0] / sizes[2], rel=1e-12)


def absolute(model, x, y):
    return F.cross_entropy(model(x).abs(), y)


def test_an_exception_of_the_users_code_passes_and_leaves_nothing_behind():
    model = Broken("raises")
    before = state(model)
    with pytest.raises(KeyError, match="own"):
        bpx.torch.diagnose(model, *batch())
    assert state(model) == before and not hooks(model)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(20, 20) for _ in range(8))
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x)


def test_activations_that_are_functions_are_measured_between_weight_layers():
    torch.manual_seed(0)
    model = Functional()
    parts = [part for layer in model.layers for part in (layer, nn.ReLU())]
    chain = nn.Sequential(*parts, model.head)
    ours, seen = bpx.torch.diagnose(model, *batch()), bpx.torch.diagnose(chain, *batch())
    assert ours.slope == pytest.approx(seen.slope, rel=1e-6)
    assert list(ours.gains) == ["between weight layers"] and "Gains are taken between weight layers" in ours.sentence
    assert ours.gains["between weight layers"] == pytest.approx(np.prod(list(seen.gains.values())), rel=1e-6)
    assert ours.reason and "no chain of modules" in ours.reason and seen.reason is None
    assert ours.worst_layer.startswith("layers.")


def test_reductions_and_closures_agree():
    model, (x, y) = perceptron(), batch()
    mean = bpx.torch.diagnose(model, x, y)
    total = bpx.torch.diagnose(model, x, y, loss=nn.CrossEntropyLoss(reduction="sum"), reduction="sum")
    closure = bpx.torch.diagnose(model, {"x": x, "y": y}, closure=lambda m, b: F.cross_entropy(m(b["x"]), b["y"]))
    assert total.slope == pytest.approx(mean.slope, rel=1e-5) and closure.slope == mean.slope


def test_a_convolutional_chain_has_a_theory():
    torch.manual_seed(0)
    parts = [part for i in range(8) for part in (nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.Tanh())]
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 * 64, 10))
    found = bpx.torch.diagnose(model, torch.randn(16, 3, 8, 8), torch.arange(16) % 10)
    assert found.verdict == "vanishing" and found.predicted_factor == pytest.approx(found.factor, rel=0.1)
    assert "only roughly: convolution" in found.sentence


def test_frozen_layers_are_measured_too():
    model, (x, y) = perceptron(), batch()
    whole = bpx.torch.diagnose(model, x, y)
    frozen = copy.deepcopy(model)
    for p in [*frozen[0].parameters(), *frozen[2].parameters()]:
        p.requires_grad_(False)
    assert bpx.torch.diagnose(frozen, x, y).slope == pytest.approx(whole.slope, rel=1e-6)
    assert not any(p.requires_grad for p in frozen[0].parameters())
