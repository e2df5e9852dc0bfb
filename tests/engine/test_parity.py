"""Twenty steps beside PyTorch in float64, weights copied in."""

import numpy as np
import pytest

from bpx.engine import OPTIMIZERS, SCHEDULES, mlp, residual_mlp
from bpx.engine.dense import Dense

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
nn = torch.nn
STEPS, B = 20, 16


class Sin(nn.Module):
    def forward(self, x):
        return torch.sin(x)


TORCH_ACTIVATIONS = {
    "linear": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU, "softplus": nn.Softplus,
    "softsign": nn.Softsign, "hard_tanh": nn.Hardtanh, "mish": nn.Mish, "hard_swish": nn.Hardswish, "relu6": nn.ReLU6,
    "prelu": lambda: nn.PReLU(dtype=torch.float64), "sin": Sin,
}  # fmt: skip
TORCH_NORMS = {
    "none": nn.Identity,
    "batch": lambda n: nn.BatchNorm1d(n, momentum=0.1, dtype=torch.float64),
    "layer": lambda n: nn.LayerNorm(n, dtype=torch.float64),
    "rms": lambda n: nn.RMSNorm(n, eps=1e-5, dtype=torch.float64),
}


class Residual(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return x + self.branch(x)


def twin_of(net, activation, normalization, model):
    """Build the same network in PyTorch and copy the weights."""
    pairs = []

    def dense(layer):
        linear = nn.Linear(layer.n_in, layer.n_out, bias=layer.b is not None, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.W.value.T.copy()))
            if layer.b is not None:
                linear.bias.copy_(torch.from_numpy(layer.b.value.copy()))
        pairs.append((layer.W, linear.weight))
        if layer.b is not None:
            pairs.append((layer.b, linear.bias))
        return linear

    def convert(layer):
        if layer.kind == "dense":
            return dense(layer)
        if layer.kind == "activation":
            module = TORCH_ACTIVATIONS[activation]()
            pairs.extend(zip(layer.parameters().values(), module.parameters(), strict=True))
            return module
        if layer.kind == "norm":
            norm = TORCH_NORMS[normalization](layer.n_in)
            pairs.append((layer.gamma, norm.weight))
            if layer.has_shift:
                pairs.append((layer.beta, norm.bias))
            return norm
        if layer.kind == "dropout":
            return nn.Identity()
        return Residual(nn.Sequential(*map(convert, layer.branch)))

    return nn.Sequential(*map(convert, net.blocks)), pairs


def compare(pairs):
    for p, t in pairs:
        theirs = t.detach().numpy()
        theirs = theirs.T if p.is_weight else theirs
        assert np.linalg.norm(p.value - theirs) <= 1e-10 * np.linalg.norm(theirs) + 1e-14, p.name


def data(seed=0, classes=True):
    rng = np.random.default_rng(seed)
    for step in range(STEPS):
        n = B if step % 5 else B - 3
        yield rng.standard_normal((n, 6)), rng.integers(0, 4, n) if classes else rng.standard_normal((n, 4))


