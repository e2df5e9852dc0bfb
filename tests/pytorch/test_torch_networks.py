"""Real architectures: what is measured is what an independent computation with plain hooks finds."""

import math

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from architectures import GPT, Encoder, Heads, Recurrent, Shared, UNet, ViT, resnet18, resnet50  # noqa: E402

from bpx.torch import diagnose  # noqa: E402
from bpx.torch.passes import batch, measured_pass  # noqa: E402

nn, F = torch.nn, torch.nn.functional
LAYERS = nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding, nn.RNNBase, nn.MultiheadAttention


def images(n=4, side=16):
    return torch.randn(n, 3, side, side), torch.arange(n) % 10


def words(n=4, length=12):
    return torch.randint(0, 30, (n, length)), torch.randint(0, 3, (n,))


def pixels(z, y):
    return F.cross_entropy(z, y[:, None, None].expand(-1, *z.shape[2:]) % 2)


def tokens(z, y):
    return F.cross_entropy(z.flatten(0, 1), y.flatten())


CASES = {
    "resnet18": (resnet18, images, F.cross_entropy),
    "resnet50": (resnet50, images, F.cross_entropy),
    "vit": (ViT, images, F.cross_entropy),
    "post-norm": (lambda: Encoder(False), lambda: (torch.randn(4, 9, 32), torch.arange(4)), F.cross_entropy),
    "pre-norm": (lambda: Encoder(True), lambda: (torch.randn(4, 9, 32), torch.arange(4)), F.cross_entropy),
    "unet": (UNet, images, pixels),
    "gpt": (GPT, lambda: (torch.randint(0, 30, (4, 12)), torch.randint(0, 30, (4, 12))), tokens),
    "rnn": (lambda: Recurrent(nn.RNN), words, F.cross_entropy),
    "lstm": (lambda: Recurrent(nn.LSTM), words, F.cross_entropy),
    "gru, last state": (lambda: Recurrent(nn.GRU, last_state=True), words, F.cross_entropy),
    "shared": (Shared, lambda: (torch.randn(8, 20), torch.arange(8) % 3), F.cross_entropy),
}


def by_plain_hooks(model, x, y, loss, n):
    """Return name and |delta|_2 of every weight layer in order of execution: the gradient kept at its own output."""
    outputs = []

    def after(name):
        def hook(module, args, output):
            first = output[0] if isinstance(output, tuple) else output
            kept = first if not (isinstance(module, nn.GRU) and model.last_state) else output[1]
            outputs.append((name, kept))
            copy = kept.clone()  # activations in place change the copy
            kept.retain_grad()
            if kept is not first:
                return first, copy
            return (copy, *output[1:]) if isinstance(output, tuple) else copy

        return hook

    skip = {id(child) for m in model.modules() if isinstance(m, nn.MultiheadAttention) for child in m.children()}
    named = [(name, m) for name, m in model.named_modules() if isinstance(m, LAYERS) and id(m) not in skip]
    handles = [m.register_forward_hook(after(name)) for name, m in named]
    try:
        loss(model(x), y).backward()
    finally:
        for handle in handles:
            handle.remove()
    model.zero_grad()
    return [(name, float(z.grad.double().norm()) * math.sqrt(n)) for name, z in outputs]


@pytest.mark.parametrize("case", list(CASES))
def test_delta_is_that_of_plain_hooks(case):
    make, data, loss = CASES[case]
    torch.manual_seed(0)
    model, (x, y) = make().double(), data()
    x = x.double() if x.is_floating_point() else x
    state = torch.get_rng_state()
    expected = by_plain_hooks(model, x, y, loss, len(x))
    torch.set_rng_state(state)  # dropout draws the same masks again
    with measured_pass(model, batch(x, y, loss, "mean", None, None)) as measured:
        observation = measured.observation()
        names, gradients = measured.modules, measured.scales()[:, 2]
        own = {name: math.sqrt(sum(float(p.grad.norm()) ** 2 for p in m.parameters() if p.dim() > 1))
               for name, m in model.named_modules() if isinstance(m, LAYERS)}  # fmt: skip
    assert [name.partition("#")[0] for name in names] == [name for name, _ in expected]
    delta = np.array([value for _, value in expected])
    hidden = [i for i, name in enumerate(names) if name in observation.layers]
    np.testing.assert_allclose(observation.delta_l2, delta[hidden], rtol=1e-10)
    depth = np.arange(len(hidden))
    assert observation.depth_slope.slope == pytest.approx(-np.polyfit(depth, np.log10(delta[hidden]), 1)[0], rel=1e-9)
    np.testing.assert_allclose(gradients, [own[name.partition("#")[0]] for name in names], rtol=1e-10)
    assert len(hidden) == len(names) - 1


