"""A quantity over seeds: its median, or mean, as a line in a band."""

from __future__ import annotations

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from bpx.engine.arrays import Values
from bpx.figures.canvas import dots


def band(axes: Axes, x: ArrayLike, edges: Values, label: str, colour: str, style: str = "-") -> None:
    """Draw the middle row of ``edges`` (3, n) over ``x`` (n,), and the band between the outer ones.

    For studies the rows are the 10th, 50th and 90th percentile over the seeds.
    """
    low, middle, high = edges
    axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(x, middle, style, color=colour, lw=1.5, marker=dots(len(middle)), label=label)
