import importlib
import json
import time

import numpy as np
import pytest
from conftest import thinned
from matplotlib.text import Text

from bpx.figures import (
    confusion,
    curves,
    decision,
    delta_heatmap,
    draw_all,
    gradient_norms,
    layer_profile,
    samples,
)
from bpx.figures.canvas import save
from bpx.records import Key, RecordWriter, read

QUANTITIES = ("grad_norm", "grad_norm_bias", "delta_l2", "preactivation_rms", "activation_rms")
ALWAYS = {"curves", "gradient_norms", "profile", "delta_heatmap"}
IMAGES = {
    "class_names": np.array(["zero", "one", "two"]),
    "confusion": np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]]),
    "sample_x": np.random.default_rng(0).random((9, 64)),
    "sample_image_shape": np.array([8, 8]),
    "sample_true": np.array([0, 1, 2] * 3),
    "sample_pred": np.array([0, 1, 1] * 3),
    "sample_prob": np.full(9, 0.75),
    "test_accuracy": np.float64(0.85),
}
PLANE = IMAGES | {
    "sample_x": np.zeros((9, 2)),
    "sample_image_shape": np.array([], int),
    "grid_x": np.linspace(-1, 1, 20),
    "grid_y": np.linspace(10, 20, 30),
    "grid_class": np.arange(600).reshape(30, 20) % 3,
    "points": np.array([[0.0, 12.0], [0.5, 18.0]]),
    "points_label": np.array([0, 2]),
}
REGRESSION = {"class_names": np.array([], str)}


def record(path, values, steps=(0, 1, 10, 100), quantities=QUANTITIES):
    """Write ``values`` (layers,) for every quantity; they halve from one step to the next."""
    writer = RecordWriter(path)
    writer.about = {"dataset": "digits28 (fallback)"}
    keys = tuple(Key(f"layer_{i:02d}", "", q, 0) for i in range(1, len(values) + 1) for q in quantities)
    for n, step in enumerate(steps):
        writer.append(step, step / 10, keys, np.repeat(values, len(quantities)) / 2**n)
    writer.close()
    return read(path)


@pytest.fixture
def run(tmp_path):
    def build(arrays, values=(1e-3, 1e-2, 1e-1), metrics=None, **more):
        np.savez(tmp_path / "evaluation.npz", name=np.array("digits28 (fallback)"), **arrays)
        record(tmp_path / "gradient_flow.parquet", np.array(values), **more)
        lines = metrics or [
            (0, {"cost/train": 2.3, "cost/val": 2.3, "accuracy/val": 0.1}),
            (100, {"cost/train": 0.01, "cost/val": 0.02, "accuracy/val": 0.9}),
            (100, {"cost/test": 0.031, "accuracy/test": 0.9876}),
        ]
        text = "".join(json.dumps({"step": s, "epoch": 0.0, "time": 0.0, "metrics": m}) + "\n" for s, m in lines)
        (tmp_path / "metrics.jsonl").write_text(text)
        return tmp_path

    return build


def drawn_texts(figure, path):
    """Save a figure and return its texts as matplotlib draws them: none of them is a formula."""
    save(figure, path / "x.png")
    texts = [t._preprocess_math(t.get_text()) for t in figure.findobj(Text)]
    assert not [text for text, formula in texts if formula and "mathdefault" not in text]
    return {text for text, _ in texts}


def words(figure):
    return " | ".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize(
    ("arrays", "more"),
    [
        (IMAGES, {"confusion", "samples"}),
        (PLANE, {"confusion", "decision"}),
        pytest.param(REGRESSION, set(), marks=pytest.mark.slow),
    ],
    ids=["images", "plane", "regression"],
)
def test_what_the_files_hold_is_drawn(run, arrays, more):
    directory = run(arrays)
    paths = draw_all(directory)
    assert {path.stem for path in paths} == ALWAYS | more
    assert set(paths) == set((directory / "figures").iterdir())
    for path in paths:
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG") and 600 < int.from_bytes(head[16:20]) < 1200


