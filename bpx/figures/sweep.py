"""The figures of a study, drawn from its trials.csv and study.json alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bpx.figures.canvas import BLUE, GREY, RED, literal, new_figure, ranges, save_all, style_axes
from bpx.records import Outcome

MAPS = (("optimizer.lr", "model.depth"), ("optimizer.lr", "batch_size"), ("initializer.sigma_w", "model.depth"))
LABELS = {
    "optimizer.lr": "learning rate",
    "model.depth": "hidden layers",
    "batch_size": "batch size",
    "initializer.sigma_w": "σw",
    "gradient_flow/slope": "gradient slope / decades a layer",
    "gradient_flow/abs_slope": "|gradient slope| / decades a layer",
}
COST, ACCURACY, SLOPE = ("cost/val", "cost/train"), ("accuracy/val", "accuracy/test"), ("gradient_flow/slope",)
TRAINABLE = 6  # depth scales: as deep as Schoenholz et al. (2017) could train
MAX_INCHES = 14.0  # of a figure's side


@dataclass(frozen=True)
class Trials:
    """The ended trials of a study, column by column, as text."""

    columns: dict[str, list[str]]
    about: dict[str, Any]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where it holds none."""
        return np.array([_number(text) for text in self.columns.get(name, [])], dtype=float)

    def numeric(self, name: str) -> bool:
        """Return whether every value of a column is a number."""
        return name in self.columns and bool(np.isfinite(self.numbers(name)).all())

    def first(self, names: Sequence[str]) -> str | None:
        """Return the first of the columns that holds a number."""
        return next((n for n in names if np.isfinite(self.numbers(n)).any()), None)

    def ended(self, how: str) -> NDArray[np.bool_]:
        """Return which trials ended as ``how``."""
        return np.array([text == how for text in self.columns["outcome"]])


def read_trials(directory: Path) -> Trials:
    """Read what a study has written into its directory."""
    with (directory / "trials.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    about = json.loads((directory / "study.json").read_text(encoding="utf-8"))
    return Trials({name: [row[name] or "" for row in rows] for name in names}, about)


def draw_sweep(directory: Path, folder: Path, failed: dict[str, str] | None = None) -> list[Path]:
    """Draw every figure that a study's trials allow into ``folder`` and return the paths.

    ``failed`` takes the error of each figure that cannot be drawn, in one line; without it the error is raised.
    """
    trials = read_trials(directory)
    if not trials.columns.get("trial"):
        return []
    space = list(trials.about["space"])
    figures: dict[str, Callable[[], Figure | None]] = {
        f"map_{x.rpartition('.')[2]}_{y.rpartition('.')[2]}": partial(trial_map, trials, x, y)
        for x, y in MAPS
        if x in space and y in space and trials.numeric(x) and trials.numeric(y)
    }
    if trials.about["depth_scale"] and "map_sigma_w_depth" in figures:
        figures["trainable_depth"] = partial(trainable_depth, trials)
    if "optimizer.lr" in space and "model.depth" not in space and "batch_size" not in space:
        figures["learning_rate"] = partial(repeats, trials, "optimizer.lr")
    names = [key for key in space if not trials.numeric(key)]
    if len(names) == 2:
        figures["table"] = partial(table, trials, names[0], names[1])
    return save_all(figures, folder, failed)


def trial_map(trials: Trials, x: str, y: str) -> Figure:
    """Draw the trials over two keys, coloured by final cost, accuracy and gradient slope."""
    wanted = [name for name in (trials.first(group) for group in (COST, ACCURACY, SLOPE)) if name]
    figure = new_figure(_name(trials), "the edge of trainability", 1.0 + 4.3 * max(1, len(wanted)), 4.6)
    for axes, colour in zip(figure.subplots(1, max(1, len(wanted)), squeeze=False)[0], wanted or [""], strict=True):
        _scatter(figure, axes, trials, x, y, colour)
    return figure


def trainable_depth(trials: Trials) -> Figure:
    """Draw accuracy over sigma_w and depth beside 6 xi_c, the depth up to which theory lets a signal through."""
    colour = trials.first(ACCURACY) or trials.first(COST) or ""
    figure = new_figure(_name(trials), "trainable depth against theory's depth scale", 7.0, 4.8)
    axes = figure.subplots()
    _scatter(figure, axes, trials, "initializer.sigma_w", "model.depth", colour)
    scale = trials.about["depth_scale"]
    top = float(np.nanmax(trials.numbers("model.depth")))
    reach = TRAINABLE * np.asarray(scale["xi_c"], float)
    axes.plot(scale["sigma_w"], np.minimum(reach, 10 * top), color=RED, lw=2, label="6 ξc, theory")
    axes.set_ylim(0, 1.08 * top)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4, fontsize=8, frameon=False)
    return figure


