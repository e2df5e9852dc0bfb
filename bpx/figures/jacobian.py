"""The singular values of the input-output Jacobian: how it stretches and squeezes what passes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bpx.engine.arrays import Values
from bpx.figures.canvas import BLUE, GREEN, ORANGE, dots, legend_below, log_y, positive, style_axes
from bpx.figures.layers import MOMENTS, by_index, record_figure, step_label
from bpx.figures.steps import STEP, step_axis
from bpx.records import Records


def jacobian_spectrum(records: Records) -> Figure:
    """Draw the spectrum of every sample at the first and the last record, and how it changes between them."""
    steps, spectra = spectra_of(records)
    figure = record_figure(records, "singular values of the input-output Jacobian ∂z/∂x, z the last pre-activation")
    left, right = figure.subplots(1, 2)
    rank = np.arange(1, spectra.shape[2] + 1)
    drawn = MOMENTS[: len(steps)]
    for column, colour, marker in drawn:
        for i, spectrum in enumerate(spectra[column]):
            label = "" if i else f"{step_label(int(steps[column]))}, a line for each sample"
            left.plot(rank, positive(spectrum), color=colour, marker=marker, ms=3, lw=1, label=label or None)
    left.set_xticks(rank[:: -(-len(rank) // 10)])
    log_y(left, spectra[[column for column, _, _ in drawn]])
    style_axes(left, "rank", "singular value", "spectrum")
    legend_below(left, 1)
    with np.errstate(invalid="ignore"):
        logs = np.log10(positive(spectra)).mean(axis=1)  # (steps, rank)
    for line, name, colour in (
        (logs[:, 0], "largest", ORANGE),
        (logs.mean(axis=1), "geometric mean", BLUE),
        (logs[:, -1], "smallest", GREEN),
    ):
        right.plot(steps, 10**line, color=colour, marker=dots(len(steps)), lw=1.3, label=name)
    step_axis(right, steps)
    log_y(right, 10**logs)
    style_axes(right, STEP, "singular value", "over time, mean of the logarithms")
    legend_below(right, 3)
    return figure


def spectra_of(records: Records) -> tuple[NDArray[np.int64], Values]:
    """Return the steps and the singular values, (steps, samples, rank), largest first."""
    steps, flat = by_index(records.select(quantity="jacobian_singular_value"))
    return steps, flat.reshape(len(steps), -1, int(records.about["jacobian_rank"]))