def test_quantities_that_were_not_recorded_are_left_out(run):
    assert {p.stem for p in draw_all(run(REGRESSION, quantities=("delta_l2",)))} == {"curves", "delta_heatmap"}


def test_a_run_without_probes_has_its_curves(run):
    assert {p.stem for p in draw_all(run(REGRESSION, steps=()))} == {"curves"}


VALUES = [(0, 0, 0), (np.nan,) * 3, (np.inf, 1, 0), (0, np.nan, 1e-30), (1, 1, 1), (1e-300, 1, 1e300), (1,)]


@pytest.mark.parametrize(("values", "steps"), thinned(VALUES, [(0,), (0, 1, 9)], every=7))
def test_no_value_stops_a_figure(run, values, steps):
    assert {p.stem for p in draw_all(run(REGRESSION, values=values, steps=steps))} == ALWAYS


def test_no_values_of_a_trained_network_stop_a_figure(run):
    values = [value for values in VALUES for value in values]
    assert {p.stem for p in draw_all(run(REGRESSION, values=values, steps=(0, 1, 9)))} == ALWAYS


@pytest.mark.parametrize("cost", thinned([0.0, float("nan"), float("inf")]))
def test_no_cost_stops_the_curves(run, cost):
    directory = run(REGRESSION, metrics=[(0, {"cost/train": 2.0}), (1, {"cost/train": cost})])
    assert "curves" in {p.stem for p in draw_all(directory)}


def test_a_cost_that_hardly_changes_looks_level(run):
    directory = run(REGRESSION, metrics=[(step, {"cost/train": 2.3026 - 1e-4 * step}) for step in range(9)])
    low, high = curves(directory / "metrics.jsonl", "data").axes[0].get_ylim()
    assert 8e-4 / (high - low) < 0.02


def test_the_whole_set_is_quick(run):
    directory = run(IMAGES, values=10.0 ** -np.arange(50.0))
    start = time.process_time()
    draw_all(directory)
    assert time.process_time() - start < 2.5


def test_every_figure_names_the_dataset(run):
    name = "digits28 (fallback)"
    directory = run(REGRESSION)
    arrays, rows = PLANE | {"name": np.array(name)}, read(directory / "gradient_flow.parquet")
    figures = [confusion(arrays), decision(arrays), samples(IMAGES | {"name": np.array(name)})]
    figures += [draw(rows) for draw in (gradient_norms, layer_profile, delta_heatmap)]
    for figure in [*figures, curves(directory / "metrics.jsonl", name)]:
        assert f"dataset: {name}" in words(figure)


def test_costs_that_range_over_decades_get_a_log_axis_and_the_title_says_how_it_ended(run):
    figure = curves(run(REGRESSION) / "metrics.jsonl", "moons")
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    assert figure.get_suptitle() == "test cost 0.031 · test accuracy 98.76 %"
    assert figure.axes[1].lines[0].get_ydata().tolist() == [10.0, 90.0]


def test_the_confusion_matrix_shows_counts_and_errors_have_the_scale_to_themselves():
    figure = confusion(IMAGES | {"name": np.array("x")})
    assert "20 test samples: 3 errors" in figure.get_suptitle()
    axes = figure.axes[0]
    right, errors = (np.ma.masked_invalid(image.get_array()) for image in axes.images)
    assert (~right.mask == np.eye(3, dtype=bool)).all()
    np.testing.assert_allclose(errors.filled(0), [[0, 20, 0], [10, 0, 0], [0, 0, 0]])  # % of the true class
    assert errors.mask[2, 0] and axes.images[1].get_clim() == (0, 20)
    assert {(t.get_text(), t.get_position()) for t in axes.texts} == {
        ("8", (0, 0)), ("2", (1, 0)), ("1", (0, 1)), ("9", (1, 1)),
    }  # fmt: skip
    assert [t.get_text() for t in axes.get_yticklabels()] == ["zero", "one", "two"]


def test_samples_are_green_where_right_and_red_where_wrong():
    figure = samples(IMAGES | {"name": np.array("x")})
    titles = [axes.title for axes in figure.axes]
    assert titles[0].get_text() == "zero (0.75)\ntrue: zero" and titles[2].get_text() == "one (0.75)\ntrue: two"
    colours = [title.get_color() for title in titles]
    assert colours == [colours[0], colours[0], colours[2]] * 3 and colours[0] != colours[2]