def repeats(trials: Trials, x: str) -> Figure:
    """Draw final cost and accuracy over one key: every trial a dot, the median of its repeats a line."""
    wanted = [name for name in (trials.first(COST), trials.first(ACCURACY)) if name]
    figure = new_figure(_name(trials), f"{_label(x)}: trials and their median", 1.0 + 4.3 * max(1, len(wanted)), 4.4)
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
        _axis(axes.xaxis, at)
        _axis(axes.yaxis, values)
        lost = trials.ended(Outcome.DIVERGED)
        if lost.any():
            axes.plot(at[lost], np.full(lost.sum(), 0.98), "x", color=RED, transform=axes.get_xaxis_transform())
            axes.plot([], [], "x", color=RED, label="diverged")
        style_axes(axes, _label(x), _label(name))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize=8, frameon=False)
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
    figure = new_figure(_name(trials), _label(objective), width, height)
    axes = figure.subplots()
    norm = _norm(objective, cells)
    image = axes.imshow(cells, aspect="auto", cmap=_colours(objective), norm=norm)
    figure.colorbar(image, ax=axes, label=_label(objective))
    for i, j in np.ndindex(cells.shape):
        text = f"{cells[i, j]:.2g}" if np.isfinite(cells[i, j]) else "–"
        shade = image.cmap(norm(cells[i, j])) if np.isfinite(cells[i, j]) else (1, 1, 1, 1)
        dark = np.dot(shade[:3], (0.299, 0.587, 0.114)) < 0.5
        axes.text(j, i, f"{text} ×" if diverged[i, j] else text, ha="center", va="center", fontsize=7,
                  color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(columns)), map(literal, columns), rotation=40, ha="right")
    axes.set_yticks(range(len(rows)), map(literal, rows))
    axes.set_xlabel(_label(x))
    axes.set_ylabel(_label(y))
    if diverged.any():
        axes.set_title("×: diverged later", fontsize=9)
    return figure


def _scatter(figure: Figure, axes: Any, trials: Trials, x: str, y: str, colour: str) -> None:
    """Draw finished trials as discs, pruned ones as open squares, diverged ones as crosses."""
    at, up, values = trials.numbers(x), trials.numbers(y), trials.numbers(colour)
    if values.size == 0:
        values = np.full(at.shape, np.nan)
    shown, pruned, lost = trials.ended(Outcome.FINISHED), trials.ended(Outcome.PRUNED), trials.ended(Outcome.DIVERGED)
    norm = _norm(colour, values[shown])
    if shown.any() and np.isfinite(values[shown]).any():
        keywords = {"c": values[shown], "cmap": _colours(colour), "norm": norm}
        dots = axes.scatter(at[shown], up[shown], s=46, edgecolors="black", linewidths=0.4, zorder=3, **keywords)
        figure.colorbar(dots, ax=axes, label=_label(colour))
    if pruned.any():
        axes.scatter(at[pruned], up[pruned], s=30, marker="s", facecolors="none", edgecolors=GREY, label="pruned")
    if lost.any():
        axes.scatter(at[lost], up[lost], s=42, marker="x", color=RED, linewidths=1.6, zorder=4, label="diverged")
    _axis(axes.xaxis, at)
    _axis(axes.yaxis, up)
    style_axes(axes, _label(x), _label(y), _label(colour))
    if pruned.any() or lost.any():
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, fontsize=8, frameon=False)


def _axis(axis: Any, values: NDArray[np.float64]) -> None:
    """Make an axis logarithmic where its values range, and name the places where they are few."""
    places = np.unique(values[np.isfinite(values)])
    doubling = len(places) > 2 and np.allclose(np.diff(np.log2(np.maximum(places, 1e-300))), 1)
    if ranges(places) or doubling:
        axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    if doubling:
        axis.set_ticks(places, [f"{p:g}" for p in places])
        axis.set_ticks([], minor=True)


def _colours(name: str) -> str:
    return "RdBu_r" if name in SLOPE else "viridis" if name.startswith("accuracy") else "viridis_r"


def _norm(name: str, values: Any) -> Normalize:
    """Return the scale of colours: around zero for a signed slope, logarithmic for what ranges."""
    good = np.asarray(values, float)
    good = good[np.isfinite(good)]
    if good.size == 0:
        return Normalize(0, 1)
    if name in SLOPE:
        reach = max(float(np.quantile(np.abs(good), 0.95)), 1e-12)
        return TwoSlopeNorm(0, -reach, reach)
    if ranges(good):
        return LogNorm(good.min(), good.max())
    return Normalize(good.min(), good.max())


def _label(key: str) -> str:
    return LABELS.get(key) or literal(key, 40)


def _name(trials: Trials) -> str:
    return f"{trials.about['name']} · dataset: {trials.about['dataset']}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
