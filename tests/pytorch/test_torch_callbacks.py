"""The callbacks, beside the real libraries: a record of each measured step, and training as it is without them."""

import json
import warnings

import numpy as np
import pytest

from bpx.records import read, read_metrics

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # of libraries that are not ours
torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


def data():
    torch.manual_seed(1)
    x = torch.randn(64, 6)
    return x, (x[:, 0] > 0).long()


def layers():
    torch.manual_seed(0)
    return nn.Sequential(*[p for i in range(3) for p in (nn.Linear(6, 6), nn.Tanh())], nn.Linear(6, 2))


@pytest.mark.parametrize("whole", [True, False])
def test_lightning(tmp_path, whole):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning.pytorch")
        from bpx.torch.lightning import BpxCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = layers()

        def forward(self, x):
            return self.layers(x)

        def training_step(self, batch, index):
            x, y = batch
            return F.cross_entropy(self(x) if whole else self.layers(x), y)

        def validation_step(self, batch, index):
            self.log("accuracy/val", (self(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(callbacks, **settings):
        module = Module()
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=16)
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        settings = {"max_epochs": 3} | settings | quiet
        trainer = lightning.Trainer(accelerator="cpu", callbacks=callbacks, **settings)
        trainer.fit(module, loader, loader)
        return [p.detach().numpy().tobytes() for p in module.parameters()]

    callback = BpxCallback(every="epoch", tracking="none", directory=tmp_path / "run")
    assert fit([callback]) == fit([])
    records = read(tmp_path / "run" / "gradient_flow.parquet")
    steps, names, delta = records.grid("delta_l2")
    assert steps.tolist() == [0, 4, 8] and len(names) == 4 and np.isfinite(delta).all()
    assert (
        records.about["modules"] == ["layers.0", "layers.2", "layers.4", "layers.6"]
        and records.about["batch_size"] == 16
    )
    assert {"cost/train", "accuracy/val"} <= set(read_metrics(tmp_path / "run" / "metrics.jsonl"))
    assert json.loads((tmp_path / "run" / "result.json").read_text())["outcome"] == "finished"
    fit(
        [BpxCallback(every=1, tracking="none", directory=tmp_path / "parts")],
        max_epochs=1, accumulate_grad_batches=4, limit_val_batches=0,
    )  # fmt: skip
    x, y = data()
    with torch.no_grad():  # the loss of the epoch's four batches, and delta of the last one
        z = layers()(x)
    delta = (z[48:].softmax(1) - F.one_hot(y[48:], 2)).square().sum(1).mean().sqrt()
    ((_, costs),) = [read_metrics(tmp_path / "parts" / "metrics.jsonl")["cost/train"]]
    assert costs.tolist() == pytest.approx([float(F.cross_entropy(z, y))], rel=1e-6)
    found = read(tmp_path / "parts" / "gradient_flow.parquet").grid("delta_l2")[2]
    assert found[-1].tolist() == pytest.approx([float(delta)], rel=1e-5)


def test_the_hugging_face_trainer(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        pytest.importorskip("accelerate")
        from bpx.torch.transformers import BpxCallback

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = layers()

        def forward(self, x, labels=None):
            logits = self.layers(x)
            return {"loss": F.cross_entropy(logits, labels), "logits": logits}

    x, y = data()
    rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), num_train_epochs=3, per_device_train_batch_size=16, logging_steps=1,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    callback = BpxCallback(every="epoch", tracking="none", directory=tmp_path / "run")
    transformers.Trainer(model=Model(), args=arguments, train_dataset=rows, callbacks=[callback]).train()
    records = read(tmp_path / "run" / "gradient_flow.parquet")
    assert records.grid("delta_l2")[0].tolist() == [0, 4, 8] and records.about["batch_size"] == 16
    assert (records.select(quantity="update_ratio").value > 0).all()
    metrics = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {"cost/train", "grad_norm/layer_01"} <= set(metrics) and callback.watched.closed
    arguments.gradient_accumulation_steps, arguments.num_train_epochs = 2, 1
    callback = BpxCallback(every=1, tracking="none", directory=tmp_path / "parts")
    transformers.Trainer(model=Model(), args=arguments, train_dataset=[rows[0]] * 64, callbacks=[callback]).train()
    z = layers()(x[:1]).detach()
    delta = float((z.softmax(1) - F.one_hot(y[:1], 2)).square().sum().sqrt())
    found = read(tmp_path / "parts" / "gradient_flow.parquet").grid("delta_l2")[2]
    assert found.shape == (4, 2) and found[-1, 0] == pytest.approx(delta, rel=1e-5)
