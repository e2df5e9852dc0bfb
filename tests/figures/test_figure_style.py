"""What all figures share: colours that everybody tells apart, axes of true steps, and files in three formats."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bpx.figures import regression
from bpx.figures.canvas import PALETTE, new_figure, save
from bpx.figures.gradient_check import gradient_bars
from bpx.figures.steps import MAX_CELLS, drawn_steps, logarithmic, step_axis, step_edges
from bpx.figures.units import usual_saturation
from bpx.training import save_evaluation

VISION = {  # of linear RGB; Machado et al. (2009), severity 1
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


def lab(colour, vision):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    f = np.cbrt(TO_XYZ @ np.clip(np.array(vision) @ linear, 0, 1) / [0.9505, 1, 1.0888])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(("vision", "least"), [("normal", 25), *((v, 15) for v in list(VISION)[1:])])
def test_colours_are_told_apart_with_every_kind_of_vision(vision, least):
    places = [lab(colour, VISION[vision]) for colour in PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in combinations(places, 2)) > least  # CIE 1976


@pytest.mark.parametrize(
    ("steps", "log"), [((0, 1, 10, 100), True), (range(0, 700, 7), False), ((0, 5, 9), False), ((0,), False)]
)
def test_the_axis_is_that_of_true_steps(steps, log):
    steps = np.array(steps)
    axes = Figure().subplots()
    axes.plot(steps, steps)
    step_axis(axes, steps)
    places = axes.transData.transform(np.column_stack([steps, steps]))[:, 0]
    assert logarithmic(steps) == log and (np.diff(places) > 0).all()
    shown = np.log1p(steps) if log else steps
    if len(steps) > 2:
        np.testing.assert_allclose(np.diff(places) / np.diff(places).sum(), np.diff(shown) / np.diff(shown).sum())
    edges = step_edges(steps)
    assert len(edges) == len(steps) + 1 and (edges[:-1] < steps).all() and (edges[1:] > steps).all()


@pytest.mark.parametrize(("suffix", "head"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_figure_is_the_same_file_each_time(tmp_path, suffix, head):
    written = []
    for name in "ab":
        figure = new_figure("toy", "title")
        figure.subplots().plot([1, 2], [3, 4])
        written.append(save(figure, tmp_path / f"{name}.{suffix}").read_bytes())
    assert written[0].startswith(head) and written[0] == written[1]


@pytest.mark.parametrize(("name", "share"), [("relu", 0.5), ("sigmoid", 0.0), ("tanh", 0.0292), ("linear", 0.0)])
def test_what_is_normal_for_an_activation_is_its_share_under_a_normal_distribution(name, share):
    """tanh: 1 - tanh(z)**2 < 0.05 for |z| > 2.178, of N(0, 1) 2.9 %."""
    found = usual_saturation(SimpleNamespace(about={"activation": {"name": name}}))
    assert found == (name, pytest.approx(share, abs=6e-4))


def test_all_bars_of_a_gradient_are_seen_and_ticks_name_their_tensors():
    axes = Figure(figsize=(4, 4)).subplots()
    values = np.array([-8e-5, 9e-5, 1e-2, 6e-2])
    gradient_bars(axes, ["1.W", "1.W", "2.W", "2.b"], values, values, "")
    heights = [bar.get_window_extent().height for bar in axes.patches]
    assert len(heights) == 8 and min(heights) > 0.05 * axes.get_window_extent().height
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1.W", "2.W", "2.b"]


class Network:
    """Outputs that are given, whatever the inputs."""

    out_shape, n_out = (1,), 1

    def __init__(self, outputs):
        self.outputs = np.array(outputs)

    def predict(self, x):
        return self.outputs[np.asarray(x[:, 0], int)]


def data(y, n_classes):
    x = np.arange(len(y), dtype=float)[:, None]
    scaler = SimpleNamespace(inverse=lambda scaled: 10 * scaled)
    return SimpleNamespace(
        name="toy", class_names=("a", "b") if n_classes else (), n_classes=n_classes, n_in=1, image_shape=None,
        x_test=x, y_test=np.array(y), x_train=x, y_train=np.array(y), scaler=scaler, target_scaler=scaler,
    )  # fmt: skip


def test_the_worst_errors_come_first(tmp_path):
    right = np.array([0.9, 0.4, 0.1, 0.6])  # probability of the true class, 0
    save_evaluation(tmp_path / "e.npz", Network(np.column_stack([right, 1 - right])), data([0] * 4, 2), None)
    with np.load(tmp_path / "e.npz") as kept:
        assert kept["sample_x"].ravel().tolist() == [20, 10, 30, 0]
        assert kept["sample_pred"].tolist() == [1, 1, 0, 0]


def test_predicted_stands_against_true_in_the_units_of_the_data(tmp_path):
    true, predicted = [[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]]
    save_evaluation(tmp_path / "e.npz", Network(predicted), data(true, None), None)
    with np.load(tmp_path / "e.npz") as kept:
        axes = regression(dict(kept)).axes[0]
    equal, drawn = axes.lines
    assert drawn.get_xdata().tolist() == [0, 10, 20] and drawn.get_ydata().tolist() == [0, 10, 10]
    assert (equal.get_xdata() == equal.get_ydata()).all() and axes.get_title() == "R² = 0.500"


@pytest.mark.parametrize("steps", [np.arange(100_001), np.unique(np.geomspace(1, 1e6, 90_000).astype(int)) - 1])
def test_a_heat_map_of_many_records_draws_few_columns_evenly_along_the_axis(steps):
    drawn = drawn_steps(steps)
    assert 0.6 * MAX_CELLS < len(drawn) <= MAX_CELLS and drawn[0] == 0 and drawn[-1] == len(steps) - 1
    edges = step_edges(steps[drawn])
    at = np.log1p(edges[1:]) if logarithmic(steps) else edges
    assert np.diff(at).max() < (at[-1] - at[0]) / 15
    assert drawn_steps(steps[:MAX_CELLS]).tolist() == list(range(MAX_CELLS))
