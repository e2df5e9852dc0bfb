"""Maps of a study: its trials over two keys, in the colour of one value, with the edge of trainability."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bpx.engine.arrays import Values
from bpx.figures.canvas import GREY, RED, figure_legend, new_figure, style_axes
from bpx.figures.trials import (
    ACCURACY,
    COST,
    SLOPE,
    Trials,
    best_trial,
    colour_map,
    colour_norm,
    key_axis,
    label,
    study_name,
)
from bpx.records import Outcome

TRAINABLE = 6  # depth scales: as deep as Schoenholz et al. (2017) could train
CELLS = 120  # of the interpolated background along each axis
NEAR = 4  # power of the distance by which a trial's weight falls
MIN_TRIALS, MIN_VALUES = 8, 5  # trials, and values of each key, from which an edge is drawn
SHADE = "#e3e3e3"  # where networks do not train
TIME_SLOPE = "gradient_flow/predicted_time_slope"
KINDS = {"cost": COST, "accuracy": ACCURACY, "slope": SLOPE}


def map_values(trials: Trials) -> dict[str, str]:
    """Return the metrics that a map is drawn of, by their kind: cost, accuracy, slope."""
    found = {kind: trials.first(names) for kind, names in KINDS.items()}
    return {kind: name for kind, name in found.items() if name} or {"trials": ""}


def trial_map(trials: Trials, x: str, y: str, value: str) -> Figure:
    """Draw the trials over two keys: finished ones as discs, pruned ones as squares, diverged ones as crosses.

    Their colour is the last ``value``. A line is the edge of trainability; beyond it the ground is grey. Over the steps
    of a sequence, another one is theory's: the steps over which a gradient changes by a decade.
    """
    figure = new_figure(study_name(trials), f"{label(value) or 'trials'}, by {label(x)} and {label(y)}", 7.4, 4.8)
    axes = figure.subplots()
    _draw(figure, axes, trials, x, y, value)
    if y == "dataset.steps":
        _time_scale(axes, trials, x)
    figure_legend(figure, [axes], 4)
    return figure


def _time_scale(axes: Axes, trials: Trials, x: str) -> None:
    """Draw the steps over which, by theory, a gradient changes by a decade: the limit of healthy."""
    at, slopes = trials.numbers(x), trials.numbers(TIME_SLOPE)
    known = np.isfinite(at) & (np.abs(slopes) > 0) if slopes.size else np.zeros(at.shape, bool)
    places = np.unique(at[known])
    if len(places) < 2:
        return
    steps = [1 + 1 / abs(float(np.median(slopes[known & (at == place)]))) for place in places]
    low, high = axes.get_ylim()
    axes.plot(places, np.minimum(steps, 10 * high), color=RED, lw=2.2, label="a decade, theory", zorder=5)
    axes.set_ylim(low, high)


def trainable_depth(trials: Trials) -> Figure:
    """Draw accuracy over sigma_w and depth beside 6 xi_c, the depth up to which theory lets a signal through."""
    value = trials.first(ACCURACY) or trials.first(COST) or ""
    figure = new_figure(study_name(trials), "trainable depth against theory's depth scale", 7.4, 5.0)
    axes = figure.subplots()
    scale = trials.about["depth_scale"]
    top = float(np.nanmax(trials.numbers("model.depth")))
    reach = TRAINABLE * np.asarray(scale["xi_c"], float)
    axes.plot(scale["sigma_w"], np.minimum(reach, 10 * top), color=RED, lw=2.2, label="6 ξc, theory", zorder=5)
    _draw(figure, axes, trials, "initializer.sigma_w", "model.depth", value)
    axes.set_ylim(0, 1.08 * top)
    figure_legend(figure, [axes], 4)
    return figure


def _draw(figure: Figure, axes: Axes, trials: Trials, x: str, y: str, value: str) -> None:
    at, up, values = trials.numbers(x), trials.numbers(y), trials.numbers(value)
    if values.size == 0:
        values = np.full(at.shape, np.nan)
    finished, pruned, lost = (trials.ended(how) for how in (Outcome.FINISHED, Outcome.PRUNED, Outcome.DIVERGED))
    known = np.isfinite(values) & ~lost
    key_axis(axes.xaxis, at, x)
    key_axis(axes.yaxis, up, y)
    if known.any():
        cmap, norm = colour_map(value), colour_norm(value, values[known])
        _edge(axes, trials, at, up)
        for shown, size, marker, text in ((finished & known, 46, "o", "finished"), (pruned & known, 26, "s", "pruned")):
            if shown.any():
                image = axes.scatter(at[shown], up[shown], c=values[shown], s=size, marker=marker, edgecolors="black",
                                     linewidths=0.4, zorder=3, label=text, cmap=cmap, norm=norm)  # fmt: skip
        figure.colorbar(image, ax=axes, label=label(value))
    unknown = pruned & ~known
    if unknown.any():
        axes.scatter(at[unknown], up[unknown], s=26, marker="s", facecolors="none", edgecolors=GREY, label="pruned")
    if lost.any():
        axes.scatter(at[lost], up[lost], s=42, marker="x", color=RED, linewidths=1.6, zorder=4, label="diverged")
    best = best_trial(trials)
    if best is not None:
        axes.plot(at[best], up[best], "*", color="white", mec="black", ms=13, zorder=6, label="best")
    style_axes(axes, label(x), label(y))


def _edge(axes: Axes, trials: Trials, at: Values, up: Values) -> None:
    """Shade where networks do not train, and draw the edge: half way from the worst to the best accuracy or cost.

    Between the trials it is the mean of all, weighted by distance**-4; diverged ones count as the worst.
    """
    name = trials.first(ACCURACY) or trials.first(COST)
    if name is None:
        return
    sign = 1.0 if name in ACCURACY else -1.0
    values = sign * trials.numbers(name)
    values = np.where(trials.ended(Outcome.DIVERGED), np.nanmin(values), values)
    known = np.isfinite(values) & np.isfinite(at) & np.isfinite(up)
    if known.sum() < MIN_TRIALS or min(len(np.unique(at[known])), len(np.unique(up[known]))) < MIN_VALUES:
        return
    low, high = float(values[known].min()), float(values[known].max())
    if not high > low:
        return
    places = [np.log10(v[known]) if scale == "log" else v[known]
              for v, scale in ((at, axes.get_xscale()), (up, axes.get_yscale()))]  # fmt: skip
    grids, scaled = [], []
    for p in places:
        span = float(np.ptp(p)) or 1.0
        grids.append(np.linspace(p.min() - 0.03 * span, p.max() + 0.03 * span, CELLS))
        scaled.append((p / span, grids[-1] / span))
    (px, gx), (py, gy) = scaled
    distance = (gx[None, :, None] - px) ** 2 + (gy[:, None, None] - py) ** 2 + 1e-6
    weights = distance ** (-NEAR / 2)
    field = (weights * (values[known] - low)).sum(axis=-1) / weights.sum(axis=-1) / (high - low)
    gx, gy = (10**g if s == "log" else g for g, s in zip(grids, (axes.get_xscale(), axes.get_yscale()), strict=True))
    axes.contourf(gx, gy, field, levels=[-1, 0.5], colors=[SHADE], zorder=0)
    axes.contour(gx, gy, field, levels=[0.5], colors="black", linewidths=1.4, zorder=1)
    what = "accuracy" if name in ACCURACY else "cost"
    axes.plot([], [], color="black", lw=1.4, label=f"half way from the worst to the best {what}")
    axes.set_xlim(gx[0], gx[-1])
    axes.set_ylim(gy[0], gy[-1])
