"""The figures of a study, drawn from its trials.csv and study.json alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bpx.figures.canvas import BLUE, GREY, RED, legend_below, literal, new_figure, save_all, style_axes
from bpx.figures.maps import map_values, trainable_depth, trial_map
from bpx.figures.trials import (
    ACCURACY,
    COST,
    Trials,
    colour_map,
    colour_norm,
    key_axis,
    label,
    read_trials,
    study_name,
)
from bpx.records import Outcome

MAPS = (
    ("optimizer.lr", "model.depth"),
    ("optimizer.lr", "batch_size"),
    ("initializer.sigma_w", "model.depth"),
    ("model.recurrent_scale", "dataset.steps"),
    ("initializer.sigma_w", "dataset.steps"),
)
MAX_INCHES = 14.0  # of a figure's side


def draw_sweep(directory: Path, folder: Path, failed: dict[str, str] | None = None, suffix: str = "png") -> list[Path]:
    """Draw every figure that a study's trials allow into ``folder``, in the format ``suffix``; returns the paths.

    ``failed`` takes the error of each figure that cannot be drawn, in one line; without it the error is raised.
    """
    trials = read_trials(directory)
    if not trials.columns.get("trial"):
        return []
    space = list(trials.about["space"])
    figures: dict[str, Callable[[], Figure | None]] = {
        f"map_{x.rpartition('.')[2]}_{y.rpartition('.')[2]}_{kind}": partial(trial_map, trials, x, y, value)
        for x, y in MAPS
        if x in space and y in space and trials.numeric(x) and trials.numeric(y)
        for kind, value in map_values(trials).items()
    }
    if trials.about["depth_scale"] and any(name.startswith("map_sigma_w_depth") for name in figures):
        figures["trainable_depth"] = partial(trainable_depth, trials)
    if "optimizer.lr" in space and "model.depth" not in space and "batch_size" not in space:
        figures["learning_rate"] = partial(repeats, trials, "optimizer.lr")
    names = [key for key in space if not trials.numeric(key)]
    if len(names) == 2:
        figures["table"] = partial(table, trials, names[0], names[1])
    return save_all(figures, folder, failed, suffix)


def repeats(trials: Trials, x: str) -> Figure | None:
    """Draw final cost and accuracy over one key: every trial a dot, the median of its repeats a line.

    None where every trial diverged.
    """
    if trials.ended(Outcome.DIVERGED).all():
        return None
    wanted = [name for name in (trials.first(COST), trials.first(ACCURACY)) if name]
    figure = new_figure(
        study_name(trials), f"{label(x)}: trials and their median", 1.0 + 4.3 * max(1, len(wanted)), 4.4
    )
    at = trials.numbers(x)
    for axes, name in zip(figure.subplots(1, max(1, len(wanted)), squeeze=False)[0], wanted, strict=False):
        values = np.where(trials.ended(Outcome.DIVERGED), np.nan, trials.numbers(name))
        spread = trials.numbers(f"std/{name}")
        if np.isfinite(spread).any():
            axes.errorbar(at, values, spread, fmt="none", ecolor=GREY, capsize=2, label="± std over seeds")
        axes.plot(at, values, ".", color=GREY, ms=6, label="a trial")
        places = np.unique(at[np.isfinite(values)])
        medians = [np.nanmedian(values[at == place]) for place in places]
        axes.plot(places, medians, "-", color=BLUE, lw=1.6, label="median")
        key_axis(axes.xaxis, at, x)
        key_axis(axes.yaxis, values)
        lost = trials.ended(Outcome.DIVERGED)
        if lost.any():
            axes.plot(at[lost], np.full(lost.sum(), 0.98), "x", color=RED, transform=axes.get_xaxis_transform())
            axes.plot([], [], "x", color=RED, label="diverged")
        style_axes(axes, label(x), label(name))
        legend_below(axes, 3)
    return figure


def table(trials: Trials, x: str, y: str) -> Figure:
    """Draw the mean objective over two keys that are words, a cell for each pair."""
    objective = trials.about["objective"][0].replace("abs_slope", "slope")  # the sign tells more
    columns, rows = sorted(set(trials.columns[x])), sorted(set(trials.columns[y]))
    values = trials.numbers(objective)
    cells = np.full((len(rows), len(columns)), np.nan)
    diverged = np.zeros(cells.shape, bool)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            here = (np.array(trials.columns[x]) == column) & (np.array(trials.columns[y]) == row)
            good = here & np.isfinite(values)
            cells[i, j] = values[good].mean() if good.any() else np.nan
            diverged[i, j] = (here & trials.ended(Outcome.DIVERGED)).any()
    width, height = min(MAX_INCHES, 2.6 + 0.75 * len(columns)), min(MAX_INCHES, 2.0 + 0.36 * len(rows))
    figure = new_figure(study_name(trials), label(objective), width, height)
    axes = figure.subplots()
    norm = colour_norm(objective, cells)
    image = axes.imshow(cells, aspect="auto", cmap=colour_map(objective), norm=norm)
    figure.colorbar(image, ax=axes, label=label(objective))
    for i, j in np.ndindex(cells.shape):
        text = f"{cells[i, j]:.2g}" if np.isfinite(cells[i, j]) else "–"
        shade = image.cmap(norm(cells[i, j])) if np.isfinite(cells[i, j]) else (1, 1, 1, 1)
        dark = np.dot(shade[:3], (0.299, 0.587, 0.114)) < 0.5
        axes.text(j, i, f"{text} ×" if diverged[i, j] else text, ha="center", va="center", fontsize=7,
                  color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(columns)), map(literal, columns), rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), map(literal, rows))
    axes.set_xlabel(label(x))
    axes.set_ylabel(label(y))
    if diverged.any():
        axes.set_title("×: diverged later", fontsize=9)
    return figure