def test_points_lie_on_the_region_of_their_raw_coordinates():
    axes = decision(PLANE | {"name": np.array("x")}).axes[0]
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections[1:]])
    np.testing.assert_array_equal(drawn, PLANE["points"])
    assert axes.get_xlim()[0] < -1 < 1 < axes.get_xlim()[1] and axes.get_ylim()[1] > 20


def test_first_and_last_step_are_drawn_by_layer_on_a_log_axis(tmp_path):
    rows = record(tmp_path / "r.parquet", np.array([1e-6, 1e-3, 1.0]))
    left, right = gradient_norms(rows).axes
    drawn = {line.get_label(): line.get_ydata().tolist() for line in left.lines}
    assert drawn["weights, initialization"] == [1e-6, 1e-3, 1.0]
    assert drawn["biases, step 100"] == [1e-6 / 8, 1e-3 / 8, 1 / 8]
    assert left.get_yscale() == right.get_yscale() == "log"
    assert right.lines[2].get_ydata().tolist() == [1, 1 / 2, 1 / 4, 1 / 8]
    assert [t.get_text() for t in right.get_xticklabels()] == ["0", "1", "10", "100"]


def test_a_zero_gradient_is_marked_and_not_lost(tmp_path):
    rows = record(tmp_path / "r.parquet", np.array([0.0, 1e-3, np.inf]))
    axes = layer_profile(rows).axes[1]
    drawn = {line.get_label(): line.get_xdata().tolist() for line in axes.lines}
    assert drawn["exactly zero"] == [1] and drawn["infinite or above 1e+250"] == [3]
    assert axes.get_xlim() == (0.5, 3.5)


@pytest.mark.parametrize(("depth", "images"), [(8, 0), (9, 1)])
def test_many_layers_over_time_are_a_heat_map(tmp_path, depth, images):
    rows = record(tmp_path / "r.parquet", np.ones(depth))
    assert len(gradient_norms(rows).axes[1].collections) == images


def test_the_heat_map_holds_log10_of_delta_one_column_a_record(tmp_path):
    axes = delta_heatmap(record(tmp_path / "r.parquet", np.array([0.0, 1e-3, 1.0]))).axes[0]
    (mesh,) = axes.collections
    drawn = np.ma.masked_invalid(mesh.get_array())
    edges = mesh.get_coordinates()[0, :, 0]
    assert (edges[:-1] < [0, 1, 10, 100]).all() and (edges[1:] > [0, 1, 10, 100]).all()  # each around its step
    np.testing.assert_allclose(drawn[1:], [[-3], [0]] - np.log10([1, 2, 4, 8]), atol=1e-12)
    assert drawn.mask[0].all()
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "1", "10", "100"]


def test_labels_and_names_are_drawn_as_they_are(tmp_path):
    """`$1_$2` is no formula: it crashed the run after training, and `$0-$10` was drawn as 0−10."""
    names = np.array(["$1_$2", "$0-$10", "_^{" * 40])
    for draw, arrays in ((confusion, PLANE), (samples, IMAGES), (decision, PLANE)):
        texts = drawn_texts(draw(arrays | {"class_names": names, "name": np.array("$1_$2.csv")}), tmp_path)
        assert any("$1_$2.csv" in text for text in texts)
        assert any("$0-$10" in text for text in texts) and max(map(len, texts)) < 120


def test_a_figure_that_fails_leaves_the_others(run, monkeypatch):
    def broken(arrays):
        raise ValueError("no\nsuch thing")

    monkeypatch.setitem(importlib.import_module("bpx.figures.run").FROM_ARRAYS, "confusion", ("confusion", broken))
    failed = {}
    drawn = draw_all(run(IMAGES), failed)
    assert failed == {"confusion": "ValueError: no such thing"} and "curves" in {p.stem for p in drawn}
    with pytest.raises(ValueError, match="such thing"):
        draw_all(run(IMAGES))
