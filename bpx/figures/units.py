"""Units over time: how many are saturated, how many are dead."""

from __future__ import annotations

from matplotlib.figure import Figure

from bpx.figures.canvas import style_axes
from bpx.figures.layers import STEPS, depth_bar, lines_by_depth, record_figure
from bpx.records import Records

PANELS = (
    ("saturation", "saturated: |φ'(z)| < 5 % of its largest"),
    ("dead_units", "dead: φ'(z) = 0 for every sample"),
)


def idle_units(records: Records) -> Figure:
    """Draw the share of saturated (sample, unit) pairs and of dead units by layer over the records."""
    panels = [panel for panel in PANELS if panel[0] in records.quantity]
    figure = record_figure(records, "units out of work", 9.6 if len(panels) > 1 else 6.4)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (quantity, title) in zip(row, panels, strict=True):
        lines_by_depth(axes, records, quantity, lambda share: 100 * share)
        style_axes(axes, STEPS, "", title)
        axes.set_ylim(-3, 103)
    row[0].set_ylabel("share / %")
    depth_bar(figure, row, records)
    return figure
