"""The axis of optimizer steps: linear, or log(1 + step) where the records are dense at first and sparse later."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from bpx.engine.arrays import Array, Values
from bpx.figures.canvas import power

STEP = "optimizer step"
CROWDED = 0.25  # share of the records in the first fiftieth of the steps, from which on the axis is logarithmic
PLAIN = 10_000  # steps up to which a power of ten is written out
TICKS = 6
MAX_CELLS = 2_000  # of a heat map along the steps: more than its pixels


def logarithmic(steps: Array) -> bool:
    """Return whether so many of the steps lie at the start that a linear axis would print them over each other."""
    return len(steps) > 3 and float(np.mean(np.asarray(steps) <= steps[-1] / 50)) >= CROWDED


def step_axis(axes: Axes, steps: Array) -> None:
    """Make the x axis that of the recorded ``steps`` (n,), sorted: linear, or logarithmic with a place for step 0."""
    steps = np.asarray(steps, float)
    if logarithmic(steps):
        axes.set_xscale("function", functions=(np.log1p, np.expm1))
        tens = [10.0**k for k in range(int(np.log10(max(steps[-1], 1.0))) + 1)]
        ticks = [0.0, *tens[:: -(-len(tens) // TICKS)]]
        if steps[-1] > 2.5 * ticks[-1]:
            ticks.append(float(steps[-1]))
    elif len(steps) <= TICKS:
        ticks = [float(step) for step in steps]
    else:
        return
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick >= steps[0] or tick == 0]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _label(x, steps[-1])))


def drawn_steps(steps: Array) -> NDArray[np.intp]:
    """Return the places of the ``steps`` (n,) that a heat map draws: all, or few enough, evenly along the axis."""
    if len(steps) <= MAX_CELLS:
        return np.arange(len(steps))
    at = np.log1p(steps) if logarithmic(steps) else np.asarray(steps, float)
    return np.unique(np.searchsorted(at, np.linspace(at[0], at[-1], MAX_CELLS)))


def step_edges(steps: Array) -> Values:
    """Return the edges (n + 1,) of cells around ``steps`` (n,), each half way to the next record on the axis."""
    steps = np.asarray(steps, float)
    forward, back = (np.log1p, np.expm1) if logarithmic(steps) else (np.asarray, np.asarray)
    at = forward(steps)
    if len(at) == 1:
        return np.array([steps[0] - 0.5, steps[0] + 0.5])
    middle = (at[1:] + at[:-1]) / 2
    return back(np.concatenate([[at[0] - (middle[0] - at[0])], middle, [at[-1] + (at[-1] - middle[-1])]]))


def _label(step: float, last: float) -> str:
    return power(step) if step >= PLAIN and step != last else f"{step:,.0f}"
