"""Runs over each other: layer profiles, cost and accuracy, the median and a band over runs from several seeds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from bpx.engine.arrays import Values
from bpx.figures.canvas import colours, dots, figure_legend, literal, log_y, new_figure, positive, ranges, style_axes
from bpx.figures.layers import DEPTH, layer_axis, number
from bpx.figures.steps import STEP, step_axis
from bpx.records import Records, Series, aligned

PROFILES = (("activation_rms", "RMS of a", "forward"), ("delta_l2", "‖δ‖₂, δ = ∂Jᵢ/∂z", "backward"))
COSTS = ("cost/train", "cost/val")
ACCURACIES = ("accuracy/val", "accuracy/train")
BAND = 10, 50, 90  # percentiles: the lower edge, the line, the upper edge
MAX_LABEL = 48


@final
@dataclass(frozen=True)
class Compared:
    """What is drawn in one colour: the records and metrics of runs that differ in the seed alone, under a label."""

    label: str
    records: Sequence[Records]
    series: Sequence[Series]


def comparison(compared: Sequence[Compared]) -> Figure:
    """Draw the RMS of a and ||delta||_2 by layer, cost and accuracy by step, of every group in its colour.

    By layer a line is solid at initialization, dotted at the last record; cost is solid for training, dashed for
    validation. Of several seeds the line is the median, the band holds 80 % of them.
    """
    records = [one for group in compared for one in group.records]
    series = [one for group in compared for one in group.series]
    by_layer = [partial(_profiles, *one) for one in PROFILES if any(one[0] in record.quantities for record in records)]
    costs = [name for name in COSTS if any(name in one for one in series)]
    accuracy = next((name for name in ACCURACIES if any(len(one.get(name, ((),))[0]) > 1 for one in series)), None)
    by_step = [partial(_curves, costs, "cost", 1.0)] if costs else []
    by_step += [partial(_curves, [accuracy], f"{accuracy} / %", 100.0)] if accuracy else []
    rows: list[Sequence[Callable[[Axes, Sequence[Compared]], None]]] = [row for row in (by_layer, by_step) if row]
    names = list(dict.fromkeys(str(one.about.get("dataset")) for one in records if one.about.get("dataset")))
    seeds = max((len(group.series) for group in compared), default=1)
    title = "runs compared" + (f": median and 80 % of up to {seeds} seeds" if seeds > 1 else "")
    figure = new_figure(f"dataset: {', '.join(names)}" if names else "", title, 9.6, 0.8 + 3.4 * max(len(rows), 1))
    drawn = []
    for part, row in zip(figure.subfigures(max(len(rows), 1), 1, squeeze=False)[:, 0], rows, strict=False):
        for axes, draw in zip(part.subplots(1, len(row), squeeze=False)[0], row, strict=True):
            draw(axes, compared)
            drawn.append(axes)
    figure_legend(figure, drawn, 3)
    return figure


def _profiles(quantity: str, label: str, title: str, axes: Axes, compared: Sequence[Compared]) -> None:
    shown, most = [np.empty(0)], 1
    for group, colour in zip(compared, colours(len(compared)), strict=True):
        grids = [one.grid(quantity) for one in group.records if quantity in one.quantities]
        if not grids:
            continue
        at = [number(layer) for layer in grids[0][1]]
        most = max(most, len(at))
        first, last = (np.array([values[:, column] for _, _, values in grids]) for column in (0, -1))
        _line(axes, at, first, colour, "-", group.label, marker="o" if len(at) <= 30 else "")
        if any(len(steps) > 1 for steps, _, _ in grids):
            _line(axes, at, last, colour, ":", "")
        shown += [first.reshape(-1), last.reshape(-1)]
    layer_axis(axes, most)
    log_y(axes, np.concatenate(shown))
    style_axes(axes, DEPTH, label, f"{title} (solid: initialization, dotted: last record)")


def _curves(names: Sequence[str], label: str, scale: float, axes: Axes, compared: Sequence[Compared]) -> None:
    every, shown = [], [np.empty(0)]
    for group, colour in zip(compared, colours(len(compared)), strict=True):
        for name, style in zip(names, ("-", "--"), strict=False):
            runs = [one[name] for one in group.series if name in one]
            if not runs:
                continue
            steps, values = aligned(runs)
            values *= scale
            _line(axes, steps, values, colour, style, group.label if style == "-" else "", log=False)
            every.append(steps)
            shown.append(values.reshape(-1))
    if every:
        step_axis(axes, np.unique(np.concatenate(every)))
    if scale == 1.0 and ranges(np.concatenate(shown)):
        log_y(axes, np.concatenate(shown))
    styles = " (solid: training, dashed: validation)" if list(names) == list(COSTS) else ""
    style_axes(axes, STEP, label, label.partition("/")[0] + styles)


def _line(
    axes: Axes, x: ArrayLike, runs: Values, colour: str, style: str, label: str, *, marker: str = "", log: bool = True
) -> None:
    """Draw the median of ``runs`` (seeds, n) over ``x`` (n,) and the band; of one run, its line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a layer where no run has a finite value
        low, middle, high = np.nanpercentile(positive(runs) if log else runs, BAND, axis=0)
    if len(runs) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(
        x, middle, style, color=colour, lw=1.5, ms=4, marker=marker or (dots(len(middle)) if not log else ""),
        label=literal(label, MAX_LABEL) or None,
    )  # fmt: skip
