"""How a quantity of every layer is drawn: by layer at two moments, as a heat map, as a line for each layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from bpx.engine.arrays import Array, Values
from bpx.figures.canvas import (
    BLUE,
    LOG_AXIS_MAX,
    LOG_AXIS_MIN,
    MIN_DECADES,
    ORANGE,
    Picture,
    log10,
    new_figure,
    positive,
    style_axes,
)
from bpx.figures.steps import STEP, drawn_steps, step_axis, step_edges
from bpx.records import Records

DEPTH = "layer, from the input"
FEW = 5  # records up to which points are drawn large
MOMENTS = ((0, BLUE, "o"), (-1, ORANGE, "s"))  # the first record and the last


def record_figure(
    records: Records, title: str, width: float = 9.6, height: float = 4.2, *, finding: bool = False
) -> Picture:
    """Return an empty figure that names the dataset and, if asked, says the run's ``finding`` under the title.

    The finding at initialization and, where the run has ended, the state after training.
    """
    parts = [records.about.get(part) or {} for part in ("finding", "final")] if finding else []
    note = " ".join(part["sentence"] for part in parts if part.get("sentence"))
    dataset = records.about.get("dataset")
    return new_figure(f"dataset: {dataset}" if dataset else "", title, width, height, note)


def step_label(step: int) -> str:
    """Return the label of a step."""
    return "initialization" if step == 0 else f"step {step:,}"


def number(layer: str) -> int:
    """Return the number of a layer by its name: 7 for layer_07."""
    return int(layer.rpartition("_")[2])


def depth(records: Records) -> int:
    """Return the number of layers."""
    return max(number(layer) for layer in records.layers if layer)


def by_index(rows: Records) -> tuple[NDArray[np.int64], Values]:
    """Return the steps of the rows of one quantity and its values (steps, index), NaN where there is none."""
    steps, at = np.unique(rows.step, return_inverse=True)
    values = np.full((len(steps), int(rows.index.max()) + 1), np.nan)
    values[at, rows.index] = rows.value
    return steps, values


def first_and_last(axes: Axes, records: Records, quantity: str, prefix: str, style: str) -> Values:
    """Draw a quantity by layer at the first and the last recorded step, and return what was drawn."""
    steps, layers, values = records.grid(quantity)
    at = np.array([number(layer) for layer in layers])
    drawn = MOMENTS[: len(steps)]
    for column, colour, marker in drawn:
        y = values[:, column]
        size = 4 if len(at) <= 60 else 2
        label = f"{prefix}{step_label(steps[column])}"
        axes.plot(at, positive(y), style, color=colour, marker=marker, ms=size, lw=1.3, label=label)
        mark(axes, at[y == 0], 0.02, "x", colour, "exactly zero")
        mark(axes, at[(y > 0) & (y <= LOG_AXIS_MIN)], 0.02, "v", colour, f"below {LOG_AXIS_MIN}")
        mark(axes, at[y >= LOG_AXIS_MAX], 0.98, "^", colour, f"infinite or above {LOG_AXIS_MAX}")
    layer_axis(axes, len(at))
    return values[:, [column for column, _, _ in drawn]]


def layer_axis(axes: Axes, n: int) -> None:
    """Make the x axis that of ``n`` layers."""
    axes.set_xlim(0.5, n + 0.5)
    axes.set_xticks(layer_ticks(n))


def mark(axes: Axes, layers: Array, height: float, marker: str, colour: str, text: str) -> None:
    """Mark layers whose value has no place on a log axis at its lower or upper edge; NaN means: not measured."""
    if layers.size:
        known = axes.get_legend_handles_labels()[1]
        axes.plot(
            layers, np.full(layers.size, height), marker, color=colour, ms=6, clip_on=False,
            transform=axes.get_xaxis_transform(), label="_" if text in known else text,
        )  # fmt: skip


def heat_map(figure: Figure, axes: Axes, steps: Array, values: Values, label: str) -> None:
    """Draw log10 of values (layers, steps), one column a record, each around its step; of thousands, a share."""
    drawn = drawn_steps(steps)
    steps, logs, n = steps[drawn], log10(values[:, drawn]), len(values)
    bad = not np.isfinite(logs).all()
    low, high = (np.nanmin(logs), np.nanmax(logs)) if np.isfinite(logs).any() else (0.0, 1.0)
    image = axes.pcolormesh(
        step_edges(steps), np.arange(n + 1) + 0.5, logs, cmap=colormaps["magma"].with_extremes(bad="#b8c4c9"),
        vmin=min(low, high - MIN_DECADES), vmax=high, rasterized=True,
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label=label + ("\n(grey: zero or not finite)" if bad else ""))
    step_axis(axes, steps)
    axes.set_yticks(layer_ticks(n))
    style_axes(axes, STEP, DEPTH)
    axes.grid(False)


def lines_by_depth(
    axes: Axes, records: Records, quantity: str, show: Callable[[Values], ArrayLike] = positive
) -> Values:
    """Draw a quantity over the steps, a line for each layer, from dark at the input to bright at the output.

    Of one record alone the layers stand side by side, from the input on. ``show`` prepares the values (layers, steps)
    for the axis; what it returns is returned.
    """
    steps, layers, values = records.grid(quantity)
    shown: Values = np.asarray(show(values), float)
    few, alone = len(steps) <= FEW, len(steps) == 1
    place, n = np.array([number(layer) - 1 for layer in layers], int), depth(records)
    at = steps + alone * ((place + 0.5) / n - 0.5)[:, None]
    colours = _by_depth(n)[place]
    paths = [np.column_stack(pair) for pair in zip(at, shown, strict=True)]
    axes.add_collection(LineCollection(paths, colors=colours, lw=1.3 if len(layers) <= 12 else 0.9))
    if len(steps) <= 40:
        size = 30 if alone else 14 if few else 8 if len(layers) <= 12 else 3
        colour = np.repeat(colours, len(steps), axis=0)
        axes.scatter(at.reshape(-1), shown.reshape(-1), s=size, color=colour, lw=0)
    step_axis(axes, steps)
    axes.autoscale_view()
    if alone:
        axes.set_xlim(steps[0] - 0.55, steps[0] + 0.55)
    return shown


def _by_depth(n: int) -> Values:
    return colormaps["viridis"](np.linspace(0, 0.95, n))


def depth_bar(figure: Figure, axes: Axes, records: Records) -> None:
    """Draw the bar that tells which colour belongs to which layer."""
    n = depth(records)
    scale = ScalarMappable(Normalize(0.5, n + 0.5), ListedColormap(_by_depth(n)))
    figure.colorbar(scale, ax=axes, label=DEPTH, ticks=layer_ticks(n), pad=0.02)


def layer_ticks(n: int) -> list[int]:
    """Return about ten of ``n`` layers."""
    return list(range(1, n + 1, -(-n // 10)))
