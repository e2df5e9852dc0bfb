"""bpx.diagnose: the finding for any network, with its picture, and the network left as it was."""

import base64
import html
import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.image import imread
from matplotlib.text import Text

import bpx
from bpx.diagnosis.redrawn import FromSpec
from bpx.engine import mlp, residual_mlp, sgd
from bpx.engine.models import lstm, rnn
from bpx.engine.recurrent import Recurrent


def batch(n=40, n_in=30):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, n_in)), rng.integers(0, 5, n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model", [mlp, residual_mlp])
@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_any_network_on_any_batch(model, normalization, dtype):
    net = model(30, [20] * 6, 5, "tanh", normalization=normalization, dropout=0.1, dtype=dtype)
    before = {key: value.tobytes() for key, value in net.state_dict().items()}
    f = bpx.diagnose(net, *batch())
    assert f.verdict in ("healthy", "exploding", "vanishing") and f.predicted_slope is not None
    assert {key: value.tobytes() for key, value in net.state_dict().items()} == before
    assert len(f.figure.axes) == 2 and "base64" in f._repr_html_() and f.verdict[:4] in str(f).lower()


def test_a_notebook_shows_the_sentence_once_and_the_figure_alone_as_a_picture():
    f = bpx.diagnose(mlp(30, [20] * 12, 5, "sigmoid"), *batch())
    shown, said = f._repr_html_(), []
    f._repr_pretty_(SimpleNamespace(text=said.append), cycle=False)
    assert said == [f.sentence]
    assert shown.count(html.escape(f.sentence)) == 1
    drawn = " ".join(text.get_text() for text in f.figure.findobj(Text))
    assert "layer, from the input" in drawn and "per layer" not in drawn
    for png in (base64.b64decode(shown.split("base64,")[1].split('"')[0]), f.figure._repr_png_()):
        pixels = imread(io.BytesIO(png))
        assert pixels.shape[1] > 500 and pixels[..., :3].std() > 0.1


def test_a_network_in_the_middle_of_its_training_is_left_alone():
    x, y = batch()
    net = mlp(30, [20] * 4, 5, "relu").bind(40)
    optimizer = sgd(0.1).bind(net.parameters)
    net.cost(x.astype("f"), y)
    net.backward()
    grad = net.parameters.grad.copy()
    first = bpx.diagnose(net, x, y)
    np.testing.assert_array_equal(net.parameters.grad, grad)
    optimizer.propose()
    optimizer.apply()
    assert bpx.diagnose(net, x, y).slope != first.slope


def test_a_regression():
    x, _ = batch()
    f = bpx.diagnose(mlp(30, [20] * 4, 2, "tanh", loss="mean_squared_error"), x, np.ones((40, 2)))
    assert f.slope is not None


@pytest.mark.parametrize("y", [np.linspace(-1, 1, 40), np.arange(40) - 20])
def test_a_regression_of_one_output_takes_targets_in_a_row(y):
    x, _ = batch()
    net = mlp(30, [8] * 4, 1, "tanh", loss="mean_squared_error", seed=0).bind(40)
    assert bpx.diagnose(net, x, y).slope == bpx.diagnose(net, x, y[:, None]).slope
    rows = x.astype("f")
    assert net.cost(rows, y) == net.cost(rows, y[:, None])
    assert net.evaluate(rows, y) == net.evaluate(rows, y[:, None])


def test_one_hot_targets_are_classes():
    x, y = batch()
    net = mlp(30, [20] * 4, 5, "tanh")
    assert bpx.diagnose(net, x, np.eye(5, dtype=int)[y]).slope == bpx.diagnose(net, x, y).slope


@pytest.mark.filterwarnings("error")
def test_inputs_of_any_size_bring_no_warning():
    x, y = batch()
    for depth in (4, 30):
        assert bpx.diagnose(mlp(30, [20] * depth, 5, "tanh", seed=0), 1e30 * x, y).verdict


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.ones((4, 3)), np.zeros(4, int), "x must be"),
        (np.ones((0, 30)), np.zeros(0, int), "x must be"),
        (np.where(np.eye(4, 30) > 0, np.nan, 1), np.zeros(4, int), "x must be finite, got NaN or infinity in 4 of 4"),
        (np.ones((4, 30)), np.zeros(3, int), "labels must be"),
    ],
)
def test_what_does_not_fit_is_said(x, y, said):
    with pytest.raises(ValueError, match=said):
        bpx.diagnose(mlp(30, [20] * 4, 5), x, y)


