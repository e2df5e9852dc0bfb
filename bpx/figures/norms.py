"""Gradient norms by layer, and over time."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bpx.figures.canvas import dots, legend_below, log_y, positive, shades, style_axes
from bpx.figures.layers import DEPTH, first_and_last, heat_map, record_figure
from bpx.figures.steps import STEP, step_axis
from bpx.records import Records

LINES = 8  # more layers than these are drawn as a heat map


def gradient_norms(records: Records) -> Figure:
    """Draw the gradient norms of weights and biases by layer, at initialization and at the end, and over time."""
    figure = record_figure(records, "gradient norms by layer", 9.6, 4.6)
    left, right = figure.subplots(1, 2)
    weights = first_and_last(left, records, "grad_norm", "weights, ", "-")
    biases = first_and_last(left, records, "grad_norm_bias", "biases, ", ":")
    log_y(left, np.concatenate([weights, biases]))
    style_axes(left, DEPTH, "L2 norm of the gradient of J", "by layer")
    legend_below(left, 2)
    steps, layers, values = records.grid("grad_norm")
    if len(layers) > LINES:
        heat_map(figure, right, steps, values, "log10 of the L2 norm of ∂J/∂W")
    else:
        for i, (row, colour) in enumerate(zip(values, shades(len(values)), strict=True), 1):
            label = f"layer {i}" if np.isfinite(positive(row)).any() else f"layer {i} (zero or not finite)"
            right.plot(steps, positive(row), color=colour, lw=1.2, marker=dots(len(row)), label=label)
        step_axis(right, steps)
        log_y(right, values)
        style_axes(right, STEP, "L2 norm of ∂J/∂W")
        legend_below(right, 4)
    right.set_title("over time", fontsize=10, y=1.0)
    return figure
