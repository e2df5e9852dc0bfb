"""The layer profile: how large the signal is forward, and delta backward, layer by layer, beside theory."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bpx.engine.arrays import Values
from bpx.figures.canvas import GREY, Picture, legend_below, log_y, positive, style_axes
from bpx.figures.layers import DEPTH, by_index, first_and_last, heat_map, number, record_figure
from bpx.records import Records

THEORY = "#222222"


def layer_profile(records: Records, *, finding: bool = True) -> Picture:
    """Draw the RMS of z and a, and ||delta||_2, by layer: at initialization, at the end, and as theory predicts.

    The band holds 95 % of networks of this width. Theory's q is E[z**2], but for batch normalization, where it is the
    variance over the batch and is not drawn. ``finding`` says the run's finding under the title.
    """
    figure = record_figure(records, "scale of the signal by layer, forward and backward", finding=finding)
    forward, backward = figure.subplots(1, 2)
    draw_forward(forward, records)
    draw_backward(backward, records)
    legend_below(forward, 3)
    legend_below(backward, 3)
    return figure


def draw_forward(axes: Axes, records: Records) -> None:
    """Draw the RMS of z and a by layer at the first and the last step, and theory's RMS of z."""
    drawn = [
        first_and_last(axes, records, "preactivation_rms", "z, ", "-"),
        first_and_last(axes, records, "activation_rms", "a, ", ":"),
        _lengths(axes, records) if records.about.get("normalization") != "batch" else np.empty(0),
    ]
    log_y(axes, np.concatenate([x.reshape(-1) for x in drawn]))
    style_axes(axes, DEPTH, "RMS of z and a", "forward")


def draw_backward(axes: Axes, records: Records) -> None:
    """Draw ||delta||_2 by layer at the first and the last step, and theory's line and band."""
    drawn = [
        first_and_last(axes, records, "delta_l2", "", "-"),
        _predicted(axes, records, "predicted_delta_l2", "theory"),
    ]
    log_y(axes, np.concatenate([x.reshape(-1) for x in drawn]))
    style_axes(axes, DEPTH, "‖δ‖₂, δ = ∂Jᵢ/∂z", "backward")


def delta_heatmap(records: Records) -> Figure:
    """Draw log10 of ||delta||_2 for every layer and recorded step."""
    figure = record_figure(records, "‖δ‖₂ by layer and step", 8.2, finding=True)
    steps, _, values = records.grid("delta_l2")
    heat_map(figure, figure.subplots(), steps, values, "log10 of ‖δ‖₂")
    return figure


def time_heatmap(records: Records) -> Figure:
    """Draw log10 of ||dJ/dh_t||_2 for every step of the sequence and recorded step, in the last recurrent layer."""
    figure = record_figure(records, "‖∂J/∂h‖₂ by time and step", 8.2, finding=True)
    rows = records.select(quantity="state_grad_l2")
    rows = rows.select(layer=max(rows.layers, key=lambda name: (len(name), name)))
    steps, values = by_index(rows)
    axes = figure.subplots()
    heat_map(figure, axes, steps, values[:, 1:].T, "log10 of ‖∂J/∂h‖₂")
    axes.set_ylabel("step of the sequence")
    return figure


def _predicted(axes: Axes, records: Records, quantity: str, label: str) -> Values:
    """Draw theory's line and its band, and return it; nothing where theory has no answer."""
    _, layers, values = records.grid(quantity)
    if len(layers) < 2:
        return np.empty(0)
    at, line = [number(layer) for layer in layers], positive(values[:, 0])
    ends = [records.grid(f"{quantity}_{end}")[2] for end in ("low", "high")]
    low, high = (positive(end[:, 0]) if end.size else line for end in ends)  # a record may have no band
    if (high > low).any():
        axes.fill_between(at, low, high, color=GREY, alpha=0.3, lw=0)
        caveat = (records.about.get("finding") or {}).get("caveat")
        label += ", only roughly" if caveat else ", 95 % band"
    axes.plot(at, line, "--", color=THEORY, lw=1.1, label=label, zorder=3)
    return np.asarray(line)


def _lengths(axes: Axes, records: Records) -> Values:
    """Draw theory's RMS of z; with shortcuts its q is that of the sum, and what a layer adds to it is its own z**2."""
    if not records.about.get("residual"):
        return _predicted(axes, records, "predicted_preactivation_rms", "z, theory")
    _, layers, values = records.grid("predicted_preactivation_rms")
    if len(layers) < 2:
        return np.empty(0)
    line = positive(np.sqrt(np.maximum(np.diff(values[:, 0] ** 2, prepend=0.0), 0.0)))
    axes.plot([number(layer) for layer in layers], line, "--", color=THEORY, lw=1.1, label="z, theory", zorder=3)
    return np.asarray(line)
