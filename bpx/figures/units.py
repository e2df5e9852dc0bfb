"""Units over time: how many are saturated, how many are dead, and how many saturated ones are normal."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtri

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.parts import restore
from bpx.figures.canvas import RED, figure_legend, style_axes
from bpx.figures.layers import depth_bar, lines_by_depth, record_figure
from bpx.figures.steps import STEP
from bpx.records import Records

SATURATED, POINTS = 0.05, 2000  # of the largest slope; of the normal distribution
PANELS = (
    ("saturation", "saturated: |φ'(z)| < 5 % of its largest"),
    ("dead_units", "dead: φ'(z) = 0 for every sample"),
)


def idle_units(records: Records) -> Figure | None:
    """Draw the share of saturated (sample, unit) pairs and of dead units by layer over the steps.

    A line marks the share that is saturated where z ~ N(0, 1): half the pairs of a ReLU. None where no layer is
    followed by an activation, as in an LSTM.
    """
    if np.isnan(records.select(quantity="saturation").value).all():
        return None
    panels = [panel for panel in PANELS if panel[0] in records.quantities]
    figure = record_figure(records, "dead or saturated units", 9.6 if len(panels) > 1 else 6.4)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (quantity, title) in zip(row, panels, strict=True):
        lines_by_depth(axes, records, quantity, lambda share: 100 * share)
        style_axes(axes, STEP, "", title)
        axes.set_ylim(-3, 103)
    row[0].set_ylabel("share / %")
    normal = usual_saturation(records)
    if normal is not None:
        name, share = normal
        text = f"normal for {name}: {100 * share:.2g} % of the pairs are saturated where z ~ N(0, 1), no unit is dead"
        row[0].axhline(100 * share, ls="--", lw=1.2, color=RED, label=text)
        figure_legend(figure, row[:1], 1)
    depth_bar(figure, row, records)
    return figure


def usual_saturation(records: Records) -> tuple[str, float] | None:
    """Return the activation's name and P(|phi'(z)| < 5 % of its largest), z ~ N(0, 1); None for a user's own."""
    try:
        activation = restore("activation", ActivationFunction, ACTIVATIONS, records.about["activation"])
    except (KeyError, ValueError):
        return None
    z = ndtri((np.arange(POINTS) + 0.5) / POINTS)
    a, slope = np.empty(POINTS), np.empty(POINTS)
    activation.f(z, a)
    activation.df(z, a, slope)
    return activation.name, float(np.mean(np.abs(slope) < SATURATED * activation.max_slope))
