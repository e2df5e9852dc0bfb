"""The figures of a study say what its table says."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, TwoSlopeNorm
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.text import Text

from bpx.figures import maps, sweep
from bpx.figures.canvas import save
from bpx.figures.trials import read_trials
from bpx.sweep.plots import draw_plots

SPACE = {"optimizer.lr": "interval(1e-4,1)", "model.depth": "range(2,9)", "batch_size": "choice(32,64,128)"}
HOW = ["finished", "finished", "finished", "pruned", "diverged", "diverged", "crashed"]


def written(home, rows, space, **about):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (home / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    given = {"name": "s", "objective": ["cost/val"], "direction": ["minimize"], "space": space, "dataset": "toy"}
    (home / "study.json").write_text(json.dumps(given | {"depth_scale": {}} | about))
    return read_trials(home)


def drawn_texts(figure, path):
    """Save a figure and return its texts as matplotlib draws them, none of them a formula but powers of ten."""
    save(figure, path / "x.png")
    texts = {t.get_text(): t._preprocess_math(t.get_text()) for t in figure.findobj(Text)}
    assert not {text for text, (_, formula) in texts.items() if formula and "mathdefault" not in text}
    return {text for text, _ in texts.values()}


@pytest.fixture
def trials(tmp_path):
    rows = []
    for i, how in enumerate(HOW):
        row = {"trial": i, "outcome": how, "optimizer.lr": 10.0**-i, "model.depth": 2 + i, "batch_size": 32 << i % 3}
        if how == "finished":
            row |= {"cost/val": 10.0**-i, "accuracy/val": 0.3 * i, "gradient_flow/slope": i - 1.5}
        rows.append(row)
    return written(tmp_path, rows, SPACE)


def offsets(axes):
    """Return the points of each named kind of trial."""
    return {c.get_label(): np.asarray(c.get_offsets()) for c in axes.collections if len(c.get_offsets()) > 0}


@pytest.mark.parametrize("value", ["cost/val", "accuracy/val", "gradient_flow/slope"])
def test_a_map_marks_what_finished_was_pruned_and_diverged(trials, value):
    figure = maps.trial_map(trials, "optimizer.lr", "model.depth", value)
    axes = figure.axes[0]
    shown = offsets(axes)
    assert {name: len(points) for name, points in shown.items()} == {"finished": 3, "pruned": 1, "diverged": 2}
    assert np.allclose(shown["diverged"], [[1e-4, 6], [1e-5, 7]])
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear"
    assert all(tick == round(tick) for tick in axes.get_yticks())
    best = next(line for line in axes.lines if line.get_label() == "best")
    assert best.get_xydata().tolist() == [[1e-2, 4]]
    finished = next(c for c in axes.collections if c.get_label() == "finished")
    if value == "cost/val":
        assert np.allclose(finished.get_array(), [1, 0.1, 0.01]) and isinstance(finished.norm, LogNorm)
    if value == "gradient_flow/slope":
        norm = finished.norm
        assert isinstance(norm, TwoSlopeNorm) and norm.vcenter == 0 and norm.vmin == -norm.vmax
        assert "after training" in figure.get_suptitle()


def test_the_edge_of_trainability_runs_between_what_trains_and_what_does_not(tmp_path):
    """Networks of up to 10 layers reach 0.9, deeper ones 0.1, and those with a learning rate of 1 diverge."""
    rows = [
        {"trial": i, "outcome": "diverged" if lr == 1 else "finished", "optimizer.lr": lr, "model.depth": depth}
        | ({} if lr == 1 else {"accuracy/val": 0.9 if depth <= 10 else 0.1})
        for i, (lr, depth) in enumerate((lr, d) for lr in 10.0 ** np.arange(-4, 1) for d in range(2, 22, 2))
    ]
    trials = written(tmp_path, rows, SPACE, objective=["accuracy/val"], direction=["maximize"])
    axes = maps.trial_map(trials, "optimizer.lr", "model.depth", "accuracy/val").axes[0]
    ground, edge = (c for c in axes.collections if isinstance(c, ContourSet))
    path = edge.get_paths()[0].vertices
    level = path[(path[:, 0] > 1e-4) & (path[:, 0] < 1e-2)]
    assert len(level) and (abs(level[:, 1] - 11) < 1).all()
    assert 0.05 < path[:, 0].max() < 1
    assert ground.get_paths()[0].contains_point((1e-3, 18)) and not ground.get_paths()[0].contains_point((1e-3, 5))


def test_a_learning_rate_has_a_log_axis_however_little_it_ranges(tmp_path):
    rows = [
        {"trial": i, "outcome": "finished", "optimizer.lr": lr, "model.depth": 3 + i, "cost/val": 1.0}
        for i, lr in enumerate((0.1, 0.2, 0.4, 0.5))
    ]
    axes = maps.trial_map(written(tmp_path, rows, SPACE), "optimizer.lr", "model.depth", "cost/val").axes[0]
    axes.figure.draw_without_rendering()
    assert axes.get_xscale() == "log" and "0.2" in [t.get_text() for t in axes.get_xticklabels()]


def test_batch_sizes_are_named_on_a_doubling_axis(trials):
    axes = maps.trial_map(trials, "optimizer.lr", "batch_size", "cost/val").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["32", "64", "128"] and axes.get_yscale() == "log"


def test_every_figure_of_a_space_is_drawn(trials, tmp_path):
    made = {path.stem for path in sweep.draw_sweep(tmp_path, tmp_path)}
    kinds = ("cost", "accuracy", "slope")
    assert made == {f"map_lr_{key}_{kind}" for key in ("depth", "batch_size") for kind in kinds}


def test_trainable_depth_stands_beside_six_depth_scales(tmp_path):
    rows = [
        {"trial": i, "outcome": "finished", "initializer.sigma_w": w, "model.depth": d, "accuracy/val": 0.5 + w / 10}
        for i, (w, d) in enumerate((w, d) for w in (1.0, 2.0) for d in (5, 50))
    ]
    space = {"initializer.sigma_w": "choice(1,2)", "model.depth": "choice(5,50)"}
    trials = written(tmp_path, rows, space, depth_scale={"sigma_w": [1.0, 1.5, 2.0], "xi_c": [2.0, float("inf"), 4.0]})
    axes = maps.trainable_depth(trials).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "6 ξc, theory")
    assert line.get_ydata()[0] == 12 and line.get_ydata()[2] == 24 and np.isfinite(line.get_ydata()).all()
    assert "trainable_depth.png" in {path.name for path in sweep.draw_sweep(tmp_path, tmp_path)}


def test_steps_stand_beside_those_over_which_theory_changes_a_gradient_by_a_decade(tmp_path):
    rows = [
        {"trial": i, "outcome": "finished", "model.recurrent_scale": g, "dataset.steps": T, "cost/val": g * T,
         "gradient_flow/predicted_time_slope": slope}
        for i, (g, slope, T) in enumerate(
            (g, s, T) for g, s in ((0.5, -0.25), (1.0, -0.01), (2.0, 0.1)) for T in (5, 40)
        )
    ]  # fmt: skip
    space = {"model.recurrent_scale": "choice(0.5,1,2)", "dataset.steps": "choice(5,40)"}
    trials = written(tmp_path, rows, space)
    axes = maps.trial_map(trials, "model.recurrent_scale", "dataset.steps", "cost/val").axes[0]
    line = next(line for line in axes.lines if line.get_label() == "a decade, theory")
    np.testing.assert_allclose(line.get_ydata(), [5, 101, 11])
    assert "map_recurrent_scale_steps_cost.png" in {path.name for path in sweep.draw_sweep(tmp_path, tmp_path)}


def test_a_table_of_words_shows_means_gaps_and_divergence(tmp_path):
    rows = [
        {"trial": 0, "outcome": "finished", "activation": "relu", "initializer": "a", "cost/val": 1.0},
        {"trial": 1, "outcome": "finished", "activation": "relu", "initializer": "a", "cost/val": 2.0},
        {"trial": 2, "outcome": "diverged", "activation": "tanh", "initializer": "b"},
    ]
    trials = written(tmp_path, rows, {"activation": "choice(relu,tanh)", "initializer": "choice(a,b)"})
    texts = [t.get_text() for t in sweep.table(trials, "activation", "initializer").axes[0].texts]
    assert texts == ["1.5", "–", "–", "– ×"]


def test_repeats_have_their_median(tmp_path):
    values = {0.1: [1.0, 2.0, 9.0], 0.2: [3.0, 4.0, 5.0]}
    rows = [
        {"trial": 0, "outcome": "finished", "optimizer.lr": lr, "cost/val": value}
        for lr, several in values.items()
        for value in several
    ]
    rows.append({"trial": 7, "outcome": "diverged", "optimizer.lr": 0.2, "cost/val": 1e9})
    trials = written(tmp_path, rows, {"optimizer.lr": "choice(0.1,0.2)", "seed": "range(0,3)"})
    median = sweep.repeats(trials, "optimizer.lr").axes[0].lines[1]
    assert median.get_xydata().tolist() == [[0.1, 2.0], [0.2, 4.0]]


def test_a_study_without_trials_has_no_figures(tmp_path):
    written(tmp_path, [], SPACE)
    assert sweep.draw_sweep(tmp_path, tmp_path) == []


WORDS = ["constant", "critical", "he_normal", "he_uniform", "identity", "lecun_normal", "lecun_uniform", "lsuv"]
WORDS += ["normal", "orthogonal", "uniform", "xavier_normal", "xavier_uniform", "zeros"]


def boxes(labels):
    return [label.get_window_extent() for label in labels if label.get_text()]


@pytest.mark.parametrize("words", [WORDS, WORDS[:3]])
def test_no_word_of_optunas_plots_is_printed_over_another(tmp_path, monkeypatch, words):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    keys = {"initializer": optuna.distributions.CategoricalDistribution(words)}
    keys["activation"] = optuna.distributions.CategoricalDistribution(["tanh", "relu"])
    for i, word in enumerate(words):
        params = {"initializer": word, "activation": ["tanh", "relu"][i % 2]}
        trial = optuna.trial.create_trial(params=params, distributions=keys, value=float(i))
        trial.set_user_attr("bpx.result", {"outcome": "finished"})
        study.add_trial(trial)
    drawn = {}
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.update({path.stem: figure}))
    draw_plots(study, SimpleNamespace(objectives=["cost/val"], directions=["minimize"]), tmp_path)
    for figure in drawn.values():
        figure.draw_without_rendering()
    for axes in drawn["optuna_slices"].axes[:-1]:
        assert axes.get_xticklabels()[0].get_text() in ("constant", "tanh", "relu")
        places = boxes(axes.get_xticklabels())
        assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])
    _, bar, *others = drawn["optuna_parallel"].axes
    last = [place for axes in others for place in boxes(axes.get_yticklabels())]
    bar_words = bar.get_tightbbox()
    assert last and not any(bar_words.overlaps(place) for place in last)


@pytest.mark.parametrize("lost", [0, 3])
def test_a_study_in_which_nothing_finished_has_no_empty_plots(tmp_path, lost):
    study = optuna.create_study()
    for _ in range(lost):
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED))
        study.trials[-1].set_user_attr("bpx.result", {"outcome": "diverged"})
    assert draw_plots(study, SimpleNamespace(objectives=["cost/val"], directions=["minimize"]), tmp_path) == []
    if lost:
        rows = [{"trial": i, "outcome": "diverged", "optimizer.lr": 10.0**i, "cost/train": 2.3} for i in range(lost)]
        written(tmp_path, rows, {"optimizer.lr": "interval(1,100)"})
        assert sweep.draw_sweep(tmp_path, tmp_path) == []


def test_a_choice_may_be_any_text(tmp_path):
    """Paths and labels with dollars, in other scripts, or of 300 letters: every figure is drawn, nothing warns."""
    words = ["$1_$2", "$0-$10", "a" * 300, "データ", "_^{", "\\$x"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    keys = {"dataset.$path_": optuna.distributions.CategoricalDistribution(words)}
    keys["lr"] = optuna.distributions.FloatDistribution(1e-3, 1, log=True)
    for i, word in enumerate(words):
        trial = optuna.trial.create_trial(
            params={"dataset.$path_": word, "lr": 10 ** -(i / 3)}, distributions=keys, value=float(i)
        )
        trial.set_user_attr("bpx.result", {"outcome": "finished"})
        study.add_trial(trial)
    drawn = {
        path.name
        for path in draw_plots(study, SimpleNamespace(objectives=["$cost_$"], directions=["minimize"]), tmp_path)
    }
    assert {"optuna_slices.png", "optuna_parallel.png", "optuna_history.png"} <= drawn
    rows = [{"trial": i, "outcome": "finished", "$a_$": word, "b": word, "cost/val": i} for i, word in enumerate(words)]
    trials = written(tmp_path, rows, {"$a_$": "", "b": ""}, name="$s_$")
    texts = drawn_texts(sweep.table(trials, "$a_$", "b"), tmp_path)
    assert {"$1_$2", "$0-$10", "$a_$", "\\$x", "a" * 23 + "…", "$s_$ · dataset: toy"} <= texts


def test_optunas_plots_mark_the_best_trial_and_hold_the_diverged_ones(tmp_path, monkeypatch):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    keys = {"optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1, log=True)}
    keys["model.depth"] = optuna.distributions.IntDistribution(2, 50)
    for i in range(12):
        params, lost = {"optimizer.lr": 10 ** -(i / 8), "model.depth": 2 + 4 * i}, i < 3
        state = optuna.trial.TrialState.PRUNED if lost else optuna.trial.TrialState.COMPLETE
        trial = optuna.trial.create_trial(
            params=params, distributions=keys, state=state, value=None if lost else abs(i - 7.0)
        )
        trial.set_user_attr("bpx.result", {"outcome": "diverged" if lost else "finished"})
        study.add_trial(trial)
    drawn = {}
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.update({path.stem: figure}))
    draw_plots(study, SimpleNamespace(objectives=["cost/val"], directions=["minimize"]), tmp_path)
    axes = drawn["optuna_contour"].axes[0]
    star = next(line for line in axes.lines if line.get_label() == "best")
    assert sorted(star.get_xydata()[0].tolist()) == [10**-0.875, 30]
    points = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)])
    assert len(np.unique(points, axis=0)) == 12
    stars = [line for axes in drawn["optuna_slices"].axes for line in axes.lines if line.get_label() == "best"]
    assert [line.get_ydata()[0] for line in stars] == [0, 0]
    for figure in drawn.values():
        figure.draw_without_rendering()
    for axes in [*drawn["optuna_slices"].axes, drawn["optuna_contour"].axes[0]]:
        for axis in (axes.xaxis, axes.yaxis):
            places = boxes(axis.get_ticklabels(which="both"))
            assert not any(a.overlaps(b) for i, a in enumerate(places) for b in places[:i])
