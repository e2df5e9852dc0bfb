"""The picture of all layers while a run trains: profile beside theory, magnitudes of gradients, gains, in one."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bpx.figures.canvas import new_figure, style_axes
from bpx.figures.gains import TOWARDS, draw_gains, gains_of
from bpx.figures.histograms import draw_histogram, table, used_bins
from bpx.figures.layers import DEPTH, step_label
from bpx.figures.profile import draw_backward, draw_forward
from bpx.records import Records

NEEDED = {"preactivation_rms", "activation_rms", "delta_l2"}
LEFT, RIGHT, WIDTH = 0.065, 0.56, 0.42  # of the figure: places are given, for finding them costs half of the drawing


def layers_picture(records: Records) -> Figure | None:
    """Draw the layers at the last step of ``records`` beside the first; None where the scales were not recorded."""
    recorded = records.quantities
    if not recorded >= NEEDED:
        return None
    last = int(records.step.max())
    more = [name for name in ("gradient_histogram", "backward_gain") if name in recorded]
    rows = 2 if more else 1
    figure = new_figure(f"dataset: {records.about.get('dataset')}", f"layers at {step_label(last)}", 11.0, 3.9 * rows)
    figure.set_layout_engine("none")
    upper, height = (0.58, 0.345) if more else (0.15, 0.70)
    forward, backward = (figure.add_axes((x, upper, WIDTH, height)) for x in (LEFT, RIGHT))
    draw_forward(forward, records)
    draw_backward(backward, records)
    for axes in (forward, backward):
        _legend(axes)
    for x, name in zip((LEFT, RIGHT), more, strict=False):
        axes = figure.add_axes((x, 0.09, WIDTH, height))
        at = int(records.select(quantity=name).step.max())
        if name == "backward_gain":
            draw_gains(axes, gains_of(records, name, at))
            style_axes(axes, TOWARDS, "log10 gain", f"gain of every operation, {step_label(at)}")
            axes.grid(False)
            _legend(axes)
        else:
            shares = table(records, name, at)
            draw_histogram(axes, records, shares, *used_bins([shares]))
            style_axes(axes, "log10 |∂J/∂W|", DEPTH, f"share of entries by magnitude (darker: more), {step_label(at)}")
            axes.grid(False)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(loc="best", fontsize=7, frameon=False)