def test_a_layer_that_runs_again_is_named_by_its_number():
    found = diagnose(Shared(), torch.randn(8, 20), torch.arange(8) % 3)
    assert found.n_hidden == 6 and found.worst_layer in ("first", "shared", *(f"shared#{i}" for i in range(2, 6)))


def test_several_inputs_and_outputs_and_a_closure():
    model = Heads()
    x = {"left": torch.randn(8, 5), "right": torch.randn(8, 7)}
    y = {"classes": torch.arange(8) % 3, "value": torch.randn(8, 1)}

    def loss(out, y):
        return F.cross_entropy(out["classes"], y["classes"]) + F.mse_loss(out["value"], y["value"])

    by_name = diagnose(model, x, y, loss=loss)
    assert by_name.n_hidden == 3  # both heads are outputs
    by_place = diagnose(model, (x["left"], x["right"]), y, loss=loss)
    closure = diagnose(model, x, y, closure=lambda m, x, y: loss(m(**x), y))
    assert by_name.slope == by_place.slope == closure.slope


def test_batch_second_has_as_many_samples_as_it_says():
    torch.manual_seed(0)
    first = Encoder(True).double()
    second = Encoder(True, batch_first=False).double()
    second.load_state_dict(first.state_dict())
    x, y = torch.randn(4, 9, 32, dtype=torch.float64), torch.arange(4)
    with measured_pass(first, batch(x, y, F.cross_entropy, "mean", None, None)) as one:
        expected, coherence = one.scales(), one.agreement()
    with measured_pass(second, batch(x.transpose(0, 1), y, F.cross_entropy, "mean", None, 4)) as other:
        np.testing.assert_allclose(other.scales(), expected, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(other.agreement(), coherence, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:.*autocast.* is deprecated:FutureWarning")  # PyTorch 2.4's own call
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks_are_measured_once(reentrant):
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self, on):
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Linear(20, 16)
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.Tanh()) for _ in range(4))
            self.out, self.on = nn.Linear(16, 3), on

        def forward(self, x):
            x = self.first(x)
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=reentrant) if self.on else block(x)
            return self.out(x)

    x, y = torch.randn(8, 20), torch.arange(8) % 3
    plain, checked = (diagnose(Checkpointed(on), x, y) for on in (False, True))
    assert checked.n_hidden == plain.n_hidden == 5
    assert checked.slope == pytest.approx(plain.slope, rel=1e-6) and checked.forward_slope == plain.forward_slope


def test_a_compiled_model_runs_as_it_was_written():
    torch.manual_seed(0)
    model = nn.Sequential(*[p for _ in range(4) for p in (nn.Linear(20, 20), nn.Tanh())], nn.Linear(20, 3))
    x, y = torch.randn(8, 20), torch.arange(8) % 3
    plain = diagnose(model, x, y)
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    assert diagnose(compiled, x, y).slope == plain.slope
    inner = nn.Sequential(torch.compile(model[:8], backend="eager"), model[8])
    if not hasattr(torch.compiler, "set_stance"):
        with pytest.raises(ValueError, match=r"^0 is compiled: expected torch 2\.6"):
            diagnose(inner, x, y)
        return
    found = diagnose(inner, x, y)
    assert found.slope == plain.slope and not found.worst_layer.startswith("_orig_mod")


def test_autocast_is_measured_in_its_dtype():
    torch.manual_seed(0)
    model = nn.Sequential(*[p for _ in range(4) for p in (nn.Linear(20, 20), nn.Tanh())], nn.Linear(20, 3))
    x, y = torch.randn(32, 20), torch.arange(32) % 3

    def closure(m, x, y):
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(m(x), y)

    assert diagnose(model, x, y, closure=closure).slope == pytest.approx(diagnose(model, x, y).slope, abs=0.01)


def test_a_frozen_backbone_is_measured_and_stays_frozen():
    torch.manual_seed(0)
    model = resnet18()
    for p in model.stages.parameters():
        p.requires_grad_(False)
    x, y = images()
    frozen = diagnose(model, x, y)
    assert not any(p.requires_grad for p in model.stages.parameters())
    for p in model.parameters():
        p.requires_grad_(True)
    assert frozen.slope == pytest.approx(diagnose(model, x, y).slope, rel=1e-5) and frozen.n_hidden == 20


def test_unused_and_detached_parts_are_said():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c, self.out = nn.Linear(9, 9), nn.Linear(9, 9), nn.Linear(9, 9), nn.Linear(9, 3)

        def forward(self, x):
            return self.out(self.c(self.b(self.a(x).detach()).tanh()).tanh())

    found = diagnose(Cut(), torch.randn(8, 9), torch.arange(8) % 3)
    assert found.n_hidden == 2 and "No gradient comes back to a:" in found.sentence
