"""Figures of a per-layer record: a quantity by layer, and layer by layer over the steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bpx.figures.canvas import BLUE, LEAST, MOST, ORANGE, below, dots, log10, log_y, new, plain, positive, shades
from bpx.records import Records

LINES = 8  # more layers than these are drawn as a heat map
_DEPTH, _STEPS = "layer, from the input", "optimizer step (records evenly spaced)"


def gradient_norms(records: Records, name: str) -> Figure:
    """Draw the gradient norms of weights and biases by layer, at initialization and at the end, and over time."""
    figure = new(f"dataset: {name}", "gradient norms by layer", 9.6, 4.6)
    left, right = figure.subplots(1, 2)
    weights = _first_and_last(left, records, "grad_norm", "weights, ", "-")
    biases = _first_and_last(left, records, "grad_norm_bias", "biases, ", ":")
    log_y(left, np.concatenate([weights, biases]))
    plain(left, _DEPTH, "L2 norm of the gradient of J", "by layer")
    below(left, 2)
    steps, layers, values = records.grid("grad_norm")
    if len(layers) > LINES:
        _heat_map(figure, right, steps, values, "log10 of the L2 norm of dJ/dW")
    else:
        for i, (row, colour) in enumerate(zip(values, shades(len(values)), strict=True), 1):
            label = f"layer {i}" if np.isfinite(positive(row)).any() else f"layer {i} (zero or not finite)"
            right.plot(positive(row), color=colour, lw=1.2, marker=dots(len(row)), label=label)
        _record_ticks(right, steps)
        log_y(right, values)
        plain(right, _STEPS, "L2 norm of dJ/dW")
        below(right, 4)
    right.set_title("over time", fontsize=10)
    return figure


def delta_profile(records: Records, name: str) -> Figure:
    """Draw the scale of the activations and of delta by layer, at initialization and at the end."""
    figure = new(f"dataset: {name}", "scale of the signal by layer, forward and backward", 9.6, 4.4)
    panels = (
        ("activation_std", "std of the activations", "forward"),
        ("delta_rms", "RMS of delta = dJᵢ/dz", "backward"),
    )
    for axes, (quantity, label, title) in zip(figure.subplots(1, 2), panels, strict=True):
        log_y(axes, _first_and_last(axes, records, quantity, "", "-"))
        plain(axes, _DEPTH, label, title)
        below(axes, 3)
    return figure


def delta_heatmap(records: Records, name: str) -> Figure:
    """Draw log10 of the RMS of delta for every layer and recorded step."""
    figure = new(f"dataset: {name}", "RMS of delta by layer and step", 8.2, 4.4)
    steps, _, values = records.grid("delta_rms")
    _heat_map(figure, figure.subplots(), steps, values, "log10 of the RMS of delta")
    return figure


def _first_and_last(axes: Any, records: Records, quantity: str, prefix: str, style: str) -> NDArray[np.float64]:
    """Draw a quantity by layer at the first and the last recorded step, and return what was drawn."""
    steps, layers, values = records.grid(quantity)
    n = len(layers)
    drawn = [(0, BLUE, "o"), (-1, ORANGE, "s")][: len(steps)]
    for column, colour, marker in drawn:
        when = "initialization" if steps[column] == 0 else f"step {steps[column]:,}"
        at, y = np.arange(1, n + 1), values[:, column]
        axes.plot(at, positive(y), style, color=colour, marker=marker, ms=4, label=f"{prefix}{when}")
        _mark(axes, at[y == 0], 0.02, "x", colour, "exactly zero")
        _mark(axes, at[(y > 0) & (y <= LEAST)], 0.02, "v", colour, f"below {LEAST}")
        _mark(axes, at[y >= MOST], 0.98, "^", colour, f"infinite or above {MOST}")
    axes.set_xlim(0.5, n + 0.5)
    axes.set_xticks(_layer_ticks(n))
    return values[:, [column for column, _, _ in drawn]]


def _mark(axes: Any, layers: Any, height: float, marker: str, colour: str, text: str) -> None:
    """Mark layers whose value has no place on a log axis at its lower or upper edge; NaN means: not measured."""
    if layers.size:
        known = axes.get_legend_handles_labels()[1]
        axes.plot(
            layers, np.full(layers.size, height), marker, color=colour, ms=6, clip_on=False,
            transform=axes.get_xaxis_transform(), label="_" if text in known else text,
        )  # fmt: skip


def _heat_map(figure: Figure, axes: Any, steps: Any, values: Any, label: str) -> None:
    """Draw log10 of values (layers, steps), one column a record, whatever lies between their steps."""
    n, m = values.shape
    logs = log10(values)
    bad = not np.isfinite(logs).all()
    limits = {"vmin": 0, "vmax": 1} if not np.isfinite(logs).any() else {}
    image = axes.imshow(
        logs, aspect="auto", origin="lower", interpolation="nearest", extent=(-0.5, m - 0.5, 0.5, n + 0.5),
        cmap=colormaps["magma"].with_extremes(bad="#b8c4c9"), **limits,
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label=label + ("\n(grey: zero or not finite)" if bad else ""))
    _record_ticks(axes, steps)
    axes.set_yticks(_layer_ticks(n))
    plain(axes, _STEPS, _DEPTH)
    axes.grid(False)


def _record_ticks(axes: Any, steps: Any) -> None:
    """Label an axis of evenly spaced records, dense at first and sparse later, with some of their steps."""
    n = len(steps)
    shown = np.unique(np.linspace(0, n - 1, min(n, 6)).round().astype(int))
    axes.set_xticks(shown, [f"{steps[i]:,}" for i in shown])


def _layer_ticks(n: int) -> list[int]:
    return list(range(1, n + 1, -(-n // 10)))
