"""What the studies draw with: a quantity over seeds, as its median and a band."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from bpx.figures.canvas import dots


def band(axes: Axes, x: Any, percentiles: Any, label: str, colour: str, style: str = "-") -> None:
    """Draw the median over ``x`` (n,), and the band of 80 % of the seeds: the rows of ``percentiles`` (3, n)."""
    low, middle, high = percentiles
    axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(x, middle, style, color=colour, lw=1.5, marker=dots(len(middle)), label=label)
