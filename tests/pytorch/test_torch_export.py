"""python -m bpx.export: the file computes, without bpx, what the saved model predicts."""

import importlib
import math
import sys

import numpy as np
import pytest
from conftest import write_own_parts

from bpx import export
from bpx.engine import mlp, models, residual_mlp
from bpx.engine.features import Scaler
from bpx.engine.model_files import load_model, save_model

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
NEW = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6)
needs_exporters = pytest.mark.skipif(not NEW, reason="needs torch 2.6")
X = np.random.default_rng(1).standard_normal((7, 5)) * 3 + 1000


def saved(directory, model=mlp, **settings):
    net = model(5, [8, 8], 3, **settings)
    rng = np.random.default_rng(0)
    regression = settings.get("loss") == "mean_squared_error"
    target = Scaler(np.full(3, 5.0), np.full(3, 2.0)) if regression else None
    save_model(directory, net, Scaler(np.full(5, 1000.0), rng.uniform(1, 3, 5)), target_scaler=target)
    return load_model(directory).predict(X)


COMPOSITIONS = [
    {"activation": "gelu", "normalization": "batch", "dropout": 0.2},
    {"activation": "tanh", "normalization": "layer", "model": residual_mlp},
    {"activation": "selu", "normalization": "rms", "loss": "sigmoid_cross_entropy", "dtype": "float64"},
    {"activation": "relu", "loss": "mean_squared_error"},
]


POSITIONED = {
    "convnet": ((9, 8, 3), {"hidden": [7], "channels": [3, 4], "kernel": 3, "normalization": "batch"}),
    "residual_conv": ((8, 7, 3), {"hidden": [5] * 3, "normalization": "layer", "stride": 2}),
    "rnn": ((5, 4), {"hidden": [6], "activation": "gelu", "learn_start": True}),
    "lstm": ((5, 4), {"hidden": [6, 5], "truncate": 2, "learn_start": True}),
    "gru": ((5, 4), {"hidden": [6]}),
    "transformer": ((5, 4), {"hidden": [8], "heads": 2}),
}


@needs_exporters
@pytest.mark.slow
@pytest.mark.parametrize("name", POSITIONED)
@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_the_file_of_a_model_with_positions(form, name, tmp_path, capsys):
    shape, settings = POSITIONED[name]
    n, rng = math.prod(shape), np.random.default_rng(0)
    net = getattr(models, name)(shape, n_out=3, **settings)
    save_model(tmp_path, net, Scaler(np.full(n, 10.0), rng.uniform(1, 3, n)))
    x = rng.standard_normal((7, n)) * 3 + 10
    assert export.main([str(tmp_path), f"format={form}"]) == 0, capsys.readouterr()
    for rows in (x, x[:1]):
        expected = load_model(tmp_path).predict(rows)
        np.testing.assert_allclose(computed(tmp_path, form, rows), expected, rtol=0, atol=1e-6)


def computed(directory, form, x):
    """Return what an exported file gives for ``x``, without bpx."""
    if form == "onnx":
        runtime = pytest.importorskip("onnxruntime")
        session = runtime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
        return session.run(None, {"x": x})[0]
    return torch.export.load(directory / "model.pt2").module()(torch.from_numpy(x)).detach().numpy()


@needs_exporters
@pytest.mark.parametrize("composition", COMPOSITIONS, ids=lambda c: c["activation"])
@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_the_file_predicts_as_the_model(form, composition, tmp_path, capsys):
    expected = saved(tmp_path, **composition)
    assert export.main([str(tmp_path), f"format={form}"]) == 0, capsys.readouterr()
    found = computed(tmp_path, form, X)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_safetensors_hold_the_named_tensors(tmp_path):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    saved(tmp_path, activation="tanh", normalization="batch")
    assert export.main([str(tmp_path), "format=safetensors", f"out={tmp_path}/x.safetensors"]) == 0
    held = load_file(tmp_path / "x.safetensors")
    with np.load(tmp_path / "model.npz") as arrays:
        named = {key.removeprefix("state/"): arrays[key] for key in arrays if key.startswith("state/")}
    assert named and all(held[key].tobytes() == value.tobytes() for key, value in named.items())
    assert {"layer_01.dense.W", "layer_02.norm.running_var", "scaler.shift"} <= set(held)


def test_a_model_with_own_parts_is_exported_where_their_module_is_allowed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("safetensors")
    write_own_parts(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("mine")
    with pytest.raises(ValueError, match="give allow="):  # it reads the model back
        saved(tmp_path, activation=mine.Sine(), loss=mine.SquaredHinge())
    words = [str(tmp_path), "format=safetensors"]
    assert export.main(words) == 2 and "give allow=[mine]" in capsys.readouterr().err
    assert export.main([*words, "allow=[mine]"]) == 0
    assert export.main([str(tmp_path), "format=torch", "allow=[mine]"]) == 2
    assert "no counterpart" in capsys.readouterr().err
    del sys.modules["mine"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected RUN format="),
        (["x"], "expected RUN format="),
        (["x", "format=keras"], "format: expected onnx, torch, safetensors, got 'keras'"),
        (["x", "format=onnx"], "the model in x cannot be read"),
        (["x", "format=onnx", "opset=3"], "unknown key opset; keys are format=, out=, allow="),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert export.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1 and not list(tmp_path.iterdir())
