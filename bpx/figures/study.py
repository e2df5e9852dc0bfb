"""What the studies draw with: a quantity over seeds, as its median and a band."""

from __future__ import annotations

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from bpx.engine.arrays import Values
from bpx.figures.canvas import dots


def band(axes: Axes, x: ArrayLike, percentiles: Values, label: str, colour: str, style: str = "-") -> None:
    """Draw the median over ``x`` (n,), and the band of 80 % of the seeds: the rows of ``percentiles`` (3, n)."""
    low, middle, high = percentiles
    axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    axes.plot(x, middle, style, color=colour, lw=1.5, marker=dots(len(middle)), label=label)
