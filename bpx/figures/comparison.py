"""Runs over each other: their layer profiles in one figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bpx.figures.canvas import figure_legend, log_y, new_figure, positive, style_axes
from bpx.figures.layers import DEPTH, layer_axis, number, step_label
from bpx.records import Records

PANELS = (("activation_rms", "RMS of a", "forward"), ("delta_l2", "‖δ‖₂, δ = ∂Jᵢ/∂z", "backward"))


def profiles(runs: dict[str, Records]) -> Figure:
    """Draw the RMS of a and ||delta||_2 by layer of every run: solid at initialization, dotted at the last record."""
    names = list(dict.fromkeys(str(records.about.get("dataset")) for records in runs.values()))
    figure = new_figure(f"dataset: {', '.join(names)}", "scale of the signal by layer, forward and backward", 9.6, 4.4)
    for axes, (quantity, label, title) in zip(figure.subplots(1, 2), PANELS, strict=True):
        drawn = [
            _profile(axes, records, quantity, f"C{i % 10}", letter)
            for i, (letter, records) in enumerate(runs.items())
            if quantity in records.quantity
        ]
        layer_axis(axes, max(len(values) for values in drawn))
        log_y(axes, np.concatenate([values.reshape(-1) for values in drawn]))
        style_axes(axes, DEPTH, label, title)
    figure_legend(figure, [axes], 6)
    return figure


def _profile(axes: Any, records: Records, quantity: str, colour: str, letter: str) -> Any:
    steps, layers, values = records.grid(quantity)
    at, marker = [number(layer) for layer in layers], "o" if len(layers) <= 30 else ""
    for column, style, mark in ((0, "-", marker), (-1, ":", ""))[: len(steps)]:
        label = f"{letter}, {step_label(int(steps[column]))}"
        axes.plot(at, positive(values[:, column]), style, color=colour, marker=mark, ms=4, lw=1.4, label=label)
    return values[:, [0, -1]]
