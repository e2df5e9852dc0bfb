"""Whether gradients agree: between the samples of a batch, and from one step to the next."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bpx.figures.canvas import log_y, style_axes
from bpx.figures.layers import depth_bar, lines_by_depth, record_figure
from bpx.figures.steps import STEP
from bpx.records import Records

PANELS = (
    ("delta_coherence", "‖mean δᵢ‖ / √(mean ‖δᵢ‖²)", "between samples: 1 all alike, 0 cancelled", True),
    ("gradient_snr", "‖ḡ‖² / (tr Cov / B)", "signal over noise of ∂J/∂W", True),
    ("gradient_cosine", "cosine", "∂J/∂W to that of the step before", False),
)


def gradient_agreement(records: Records) -> Figure:
    """Draw coherence of delta, signal-to-noise ratio and cosine of successive gradients by layer over the records."""
    panels = [p for p in PANELS if np.isfinite(records.select(quantity=p[0]).value).any()] or list(PANELS[:1])
    figure = record_figure(records, "do gradients agree?", 3.0 + 3.2 * len(panels), 3.8)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (quantity, label, title, logarithmic) in zip(row, panels, strict=True):
        if logarithmic:
            shown = lines_by_depth(axes, records, quantity)
            log_y(axes, shown)
        else:
            shown = lines_by_depth(axes, records, quantity, lambda cosine: cosine)
            axes.set_ylim(-1.05, 1.05)
        style_axes(axes, STEP, label, title)
    depth_bar(figure, row, records)
    return figure
