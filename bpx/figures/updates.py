"""Updates over time: how far a step takes the weights, beside the rule of thumb of 1e-3."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bpx.figures.canvas import RED, legend_below, log_y, style_axes
from bpx.figures.layers import depth_bar, lines_by_depth, record_figure
from bpx.figures.steps import STEP
from bpx.records import Records

SOUND = 1e-3  # what a ratio is usually hoped to be near


def update_ratios(records: Records) -> Figure:
    """Draw |step| / |W| of every layer over the records, with the line at 1e-3."""
    figure = record_figure(records, "update ratio: the step that is made over the weights, |ΔW| / |W|", 8.2)
    axes = figure.subplots()
    shown = lines_by_depth(axes, records, "update_ratio")
    axes.axhline(SOUND, ls="--", lw=1, color=RED, label="10⁻³, the rule of thumb")
    log_y(axes, np.append(shown, SOUND) if np.isfinite(shown).any() else shown)
    style_axes(axes, STEP, "|ΔW| / |W|")
    legend_below(axes, 1)
    depth_bar(figure, axes, records)
    return figure
