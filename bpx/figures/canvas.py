"""What every figure shares: size, style, the dataset's name, safe logarithms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

BLUE, ORANGE, GREEN, RED, GREY = "#2f6db3", "#e07b39", "#3a8f5c", "#c0392b", "#7f8c8d"
DPI = 110
LEAST, MOST = 1e-250, 1e250  # what a log axis of matplotlib holds before its margins overflow


def new(name: str, title: str, width: float = 8.0, height: float = 4.2) -> Figure:
    """Return an empty figure with its title and, below on the right, ``name``: what it was measured on."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0.035, 1, 0.965))  # type: ignore[call-arg]  # room for the line below
    figure.text(0.995, 0.005, name, ha="right", va="bottom", fontsize=9, color=GREY)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and return its path."""
    figure.savefig(path, dpi=DPI)
    return path


def plain(axes: Any, x: str, y: str, title: str = "") -> None:
    """Label the axes, take the frame's upper and right sides away, and draw a light grid."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def dots(n: int) -> str:
    """Return the marker for a line of ``n`` points: dots while they can be told apart."""
    return "." if n <= 40 else ""


def below(axes: Any, columns: int) -> None:
    """Put the legend under the axes, where it hides no data."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, fontsize=8, frameon=False)


def positive(values: Any) -> Any:
    """Return the values with NaN in place of what a log axis cannot show."""
    values = np.asarray(values, float)
    return np.where((values > LEAST) & (values < MOST), values, np.nan)


def log_y(axes: Any, values: Any) -> None:
    """Make the y axis logarithmic if any value is positive, with plain numbers where it spans little."""
    good = positive(values)
    good = good[np.isfinite(good)]
    if good.size == 0:
        return
    axes.set_yscale("log")
    decades = np.log10(good.max()) - np.log10(good.min())  # the ratio itself may overflow
    if decades < 2:
        labelled = range(1, 10) if decades < 0.7 else (1, 2, 5)
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(FuncFormatter(lambda y, _: f"{y:g}" if int(f"{y:e}"[0]) in labelled else ""))


def log10(values: Any) -> Any:
    """Return log10 of the positive finite values, NaN elsewhere."""
    return np.log10(positive(values))


def ranges(values: Any) -> bool:
    """Return whether the finite values are positive and span more than a factor of 30: a log axis then shows more."""
    good = np.asarray(values, float)
    good = good[np.isfinite(good)]
    return bool(good.size and good.min() > 0 and good.max() / 30 > good.min())


def shades(n: int, name: str = "viridis") -> list[str]:
    """Return ``n`` colours from a map, first to last."""
    from matplotlib import colormaps

    return [to_hex(c) for c in colormaps[name](np.linspace(0, 0.9, n))]
