"""The weights over time: how far they have come, how large they are, and how many directions they have."""

from __future__ import annotations

from matplotlib.figure import Figure

from bpx.figures.canvas import log_y, style_axes
from bpx.figures.layers import depth_bar, lines_by_depth, record_figure
from bpx.figures.steps import STEP
from bpx.records import Records

PANELS = (
    ("distance_from_init", "‖W − W₀‖₂ / ‖W₀‖₂", "distance from initialization"),
    ("spectral_norm", "s₁", "spectral norm: largest singular value"),
    ("stable_rank", "‖W‖₂² / s₁²", "stable rank: directions of about equal size"),
)


def weight_matrices(records: Records) -> Figure:
    """Draw distance from initialization, spectral norm and stable rank of every layer's W over the steps."""
    figure = record_figure(records, "weight matrices", 12.6, 3.8)
    row = figure.subplots(1, len(PANELS))
    for axes, (quantity, label, title) in zip(row, PANELS, strict=True):
        log_y(axes, lines_by_depth(axes, records, quantity))
        style_axes(axes, STEP, label, title)
    depth_bar(figure, row, records)
    return figure