def run(net, optimizer, module, pairs, theirs, criterion, classes=True, after=None, clip=None):
    optimizer.bind(net.parameters)
    for x, y in data(classes=classes):
        net.cost(x, y)
        net.backward()
        optimizer.propose()
        optimizer.apply()
        theirs.zero_grad()
        criterion(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        if clip:
            clip(module.parameters())
        theirs.step()
        if after:
            after()
        compare(pairs)


@pytest.mark.parametrize("normalization", list(TORCH_NORMS))
@pytest.mark.parametrize("activation", list(TORCH_ACTIVATIONS))
def test_layers(activation, normalization):
    for model in (mlp, residual_mlp):
        net = model(6, [7, 7], 4, activation, normalization=normalization, dtype="float64", initializer="lecun_normal")
        net.bind(B)
        module, pairs = twin_of(net, activation, normalization, model)
        theirs = torch.optim.SGD(module.parameters(), lr=0.1)
        run(net, OPTIMIZERS["sgd"](lr=0.1), module, pairs, theirs, nn.CrossEntropyLoss())
        x = np.random.default_rng(9).standard_normal((5, 6))
        module.eval()
        with torch.no_grad():
            expected = module(torch.from_numpy(x)).softmax(dim=1).numpy()
        np.testing.assert_allclose(net.predict(x), expected, rtol=1e-9, atol=1e-12)


def one_hot_squares(output):
    def criterion(z, y):
        return 0.5 * ((output(z) - y) ** 2).sum(dim=1).mean()

    return criterion


def per_output(z, y):
    t = nn.functional.one_hot(y, 4).double()
    return nn.functional.binary_cross_entropy_with_logits(z, t, reduction="sum") / len(z)


@pytest.mark.parametrize(
    ("loss", "criterion", "classes"),
    [
        ("softmax_cross_entropy", nn.CrossEntropyLoss(), True),
        (
            {"name": "softmax_cross_entropy", "label_smoothing": 0.1},
            nn.CrossEntropyLoss(label_smoothing=0.1),
            True,
        ),
        ("sigmoid_cross_entropy", per_output, True),
        ({"name": "mean_squared_error", "output": "linear"}, one_hot_squares(lambda z: z), False),
        ({"name": "mean_squared_error", "output": "sigmoid"}, one_hot_squares(torch.sigmoid), False),
        ({"name": "mean_squared_error", "output": "tanh"}, one_hot_squares(torch.tanh), False),
    ],
)
def test_losses(loss, criterion, classes):
    net = mlp(6, [7], 4, "tanh", loss=loss, dtype="float64").bind(B)
    module, pairs = twin_of(net, "tanh", "none", mlp)
    theirs = torch.optim.SGD(module.parameters(), lr=0.1)
    run(net, OPTIMIZERS["sgd"](lr=0.1), module, pairs, theirs, criterion, classes)


def groups(module, decay):
    weights = [p for p in module.parameters() if p.ndim == 2]
    others = [p for p in module.parameters() if p.ndim != 2]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


THEIRS = {
    "sgd": lambda g: torch.optim.SGD(g, lr=0.05),
    "momentum": lambda g: torch.optim.SGD(g, lr=0.05, momentum=0.9),
    "nesterov": lambda g: torch.optim.SGD(g, lr=0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda g: torch.optim.RMSprop(g, lr=0.05, alpha=0.99, eps=1e-8),
    "adam": lambda g: torch.optim.Adam(g, lr=0.05),
    "adamw": lambda g: torch.optim.AdamW(g, lr=0.05),
}


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 0.3}, {"clip_value": 0.02}])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_optimizers(name, decay, clip):
    net = mlp(6, [7], 4, "tanh", dtype="float64").bind(B)
    module, pairs = twin_of(net, "tanh", "none", mlp)
    clips = {
        "clip_norm": lambda p: nn.utils.clip_grad_norm_(p, 0.3),
        "clip_value": lambda p: nn.utils.clip_grad_value_(p, 0.02),
    }
    chosen = clips[next(iter(clip))] if clip else None
    ours = OPTIMIZERS[name](lr=0.05, weight_decay=decay, **clip)
    run(net, ours, module, pairs, THEIRS[name](groups(module, decay)), nn.CrossEntropyLoss(), clip=chosen)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_max_norm(name):
    net = mlp(6, [7], 4, "tanh", dtype="float64").bind(B)
    module, pairs = twin_of(net, "tanh", "none", mlp)

    def project():
        with torch.no_grad():
            for p in module.parameters():
                if p.ndim == 2:
                    p.mul_((0.8 / p.norm(dim=1, keepdim=True)).clamp(max=1))

    keys = {"weight_decay": 0.1, "max_norm": 0.8}
    theirs = THEIRS[name](groups(module, 0.1))
    run(net, OPTIMIZERS[name](lr=0.05, **keys), module, pairs, theirs, nn.CrossEntropyLoss(), after=project)
    assert max(np.linalg.norm(d.W.value, axis=0).max() for d in net.dense) <= 0.8 + 1e-12


def test_dropout():
    net = mlp(6, [9, 9], 4, "tanh", dropout=0.3, dtype="float64").bind(B, np.random.default_rng(7))
    masks = [block for block in net.blocks if block.kind == "dropout"]

    class Masked(nn.Module):  # our mask in PyTorch's graph: its own stream of random numbers is another
        def __init__(self, ours):
            super().__init__()
            self.ours = ours

        def forward(self, x):
            return x * torch.from_numpy(self.ours.mask)

    module, pairs = twin_of(net, "tanh", "none", mlp)
    module = nn.Sequential(
        *(Masked(block) if block in masks else m for block, m in zip(net.blocks, module, strict=True))
    )
    theirs = torch.optim.SGD(module.parameters(), lr=0.1)
    run(net, OPTIMIZERS["sgd"](lr=0.1), module, pairs, theirs, nn.CrossEntropyLoss())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (("constant", {}), lambda o: torch.optim.lr_scheduler.ConstantLR(o, factor=1.0)),
        (("step", {"step_size": 4, "gamma": 0.5}), lambda o: torch.optim.lr_scheduler.StepLR(o, 4, 0.5)),
        (("exponential", {"factor": 0.9}), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9)),
        (("cosine", {"final": 0.0}), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS)),
        (("constant", {"warmup_steps": 8}),
         lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=1 / 8, total_iters=7)),
        (("one_cycle", {}),
         lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=STEPS, cycle_momentum=False)),
    ],
)  # fmt: skip
def test_schedules(ours, theirs):
    name, keys = ours
    net = mlp(6, [7], 4, "tanh", dtype="float64").bind(B)
    module, pairs = twin_of(net, "tanh", "none", mlp)
    schedule = SCHEDULES[name](total_steps=STEPS, **keys)
    torch_optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    scheduler = theirs(torch_optimizer)
    steps = iter(range(STEPS))

    def advance():
        if next(steps) < STEPS - 1:
            scheduler.step()

    optimizer = OPTIMIZERS["sgd"](lr=0.1, schedule=schedule)
    run(net, optimizer, module, pairs, torch_optimizer, nn.CrossEntropyLoss(), after=advance)


def test_plateau():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    ours = SCHEDULES["plateau"](factor=0.5, patience=2)
    rates = []
    for cost in [1, 0.9, 0.95, 0.9, 0.91, 0.92, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]:
        theirs.step(cost)
        ours.on_evaluation(cost)
        assert ours(0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        rates.append(ours(0))
    assert rates[-1] < 0.5


def test_every_weight_layer_is_compared():
    net = residual_mlp(6, [7, 7], 4, "tanh", normalization="batch").bind(B)
    _, pairs = twin_of(net, "tanh", "batch", residual_mlp)
    assert len(pairs) == len(net.parameters)
    assert sum(isinstance(layer, Dense) for layer in net.layers()) == 3
