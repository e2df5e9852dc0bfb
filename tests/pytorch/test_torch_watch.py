"""bpx.torch.watch: the record of training in PyTorch equals the engine's, and leaves training as it is."""

import html
import json
import math

import numpy as np
import pytest

from bpx import compare
from bpx.engine import mlp, sgd
from bpx.figures import flow_figures
from bpx.probes.lost_updates import LostUpdates
from bpx.probes.probe import ProbeContext
from bpx.probes.scales import QUANTITIES, Scales
from bpx.records import read, read_metrics
from bpx.stored import lookup

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from bpx.torch import to_torch, watch  # noqa: E402

nn, F = torch.nn, torch.nn.functional
N = 16


def data(steps=6):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((N, 6)), rng.integers(0, 3, N)) for _ in range(steps)]


def train(model, optimizer, batches, after_backward=None, w=None):
    for x, y in batches:
        loss = F.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        if after_backward:
            after_backward()
        if w:
            w.log({"cost/train": loss.item()})
        optimizer.step()


def hooks(model, optimizer):
    of_modules = [h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return of_modules + [h for p in model.parameters() for h in (p._post_accumulate_grad_hooks or {}).values()]


def test_scales_and_updates_are_the_engines_step_by_step(tmp_path):
    net = mlp(6, [9] * 4, 3, "tanh", normalization="layer", dtype="float64").bind(N)
    model = to_torch(net)
    theirs = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, theirs, every=1, tracking="none", directory=tmp_path / "run") as w:
        train(model, theirs, data(), w=w)
    records = read(tmp_path / "run" / "gradient_flow.parquet")
    optimizer = sgd(lr=0.1).bind(net.parameters)
    context = ProbeContext(net, optimizer)
    scales, updates = Scales(context), LostUpdates(context)
    for step, (x, y) in enumerate(data()):
        net.cost(x, y)
        net.backward()
        for probe in (scales, updates):
            probe.on_gradient(step)
        optimizer.propose()
        for probe in (scales, updates):
            probe.on_update(optimizer)
        optimizer.apply()
        for probe in (scales, updates):
            for (layer, _, quantity, _), value in zip(probe.keys, probe.values, strict=True):
                (found,) = records.select(step=step, layer=layer, quantity=quantity).value
                at = 1e-10 if "mean" in quantity else 1e-290
                np.testing.assert_allclose(found, value, rtol=1e-9, atol=at, err_msg=f"{step} {layer} {quantity}")
    assert len(scales.keys) == 5 * len(QUANTITIES) and not hooks(model, theirs)


@pytest.mark.parametrize("probes", ["light", "standard"])
def test_training_is_the_same_to_the_last_bit_with_and_without(tmp_path, probes):
    ends = []
    for watched in (False, True):
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(inplace=True), nn.Dropout(0.2), nn.Linear(9, 3)
        )
        model.double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        if watched:
            with watch(model, optimizer, every="log", probes=probes, tracking="none", directory=tmp_path / "run"):
                train(model, optimizer, data(9))
        else:
            train(model, optimizer, data(9))
        ends.append([t.detach().numpy().tobytes() for t in (*model.parameters(), *model.buffers())])
    assert ends[0] == ends[1]
    steps = read(tmp_path / "run" / "gradient_flow.parquet").grid("delta_l2")[0]
    assert steps.tolist() == [0, 1, 2, 4, 8]


def test_between_due_steps_the_model_has_no_hooks_but_one(tmp_path):
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=3, tracking="none", directory=tmp_path / "run") as w:
        for step, pair in enumerate(data(6)):
            assert w.step == step and (len(hooks(model, optimizer)) == 1) == (step % 3 > 0)
            train(model, optimizer, [pair])


def test_a_closure_that_the_optimizer_calls_is_measured(tmp_path):
    records = []
    for closed in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer, every=2, tracking="none", directory=tmp_path / f"{closed}"):
            for x, y in data(4):

                def closure(x=x, y=y, model=model, optimizer=optimizer):
                    optimizer.zero_grad()
                    loss = F.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
                    loss.backward()
                    return loss

                if closed:
                    optimizer.step(closure)
                else:
                    closure()
                    optimizer.step()
        records.append(read(tmp_path / f"{closed}" / "gradient_flow.parquet"))
    assert records[0].step.tolist() == records[1].step.tolist()
    measured = [not name.startswith("predicted") for name in records[0].quantity]  # theory sees the weights after it
    np.testing.assert_array_equal(records[0].value[measured], records[1].value[measured])


