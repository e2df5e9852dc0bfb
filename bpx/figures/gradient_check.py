"""The figure of a gradient check: both gradients side by side, one against the other, and how far apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bpx.engine.arrays import Array, Values
from bpx.figures.canvas import BLUE, GREY, ORANGE, RED, legend_below, log_y, new_figure, power, style_axes

BARS = 40  # entries at most that are drawn as bars
WORDS = 12  # names of tensors that stand side by side
RANGE = 10  # largest over smallest entry, from which on the axis is logarithmic
_EXACT = 1e-17  # a difference of nothing, on a log axis
_SHOWN = 1e-6  # of the largest entry: what is smaller is drawn linearly


@dataclass(frozen=True)
class Checked:
    """The arrays of ``gradcheck.npz``: a tensor's name, length, relative difference; all entries in a row."""

    name: str
    relative: float
    tensors: list[str]
    lengths: Array
    tensor_relative: Values
    tensor_tolerance: Values
    analytic: Values
    numeric: Values


def read(path: Path) -> Checked:
    """Return the arrays in a file."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file}
    return Checked(
        **arrays
        | {
            "name": str(arrays["name"]),
            "relative": float(arrays["relative"]),
            "tensors": [str(t) for t in arrays["tensors"]],
        }
    )


def gradient_check(check: Checked) -> Figure:
    """Draw bars of the largest entries, the scatter with its diagonal, the relative difference by tensor."""
    figure = new_figure(
        check.name, f"analytic and numerical gradient: relative difference {check.relative:.1e}", 11.5, 4.4
    )
    bars, scatter, by_tensor = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    n, a = check.numeric, check.analytic
    shown = np.sort(np.argsort(-np.abs(a), kind="stable")[:BARS])
    names = [_short(name) for name in check.tensors]
    owners = np.repeat(np.arange(len(names)), check.lengths)[shown]
    title = f"the {len(shown)} largest of {len(a):,} entries" if len(a) > BARS else f"all {len(a)} entries"
    gradient_bars(bars, [names[i] for i in owners], a[shown], n[shown], title)
    low, high = min(a.min(), n.min()), max(a.max(), n.max())
    scatter.plot([low, high], [low, high], color=GREY, lw=1, label="equal")
    scatter.plot(a, n, ".", color=BLUE, ms=5, label="entries")
    scatter.locator_params(nbins=5)
    style_axes(scatter, "analytic", "numerical", "one against the other")
    legend_below(scatter, 2)
    relative = check.tensor_relative
    at = np.arange(len(names))
    wrong = relative > check.tensor_tolerance
    known = np.maximum(relative, _EXACT)
    tolerance = np.where(np.isnan(relative), np.nan, check.tensor_tolerance)
    by_tensor.plot(at, tolerance, "_", color=GREY, ms=12, label="tolerance")
    by_tensor.plot(at[~wrong], known[~wrong], "o", color=BLUE, ms=5, label="correct")
    if wrong.any():
        by_tensor.plot(at[wrong], known[wrong], "X", color=RED, ms=7, label="wrong")
    log_y(by_tensor, np.concatenate([known, tolerance]))
    few = at[:: max(1, -(-len(at) // 14))]
    by_tensor.set_xticks(few, [names[i] for i in few], rotation=60, fontsize=8, ha="right", rotation_mode="anchor")
    style_axes(by_tensor, "", "relative difference", "by tensor (none: below round-off)")
    by_tensor.legend(loc="best", fontsize=8)
    return figure


def gradient_bars(axes: Axes, names: Sequence[str], analytic: Values, numeric: Values, title: str) -> None:
    """Draw two bars for every entry, on an axis that shows the smallest beside the largest; ticks name the tensors.

    ``names`` (n,) are those of the entries' tensors, one after the other.
    """
    at = np.arange(len(names))
    axes.bar(at - 0.2, analytic, 0.4, color=BLUE, label="analytic")
    axes.bar(at + 0.2, numeric, 0.4, color=ORANGE, label="numerical")
    axes.axhline(0, color=GREY, lw=0.6)
    sizes = np.abs([analytic, numeric])
    small = float(sizes[sizes > _EXACT].min(initial=1.0))
    largest = float(sizes.max(initial=small))
    label = "∂J/∂θ"
    if largest > RANGE * small:
        low = int(np.floor(np.log10(max(small, largest * _SHOWN))))
        axes.set_yscale("symlog", linthresh=10.0**low, linscale=0.6)
        tens = [10.0**k for k in range(low, int(np.floor(np.log10(largest))) + 1)][:: 1 if largest < 1e6 * small else 2]
        sides = [-ten for ten in tens if -ten > 1.5 * min(analytic.min(), -(10.0**low))] + [0.0, *tens]
        axes.yaxis.set_major_locator(FixedLocator(sides))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"−{power(-y)}" if y < 0 else power(y)))
        label += ", logarithmic to either side of 0"
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    ends = [*starts[1:], len(names)]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color=GREY, lw=0.5, ls=":")
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    wide = [i for i, (start, end) in enumerate(zip(starts, ends, strict=True)) if len(names) < WORDS * (end - start)]
    axes.set_xticks([middles[i] for i in wide], [names[starts[i]] for i in wide], fontsize=8)
    style_axes(axes, "tensor of the entry", label, title)
    axes.grid(False, axis="x")
    axes.legend(loc="best", fontsize=8, frameon=False)


def _short(name: str) -> str:
    """Return a tensor's name without what all have: 1.W for layer_01.dense.W."""
    return name.replace(".dense", "").replace("layer_", "").lstrip("0")
