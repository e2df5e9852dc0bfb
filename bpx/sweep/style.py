"""Optuna's plots in the style of the other figures, with the best trial marked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryFormatter
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from optuna.trial import FrozenTrial

from bpx.engine.arrays import Values
from bpx.figures.canvas import BLUE, PALETTE, RED
from bpx.figures.trials import label, name_places
from bpx.sweep.space import Choice

TITLES = {
    "history": "the search: every finished trial, and the best so far",
    "importances": "what the objective depends on (importances of the keys)",
    "parallel": "every trial a line; the best in colour",
    "slices": "the objective over each key, later trials darker",
    "contour": "the objective between the trials; diverged ones count as the worst",
    "pareto_front": "the Pareto front",
}
WORDS = {"Trial": "trial", "Hyperparameter": "", "Hyperparameter Importance": "importance"}
MAP = "viridis_r"  # brightest where the objective is small


def restyle(
    figure: Figure, name: str, best: FrozenTrial | None, minimize: bool, searched: Mapping[str, Values]
) -> None:
    """Give a figure of Optuna's the project's background, colours, ticks and title, and mark the ``best`` trial in it.

    ``searched`` holds the values of each key, of a choice none.
    """
    kind = next((kind for kind in TITLES if name.startswith(kind)), "")
    figure.set_facecolor("white")
    for axes in figure.axes:
        bar = axes.get_label() == "<colorbar>"
        axes.set_facecolor("white")
        axes.tick_params(which="both", colors="black")
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_color("black")
        if not bar:
            axes.spines[["left", "bottom"]].set(color="black", visible=True)
            axes.grid(kind not in ("contour", "parallel"), color="#b0b0b0", alpha=0.3, lw=0.8)
            axes.set_axisbelow(True)
        for artist in axes.collections:
            values = artist.get_array()
            if getattr(artist, "filled", True) and values is not None and np.size(values) > 1:
                artist.set_cmap("Greys" if kind == "slices" else MAP if minimize else MAP.removesuffix("_r"))
        for patch in axes.patches if kind == "importances" else ():
            patch.set_facecolor(BLUE)
        points = [artist for artist in axes.collections if isinstance(artist, PathCollection)]
        marks: list[Line2D | PathCollection] = [*axes.lines, *points]
        for drawn in marks if kind in ("history", "pareto_front") else ():
            _recolour(drawn)
    _name(figure, kind, searched)
    if best is not None and best.values is not None:
        _mark(figure, kind, best)
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            key = axis.label.get_text()
            axis.set_label_text(WORDS.get(key, label(key) if key in searched else key))
    if figure.axes and kind:
        for place in ("left", "center", "right"):
            figure.axes[0].set_title("", loc=place)
        figure.suptitle(TITLES[kind], fontsize=12)


def _recolour(artist: Line2D | PathCollection) -> None:
    """Give a line or points of one colour the nearest of the palette's in hue: red for red, blue for blue."""
    colour = artist.get_color() if hasattr(artist, "get_color") else artist.get_facecolor()
    rgb = np.array(to_rgb(colour if isinstance(colour, str) else np.atleast_2d(colour)[0][:3]))
    if np.ptp(rgb) > 0.2:
        nearest = min(PALETTE, key=lambda c: float(np.abs(np.array(to_rgb(c)) - rgb).sum()))
        artist.set_color(nearest)


def _star(axes: Axes, x: ArrayLike, y: ArrayLike) -> None:
    axes.plot(x, y, "*", ms=15, mfc="white", mec="black", zorder=10, label="best")


def _mark(figure: Figure, kind: str, best: FrozenTrial) -> None:
    """Draw a star at the best trial, in a parallel plot its line."""
    for axes in figure.axes:
        x, y = axes.get_xlabel(), axes.get_ylabel()
        if kind == "history" and x == "Trial":
            for line in axes.lines:
                line.set_label({"Best Value": "best so far"}.get(str(line.get_label()), line.get_label()))
            _star(axes, best.number, best.values[0])
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), facecolor="white")
        elif kind == "slices" and x in best.params:
            _star(axes, _place(axes.xaxis, best.params[x]), best.values[0])
        elif kind == "contour" and {x, y} <= set(best.params):
            _star(axes, best.params[x], best.params[y])
        elif kind == "parallel":
            for lines in (c for c in axes.collections if isinstance(c, LineCollection)):
                values = np.asarray(lines.get_array(), float)
                if values.shape != (len(lines.get_segments()),):  # those of the colour bar
                    continue
                i = int(np.argmin(np.abs(values - best.values[0])))
                lines.set(linewidths=0.8, alpha=0.5)
                axes.plot(*np.asarray(lines.get_segments()[i]).T, color=RED, lw=2.5, zorder=10)


def _name(figure: Figure, kind: str, searched: Mapping[str, Values]) -> None:
    """Name few places along the axes of keys that are numbers."""
    keys = [text.get_text() for text in figure.axes[0].get_xticklabels()][1:] if kind == "parallel" else []
    twins = zip((axes.yaxis for axes in figure.axes[2:]), keys, strict=False)
    own = ((axis, axis.label.get_text()) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis))
    for axis, key in (*twins, *own):
        if key in searched:
            name_places(axis, searched[key])


def _place(axis: Axis, value: Choice) -> ArrayLike:
    """Return where a value is drawn: a category's place, a number itself."""
    if isinstance(axis.get_major_formatter(), StrCategoryFormatter):
        names = [text.get_text().strip("'\"") for text in axis.get_ticklabels()]
        return names.index(str(value)) if str(value) in names else np.nan
    return np.asarray(value)