def test_evaluation_accumulation_and_clipping(tmp_path):
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []

    def clip():
        seen.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.05)))
        with torch.no_grad():
            model.eval()(torch.zeros(3, 6, dtype=torch.float64))
        model.train()

    with watch(model, optimizer, every=1, tracking="none", directory=tmp_path / "run"):
        train(model, optimizer, data(3), after_backward=clip)
    records = read(tmp_path / "run" / "gradient_flow.parquet")
    np.testing.assert_allclose(records.select(quantity="clip_coefficient").value, [0.05 / n for n in seen], rtol=1e-5)
    sizes = [records.grid(name)[2] for name in ("grad_norm", "grad_norm_bias")]
    np.testing.assert_allclose(np.sqrt(sum(s**2 for s in sizes).sum(0)), seen, rtol=1e-10)  # before clipping
    assert records.about["batch_size"] == N


def test_two_backward_calls_through_one_graph_add_up(tmp_path):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 4)).double()
    optimizer = torch.optim.SGD(body.parameters(), lr=0.0)
    (x, y), grids = data(1)[0], []
    for parts in (False, True):
        with watch(body, optimizer, every=1, tracking="none", directory=tmp_path / f"{parts}"):
            z = body(torch.from_numpy(x))
            losses = F.cross_entropy(z[:, :3], torch.from_numpy(y)), z[:, 3].square().mean()
            optimizer.zero_grad()
            if parts:
                losses[0].backward(retain_graph=True)
                losses[1].backward()
            else:
                sum(losses).backward()
            optimizer.step()
        records = read(tmp_path / f"{parts}" / "gradient_flow.parquet")
        grids.append([records.grid(q)[2] for q in ("delta_l2", "delta_coherence", "gradient_snr", "grad_norm")])
    for one, other in zip(*grids, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_delta_is_that_of_a_sample_where_batches_are_accumulated(tmp_path):
    grids = []
    for parts in (1, 4):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = (torch.from_numpy(a) for a in data(1)[0])
        with watch(model, optimizer, every=2, accumulate=parts, tracking="none", directory=tmp_path / f"{parts}") as w:
            for step in range(3):
                optimizer.zero_grad()
                for _ in range(parts):
                    (F.cross_entropy(model(x), y) / parts).backward()
                    w.log({"cost/train": float(step)})
                optimizer.step()
        records = read(tmp_path / f"{parts}" / "gradient_flow.parquet")
        grids.append([records.grid(q)[2] for q in ("delta_l2", "delta_rms", "gradient_snr", "grad_norm")])
        costs = read_metrics(tmp_path / f"{parts}" / "metrics.jsonl")["cost/train"]
        assert costs[0].tolist() == [0, 2] and costs[1].tolist() == [0, 1.5]  # the mean since the last record
    for one, other in zip(*grids, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_run_is_compared_drawn_and_reported_as_any_other(tmp_path, capsys, monkeypatch):
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer, every="epoch", steps_per_epoch=2, tracking="none", config={"seed": seed},
                   directory=tmp_path / f"run{seed}") as w:  # fmt: skip
            train(model, optimizer, data(), w=w)
    runs = [lookup.from_directory(tmp_path / f"run{seed}") for seed in (0, 1)]
    assert lookup.differences(runs)["seed"] == ["0", "1"]
    assert runs[0].outcome == "finished" and "going backward delta" in runs[0].finding
    assert {"cost/train", "lr", "gradient_flow/slope", "grad_norm/layer_01", "log10_delta_l2/layer_02"} <= set(
        runs[0].metrics
    )
    assert {"profile", "delta_heatmap", "gradient_norms", "update_ratios"} <= set(flow_figures(runs[0].records))
    assert runs[0].records.about["modules"] == ["0", "2", "4"]
    monkeypatch.chdir(tmp_path)
    assert compare.main(["run0", "run1"]) == 0
    said = capsys.readouterr().out
    assert "seed" in said and "going backward delta" in said
    (picture,) = (tmp_path / "outputs" / "compare").glob("*.png")
    assert picture.stat().st_size > 10_000 and picture.with_suffix(".html").is_file()
    page = (tmp_path / "run0" / "report.html").read_text()
    assert runs[0].finding in html.unescape(page) and "gradient_flow/slope" in page
    result = json.loads((tmp_path / "run0" / "result.json").read_text())
    assert (
        result["final"]["learned"] in (True, False)
        and result["finding"]["verdict"] == runs[0].records.about["finding"]["verdict"]
    )


def test_the_active_run_of_mlflow_gets_metrics_and_record(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        with mlflow.start_run() as run, watch(model, optimizer, every=1, directory=tmp_path / "run") as w:
            train(model, optimizer, data(3), w=w)
        client = mlflow.MlflowClient()
        history = client.get_metric_history(run.info.run_id, "log10_delta_l2/layer_01")
        stored = client.get_run(run.info.run_id)
        names = [item.path for item in client.list_artifacts(run.info.run_id)]
    finally:
        mlflow.set_tracking_uri(None)
    assert [m.step for m in history] == [0, 1, 2] and stored.info.status == "FINISHED"
    assert stored.data.tags["bpx.outcome"] == "finished" and stored.data.tags["bpx.finding"] == w.finding.sentence
    assert "gradient_flow.parquet" in names
    local = read_metrics(tmp_path / "run" / "metrics.jsonl")["log10_delta_l2/layer_01"][1]
    assert local.tolist() == [m.value for m in history]


class Scaled(nn.Module):
    def forward(self, x):
        return x * math.inf if self.on else x


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_first_non_finite_value_is_named(tmp_path, where):
    scaled = Scaled()
    scaled.on = False
    model = nn.Sequential(nn.Linear(6, 9), scaled, nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def spoil():
        if where == "backward" and w.step == 2:
            model[0].weight.grad[0, 0] = math.nan
            model[0].bias.grad[0] = math.nan

    with watch(model, optimizer, every=100, tracking="none", directory=tmp_path / "run") as w:
        for step, pair in enumerate(data(4)):
            scaled.on = where == "forward" and step == 2
            train(model, optimizer, [pair], after_backward=spoil)
    assert w.nonfinite.step == 2 and w.nonfinite.phase == where
    assert w.nonfinite.layer == ("1" if where == "forward" else "0")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["outcome"] == "diverged"
    assert " diverged" in str(w.final) and ": try lr=" in str(w.final)  # not the key of bpx.train


def test_the_record_ends_with_the_last_sound_step(tmp_path):
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=1, tracking="none", directory=tmp_path / "run") as w:
        for step, (x, y) in enumerate(data(6)):
            train(model, optimizer, [(x * math.nan if step >= 3 else x, y)])
    assert w.nonfinite.step == 3
    assert w.final.step == 2
    assert set(read(tmp_path / "run").step) == {0, 1, 2}


def test_without_settings_steps_are_measured_in_powers_of_two(tmp_path):
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, tracking="none", directory=tmp_path / "run") as w:
        train(model, optimizer, data(6))
    steps, *_ = read(tmp_path / "run" / "gradient_flow.parquet").grid("delta_l2")
    assert list(steps) == [0, 1, 2, 4] and w.final.step == 4


def test_an_exception_ends_the_record_and_removes_the_hooks(tmp_path):
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyError), watch(model, optimizer, every=1, tracking="none", directory=tmp_path / "run"):
        train(model, optimizer, data(2))
        raise KeyError
    assert not hooks(model, optimizer) and not optimizer._optimizer_step_pre_hooks
    assert json.loads((tmp_path / "run" / "result.json").read_text())["outcome"] == "crashed"
    assert len(read(tmp_path / "run" / "gradient_flow.parquet").grid("delta_l2")[0]) == 2


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_an_exception_inside_of_a_measured_pass_leaves_no_hooks(tmp_path, where):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if where == "forward":
                raise KeyError(where)
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise KeyError(where)

    class Model(nn.Sequential):
        def forward(self, x):
            return self[2](Fails.apply(self[1](self[0](x))))

    model = Model(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = torch.get_rng_state()
    with pytest.raises(KeyError), watch(model, optimizer, every=1, tracking="none", directory=tmp_path / "run"):
        train(model, optimizer, data(1))
    assert not hooks(model, optimizer) and not optimizer._optimizer_step_pre_hooks
    assert torch.equal(torch.get_rng_state(), state)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["outcome"] == "crashed"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": "epoch"}, "^steps_per_epoch: expected a number of steps"),
        ({"every": 0}, "^every: .*at least 1"),
        ({"every": 1, "probes": "all"}, "^probes: expected light or standard, got 'all'"),
        ({"every": 1, "tracking": "wandb"}, "^tracking: expected auto"),
        ({"every": 1, "reduction": "none"}, "^reduction: expected mean or sum"),
        ({"every": 1, "accumulate": 0}, "^accumulate: expected at least 1, got 0"),
    ],
)
def test_what_watch_cannot_take_is_one_clear_line(settings, message):
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=message):
        watch(model, torch.optim.SGD(model.parameters(), lr=0.1), **settings)
