"""What every figure shares: size, style, the dataset's name, safe logarithms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, GREY = "#2f6db3", "#e07b39", "#3a8f5c", "#c0392b", "#7f8c8d"
DPI = 110


def new(name: str, title: str, width: float = 8.0, height: float = 4.2) -> Figure:
    """Return an empty figure with its title and, small, the dataset's name."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0.035, 1, 0.965))  # type: ignore[call-arg]  # room for the line below
    figure.text(0.995, 0.005, name, ha="right", va="bottom", fontsize=7, color=GREY)
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


def log10(values: Any) -> Any:
    """Return log10 of the positive finite values, NaN elsewhere."""
    values = np.asarray(values, float)
    good = np.isfinite(values) & (values > 0)
    return np.log10(values, out=np.full(values.shape, np.nan), where=good)


def ranges(values: Any) -> bool:
    """Return whether positive values range over more than a factor of 30, so that a log axis shows more."""
    values = np.asarray(values, float)
    good = values[np.isfinite(values) & (values > 0)]
    return bool(good.size and good.size == values.size and good.max() > 30 * good.min())


def shades(n: int, name: str = "viridis") -> list[str]:
    """Return ``n`` colours from a map, first to last."""
    from matplotlib import colormaps

    return [to_hex(c) for c in colormaps[name](np.linspace(0, 0.9, n))]
