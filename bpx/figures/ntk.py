"""The neural tangent kernel: its spectrum, and how far training takes it from where it began."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bpx.figures.canvas import BLUE, dots, legend_below, log_y, positive, style_axes
from bpx.figures.layers import MOMENTS, by_index, record_figure, step_label
from bpx.figures.steps import STEP, step_axis
from bpx.records import Records


def tangent_kernel(records: Records) -> Figure:
    """Draw the eigenvalues at the first and the last record, and the kernel's change over the steps."""
    steps, spectra = by_index(records.select(quantity="ntk_eigenvalue"))
    changes = records.select(quantity="ntk_change")
    figure = record_figure(records, "neural tangent kernel, mean over the outputs")
    left, right = figure.subplots(1, 2)
    rank = np.arange(1, spectra.shape[1] + 1)
    drawn = MOMENTS[: len(steps)]
    for column, colour, _ in drawn:
        label = step_label(int(steps[column]))
        left.plot(rank, positive(spectra[column]), color=colour, lw=1.3, marker=dots(len(rank)), label=label)
    left.set_xscale("log")
    log_y(left, spectra[[column for column, _, _ in drawn]])
    style_axes(left, "rank", "eigenvalue", "spectrum")
    legend_below(left, 2)
    right.plot(changes.step, changes.value, color=BLUE, lw=1.3, marker=dots(len(changes.step)), label="|K − K₀| / |K₀|")
    right.set_ylim(bottom=0)
    step_axis(right, steps)
    style_axes(right, STEP, "change of the kernel", "near 0: lazy; large: features are learned")
    legend_below(right, 1)
    return figure
