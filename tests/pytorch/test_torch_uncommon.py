"""bpx.torch on what people build beside chains: parametrizations, two optimizers, packed sequences, torch.func."""

import dataclasses

import numpy as np
import pytest

from bpx.records import read

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from bpx.torch import diagnose, watch  # noqa: E402

nn, F = torch.nn, torch.nn.functional
X, Y = torch.linspace(-1, 1, 96).reshape(16, 6).sin(), torch.arange(16) % 3


def chain(*wrappers):
    torch.manual_seed(0)
    layers = [wrap(nn.Linear(n, 20)) for n, wrap in zip((6, 20, 20), wrappers, strict=True)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.Tanh())], nn.Linear(20, 3))


def plain(layer):
    return layer


def trained(model, directory=None, steps=3, backward=lambda model: F.cross_entropy(model(X), Y).backward()):
    """Train with Adam, watched where there is a directory; return the parameters and the buffers."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    watched = None if directory is None else watch(model, optimizer, every=1, tracking="none", directory=directory)
    if watched:
        watched.__enter__()
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
    if watched:
        watched.__exit__(None, None, None)
    return {key: value.clone() for key, value in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def parametrized():
    from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

    return chain(weight_norm, spectral_norm, orthogonal)


def test_parametrized_weights_are_left_and_trained_as_without(tmp_path):
    model = parametrized()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    finding = diagnose(model, X, Y)
    assert finding.n_hidden == 3 and equal(model.state_dict(), before)
    assert equal(trained(parametrized()), trained(model, tmp_path / "run"))
    assert np.isfinite(read(tmp_path / "run" / "gradient_flow.parquet").grid("update_ratio")[2]).all()


def test_two_models_with_an_optimizer_each(tmp_path):
    def play(watched):
        torch.manual_seed(0)
        nets = {
            name: nn.Sequential(
                nn.Linear(n, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16), nn.LeakyReLU(0.2), nn.Linear(16, m)
            )
            for name, n, m in (("generator", 4, 2), ("critic", 2, 1))
        }
        optimizers = {name: torch.optim.SGD(net.parameters(), lr=0.1) for name, net in nets.items()}
        held = [
            watch(nets[n], optimizers[n], every=1, tracking="none", directory=tmp_path / n) for n in nets if watched
        ]
        for w in held:
            w.__enter__()
        ones, seen = torch.ones(8, 1), []
        for _ in range(3):
            fake = nets["generator"](torch.randn(8, 4))
            optimizers["critic"].zero_grad()
            F.binary_cross_entropy_with_logits(nets["critic"](torch.randn(8, 2)), ones).backward()
            z = nets["critic"](fake.detach())
            F.binary_cross_entropy_with_logits(z, 0 * ones).backward()
            seen.append(
                float((torch.sigmoid(z.detach()) ** 2).mean().sqrt())
            )  # dJ/dz = sigmoid(z) where the target is 0
            optimizers["critic"].step()
            optimizers["generator"].zero_grad()
            F.binary_cross_entropy_with_logits(nets["critic"](fake), ones).backward()
            optimizers["generator"].step()
        for w in held:
            w.__exit__(None, None, None)
        return nets, seen

    (bare, _), (nets, seen) = play(False), play(True)
    assert all(equal(bare[name].state_dict(), nets[name].state_dict()) for name in nets)
    deltas = read(tmp_path / "critic" / "gradient_flow.parquet").grid("delta_l2")[2]
    np.testing.assert_allclose(deltas[-1], seen, rtol=1e-6)  # of the critic's last call before its step
    assert read(tmp_path / "generator" / "gradient_flow.parquet").grid("delta_l2")[2].shape == (3, 3)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8, padding_idx=0)
        self.lstm = nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, ids, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.lstm(packed)
        return self.out(torch.cat([h[-2], h[-1]], 1))


def test_packed_sequences_are_measured_at_what_the_layer_returns():
    torch.manual_seed(0)
    model, lengths = Packed().double(), torch.tensor([5, 2, 4, 1])
    ids, y = torch.randint(1, 30, (4, 5)), torch.tensor([0, 1, 2, 0])
    finding = diagnose(model, (ids, lengths), y)
    z = model(ids, lengths).detach().requires_grad_()
    F.cross_entropy(z, y, reduction="sum").backward()
    lstm = float(torch.linalg.vector_norm(z.grad @ model.out.weight.detach())) / 2  # sqrt of 4 samples
    embedded = model.embed(ids).detach().requires_grad_()
    packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
    h = model.lstm(packed)[1][0]
    F.cross_entropy(model.out(torch.cat([h[-2], h[-1]], 1)), y, reduction="sum").backward()
    assert finding.ratio == pytest.approx(float(torch.linalg.vector_norm(embedded.grad)) / 2 / lstm, rel=1e-10)
    assert "no part that could be rescaled" in str(finding) or finding.verdict == "healthy"


def test_an_output_of_ones_own_kind_over_a_frozen_backbone():
    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor
        hidden: torch.Tensor

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Linear(9, 9), nn.ReLU(inplace=True)
            )
            self.backbone.requires_grad_(False)
            self.head = nn.Linear(9, 3)

        def forward(self, x):
            hidden = self.backbone(x)
            return Output(self.head(hidden), hidden)

    model = Model()
    assert diagnose(model, X, Y, lambda out, y: F.cross_entropy(out.logits, y)).n_hidden == 2
    assert all(p.grad is None for p in model.parameters())


def test_sparse_gradients_of_an_embedding(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(30, 8, sparse=True), nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=1, tracking="none", directory=tmp_path / "run"):
        F.cross_entropy(model(torch.tensor([[1, 2], [2, 2], [3, 4]])), torch.tensor([0, 1, 2])).backward()
        size = float(torch.linalg.vector_norm(model[0].weight.grad.to_dense()))
        optimizer.step()
    assert read(tmp_path / "run" / "gradient_flow.parquet").grid("grad_norm")[2][0, 0] == pytest.approx(size)


def test_a_wrapper_of_a_model_changes_its_names_alone():
    model = chain(plain, plain, plain)
    wrapped = diagnose(nn.DataParallel(model), X, Y)
    assert wrapped.factor == diagnose(model, X, Y).factor


def test_a_functional_call_is_measured_and_a_transform_is_one_line():
    model = chain(plain, plain, plain)

    def call(model, x):
        return F.cross_entropy(torch.func.functional_call(model, dict(model.named_parameters()), (x,)), Y)

    def mapped(model, x):
        return torch.func.vmap(lambda row: model(row[None]).square().mean())(x).mean()

    assert diagnose(model, X, closure=call).factor == diagnose(model, X, Y).factor
    with pytest.raises(ValueError, match="Sequential runs inside a transform of"):
        diagnose(model, X, closure=mapped)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_watching_lets_a_transform_pass(tmp_path):
    def backward(model):
        torch.func.vmap(lambda row: model(row[None]).square().mean())(X)
        F.cross_entropy(model(X), Y).backward()

    bare = trained(chain(plain, plain, plain), backward=backward)
    assert equal(bare, trained(chain(plain, plain, plain), tmp_path / "run", backward=backward))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_model_is_one_line(tmp_path):
    model = torch.jit.script(chain(plain, plain, plain))
    with pytest.raises(ValueError, match="ScriptModule: expected the module before"):
        diagnose(model, X, Y)
    with pytest.raises(ValueError, match="ScriptModule: expected the module before"):
        watch(model, torch.optim.SGD(model.parameters(), lr=0.1), every=1, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("unscale", [False, True])
def test_the_scale_of_mixed_precision_is_taken_out(unscale, tmp_path):
    found = []
    for scale in (1.0, 1024.0):
        model = chain(plain, plain, plain)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with watch(model, optimizer, every=1, tracking="none", scaler=scaler, directory=tmp_path / f"{scale}"):
            for _ in range(2):
                optimizer.zero_grad()
                scaler.scale(F.cross_entropy(model(X), Y)).backward()
                if unscale:
                    scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(model.parameters(), 0.1)
                scaler.step(optimizer)
                scaler.update()
        records = read(tmp_path / f"{scale}" / "gradient_flow.parquet")
        found.append([records.grid(name)[2] for name in ("delta_l2", "grad_norm", "update_ratio", "gradient_snr")])
        clips = records.select(quantity="clip_coefficient").value
        assert (np.array(clips) < 1).all() if unscale else (np.array(clips) == 1).all()
    for one, many in zip(*found, strict=True):
        np.testing.assert_allclose(one, many, rtol=1e-5)