def test_bpx_itself_draws_nothing():
    code = "import bpx, sys; print({'matplotlib', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match="no attribute 'diagnos'"):
        bpx.diagnos  # noqa: B018


@pytest.mark.parametrize(("activation", "value", "norm"), [("tanh", 0.01, "none"), ("relu", 0.5, "layer")])
def test_equal_weights_are_not_redrawn_as_random_ones(activation, value, norm):
    """What the symmetry does would stay: only another initializer is a remedy."""
    x, y = batch()
    constant = {"name": "constant", "value": value}
    net = mlp(30, [20] * 10, 5, activation, normalization=norm, initializer=constant)
    words = [remedy.change for remedy in bpx.diagnose(net, x, y).remedies]
    assert words and all(word.startswith("initializer=") for word in words)


def test_standard_inputs_are_not_to_be_standardized():
    x, y = batch()
    net = mlp(30, [20] * 4, 5, "tanh").bind(40)
    for factor, shift, said in ((1, 0, False), (30, 0, True), (1, 30, True)):
        net.cost((factor * x + shift).astype("f"), y)
        assert (FromSpec(net)("dataset.scaling", "standard") is not None) is said


@pytest.mark.parametrize(("dtype", "std"), [("float32", 1e-4), ("float64", 1e-12)])
def test_an_underflow_names_the_dtype_in_which_it_happened(dtype, std):
    net = mlp(30, [50] * 30, 5, "sigmoid", dtype=dtype, initializer={"name": "normal", "std": std})
    said = bpx.diagnose(net, *batch()).sentence
    assert f"because it is smaller than any {dtype}" in said
    assert ("dtype=float64 shows more" in said) is (dtype == "float32")


def test_zeros_far_from_underflow_are_not_said_to_be_one():
    """1e-100 is no small number of float64."""
    x, y = batch()
    net = mlp(30, [20] * 6, 5, "relu", dtype="float64").bind(40)
    net.dense[1].b.value[...], net.dense[2].b.value[...] = -1e6, 1
    net.dense[-1].W.value *= 1e-100
    said = bpx.diagnose(net, x, y).sentence
    assert "delta is exactly zero in layer_01 to layer_02" in said and "smaller than any" not in said


def test_where_nothing_comes_through_in_any_trial_it_is_said():
    f = bpx.diagnose(mlp(30, [1] * 5, 5, "relu", seed=0), *batch())
    assert f.trials == {} and "Cause: no single part: with each taken out nothing comes through." in f.sentence
    assert "less than one unit of layer_01 carries delta" in f.sentence and "saturated:" not in f.sentence


@pytest.mark.parametrize(("recurrent", "model"), [("same", rnn), ("orthogonal", rnn), ("same", lstm)])
def test_recurrent_weights_and_gate_biases_are_redrawn_as_they_were(recurrent, model):
    net = model((5, 3), [20], 4, "tanh", recurrent=recurrent, recurrent_scale=0.5).bind(8)
    net.cost(np.random.default_rng(0).standard_normal((8, 5, 3)).astype(np.float32), np.arange(8) % 4)
    net.backward()
    drawn = next(FromSpec(net)("activation", "relu" if model is rnn else "sigmoid").draws)
    for was, now in zip(net.parameters, drawn.parameters, strict=True):
        if was.name.endswith(".W"):
            assert np.std(now.value) == pytest.approx(np.std(was.value), rel=0.15)
            assert not np.array_equal(now.value, was.value)
        else:
            assert np.array_equal(now.value, was.value), was.name
    assert FromSpec(net)("initializer", "orthogonal") is not None
    other = next(FromSpec(net)("model", "gru").draws)  # of other gates: at the one scale, without what it is scaled by
    was, now = (next(layer for layer in each.layers() if isinstance(layer, Recurrent)) for each in (net, other))
    assert now.gates == 3 and np.std(now.W.value) == pytest.approx(np.std(was.W.value) / was.scale, rel=0.15)
