"""Magnitudes of activations and gradients: one heat map each, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bpx.engine.arrays import Values
from bpx.figures.canvas import style_axes
from bpx.figures.layers import DEPTH, layer_ticks, number, record_figure, step_label
from bpx.records import Records

PANELS = (("activation_histogram", "|a|"), ("gradient_histogram", "|∂J/∂W|"))
APART, GAP = 0.1, 1  # width of the bins for zero and for non-finite, of all the others' width; columns between


def magnitude_histograms(records: Records) -> Figure:
    """Draw the share of entries by layer and log10 of their magnitude, at the first and the last record.

    Exact zeros stand apart on the left, NaN and infinity on the right.
    """
    steps = np.unique(records.select(quantity=PANELS[0][0]).step)
    moments = steps[[0, -1]] if len(steps) > 1 else steps
    figure = record_figure(records, "magnitudes by layer", 9.6, 2.6 + 2.2 * (len(moments) - 1))
    axes = figure.subplots(len(moments), 2, squeeze=False)
    for column, (quantity, symbol) in enumerate(PANELS):
        tables = [table(records, quantity, int(step)) for step in moments]
        ends = used_bins(tables)
        for row, (t, step) in enumerate(zip(tables, moments, strict=True)):
            image = draw_histogram(axes[row, column], records, t, *ends)
            bottom = row == len(moments) - 1
            style_axes(axes[row, column], f"log10 {symbol}" if bottom else "", "" if column else DEPTH)
            axes[row, column].set_title(f"{symbol}, {step_label(int(step))}", fontsize=10, y=1.0)
            axes[row, column].grid(False)
    figure.colorbar(image, ax=axes, label="share of the layer's entries", pad=0.02)
    return figure


def table(records: Records, quantity: str, step: int) -> Values:
    """Return the shares of a step, (layers, bins), as the record's index counts the bins."""
    rows = records.select(quantity=quantity, step=step)
    layers = np.array([number(layer) for layer in rows.layer])
    found = np.zeros((layers.max(), rows.index.max() + 1))
    found[layers - 1, rows.index] = rows.value
    return found


def used_bins(tables: Sequence[Values]) -> tuple[int, int]:
    """Return the first and the last bin, but those for zero and for what is not finite, that any of the tables uses."""
    used = np.flatnonzero(np.sum([t[:, 1:-1].sum(axis=0) for t in tables], axis=0)) + 1
    return (int(used[0]), int(used[-1])) if len(used) else (1, tables[0].shape[1] - 2)


def draw_histogram(axes: Axes, records: Records, shares: Values, first: int, last: int) -> AxesImage:
    """Draw the bins ``first`` to ``last`` and, apart, those for zero and for what is not finite."""
    n = len(shares)
    gap = np.full((n, GAP), np.nan)
    apart = max(2, round(APART * (last - first + 1)))  # columns
    zero, other = (np.repeat(shares[:, [i]], apart, axis=1) for i in (0, -1))
    whole = np.hstack([zero, gap, shares[:, first : last + 1], gap, other])
    image = axes.imshow(
        np.where(whole == 0, np.nan, whole), aspect="auto", origin="lower", interpolation="nearest",
        extent=(0, whole.shape[1], 0.5, n + 0.5), cmap="magma_r", norm=PowerNorm(0.5, 0, 1),
    )  # fmt: skip
    start = apart + GAP
    for edge in (apart, start, start + last - first + 1, start + last - first + 1 + GAP):
        axes.axvline(edge, color="#999999", lw=0.6)
    lowest, highest = records.about["histogram_decades"]
    edges = np.linspace(lowest, highest, shares.shape[1] - 3)  # left of bins 2, 3, ...
    at = np.arange(len(edges)) + 2 - first + start
    shown = np.flatnonzero((at >= start) & (at <= start + last - first + 1) & (edges == np.round(edges)))
    shown = shown[:: -(-len(shown) // 7)] if len(shown) else shown
    names = ["zero", *(str(int(edge)) for edge in edges[shown]), "not\nfinite"]
    axes.set_xticks([apart / 2, *at[shown], whole.shape[1] - apart / 2], names, fontsize=8)
    axes.set_yticks(layer_ticks(n))
    return image
