"""The figure of a gradient check: both gradients side by side, one against the other, and how far apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bpx.figures.canvas import BLUE, GREY, ORANGE, RED, legend_below, log_y, new_figure, style_axes

BARS = 40  # entries at most that are drawn as bars
_EXACT = 1e-17  # a difference of nothing, on a log axis


@dataclass(frozen=True)
class Checked:
    """The arrays of ``gradcheck.npz``: a tensor's name, length, relative difference; all entries in a row."""

    name: str
    relative: float
    tensors: list[str]
    lengths: Any
    tensor_relative: Any
    tensor_tolerance: Any
    analytic: Any
    numeric: Any


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
    at = np.arange(len(shown))
    bars.bar(at - 0.2, a[shown], 0.4, color=BLUE, label="analytic")
    bars.bar(at + 0.2, n[shown], 0.4, color=ORANGE, label="numerical")
    bars.axhline(0, color=GREY, lw=0.6)
    bars.set_xticks([])
    style_axes(
        bars, "entry", "∂J/∂θ", f"the {len(shown)} largest of {len(a):,} entries" if len(a) > BARS else "all entries"
    )
    legend_below(bars, 2)
    low, high = min(a.min(), n.min()), max(a.max(), n.max())
    scatter.plot([low, high], [low, high], color=GREY, lw=1, label="equal")
    scatter.plot(a, n, ".", color=BLUE, ms=5, label="entries")
    scatter.locator_params(nbins=5)
    style_axes(scatter, "analytic", "numerical", "one against the other")
    legend_below(scatter, 2)
    relative, names = check.tensor_relative, [t.replace(".dense", "").replace("layer_", "") for t in check.tensors]
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
