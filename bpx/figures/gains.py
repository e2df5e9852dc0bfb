"""Where the gradient is lost: the gain of every operation, stacked, on the way from the output to the input."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bpx.engine.arrays import Values
from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, YELLOW, dots, figure_legend, style_axes
from bpx.figures.layers import layer_ticks, number, record_figure, step_label
from bpx.records import Records

COLOURS = {"dense": BLUE, "activation": ORANGE, "norm": GREEN, "dropout": GREY, "residual": PURPLE}
OTHERS = (SKY, RED, YELLOW)  # the colours of operations that are none of them, in the order of the network
FEW = 4  # layers whose gains stand side by side
TOWARDS = "layer of δ, from output to input"


@final
@dataclass(frozen=True)
class StepGains:
    """The gains of one step.

    Attributes
    ----------
    step : int
        The step.
    logs : dict of str to ndarray (layers,)
        log10 of the gains by kind of operation, at the layer whose delta they lead to.
    zero : list of int
        The layers on whose way an operation let nothing through.
    names : dict of str to str
        What the kinds are called.
    colours : dict of str to str
        What they are drawn in, the same at every step and in the branches.
    """

    step: int
    logs: dict[str, Values]
    zero: list[int]
    names: dict[str, str]
    colours: dict[str, str]

    @property
    def total(self) -> Values:
        """Sum over the kinds, NaN from the layer on that no gradient reaches."""
        return np.asarray(sum(self.logs.values()), float)


def backward_gains(records: Records) -> Figure:
    """Draw log10 of every operation's backward gain by layer, stacked if many, and their sums from the output on.

    In a residual network the operations inside the branches stand in a panel of their own.
    """
    figure = record_figure(records, "where the gradient is lost: gain of every operation, going backward", finding=True)
    steps = np.unique(records.select(quantity="backward_gain").step)
    first, last = (gains_of(records, "backward_gain", int(step)) for step in (steps[0], steps[-1]))
    branches = gains_of(records, "branch_gain", int(steps[0])) if "branch_gain" in records.quantities else None
    panels = "AC;BC" if branches else "AC"
    axes = figure.subplot_mosaic(panels, height_ratios=[1] * (1 + panels.count(";")))
    draw_gains(axes["A"], first)
    style_axes(axes["A"], "" if branches else TOWARDS, "log10 gain", f"by layer, {step_label(first.step)}")
    if branches:
        draw_gains(axes["B"], branches)
        style_axes(axes["B"], TOWARDS, "log10 gain", "inside the residual branches")
    _sums(axes["C"], first, last)
    style_axes(axes["C"], TOWARDS, "log10 of δ over δ at the output", "added up from the output")
    figure_legend(figure, axes.values(), 6)
    return figure


def gains_of(records: Records, quantity: str, step: int) -> StepGains:
    """Return the gains of a step; a branch as a whole, which is the product of its parts, is left out."""
    rows = records.select(quantity=quantity, step=step)
    n = max(map(number, records.select(quantity="backward_gain").layers)) - 1
    logs: dict[str, Values] = {}
    zero = set()
    for layer, kind, gain in zip(rows.layer, rows.operation, rows.value, strict=True):
        # a Dense, and a block, which holds one, leads to the delta of the layer before it; the rest to their own
        at = number(layer) - (kind in ("dense", "residual") or quantity == "branch_gain")
        if kind == "branch" or at < 1:
            continue
        if gain == 0:
            zero.add(at)
        logs.setdefault(kind, np.zeros(n))[at - 1] += np.log10(gain) if gain > 0 else np.nan
    known = records.about.get("operations", {})
    measured = records.operations
    others = [kind for kind in dict.fromkeys([*known, *logs]) if kind in measured and kind not in COLOURS]
    colours = COLOURS | dict(zip(others, cycle(OTHERS), strict=False))
    return StepGains(step, logs, sorted(zero), {kind: known.get(kind, kind) for kind in logs}, colours)


def draw_gains(axes: Axes, g: StepGains) -> None:
    """Draw log10 of every operation's gain at every layer, side by side where there are few layers, else stacked."""
    (_side_by_side if len(g.total) <= FEW else _stack)(axes, g)


def _side_by_side(axes: Axes, g: StepGains) -> None:
    """Draw the logs of a few layers as bars side by side, each with its factor, and their sum last."""
    bars = [(g.names[kind], g.colours[kind], logs) for kind, logs in g.logs.items()]
    bars.append(("sum", "black", g.total))
    width = 0.8 / len(bars)
    axes.margins(y=0.12)
    for i, (name, colour, logs) in enumerate(bars):
        at = np.arange(len(logs)) + 1 + width * ((len(bars) - 1) / 2 - i)  # the axis runs from output to input
        drawn = axes.bar(at, np.nan_to_num(logs), 0.9 * width, color=colour, label=name)
        factors = [f"×{10**log:.3g}" if np.isfinite(log) else "" for log in logs]
        axes.bar_label(drawn, factors, fontsize=8 if len(logs) * len(bars) <= 9 else 6, padding=2)
    _finish(axes, g)


def _stack(axes: Axes, g: StepGains) -> None:
    """Stack the logs at every layer: what adds upward from 0, what takes away downward."""
    up, down = (np.zeros(len(g.total)) for _ in range(2))
    edges = np.arange(len(up) + 1) + 0.5
    for kind, logs in g.logs.items():
        height = np.nan_to_num(logs)
        base = np.where(height >= 0, up, down)
        axes.stairs(
            base + height,
            edges,
            baseline=base,
            fill=True,
            color=g.colours[kind],
            alpha=0.85,
            lw=0,
            label=g.names[kind],
        )
        up, down = up + np.maximum(height, 0), down + np.minimum(height, 0)
    axes.stairs(g.total, edges, baseline=None, color="black", lw=1.3, label="sum")
    _finish(axes, g)


def _sums(axes: Axes, first: StepGains, last: StepGains) -> None:
    """Draw the sums from the output on: by kind at the first record, in all at the first and the last."""
    at = np.arange(len(first.total)) + 1
    marker = dots(len(at))
    for kind, logs in first.logs.items():
        axes.plot(at, _from_output(logs), marker=marker, color=first.colours[kind], lw=1.4)
    axes.plot(at, _from_output(first.total), marker=marker, color="black", lw=2, label=f"all, {step_label(first.step)}")
    if last.step != first.step:
        sums = _from_output(last.total)
        axes.plot(at, sums, "--", marker=marker, color="black", lw=1.3, label=f"all, {step_label(last.step)}")
    _finish(axes, first)


def _from_output(logs: Values) -> Values:
    return np.cumsum(logs[::-1])[::-1]


def _finish(axes: Axes, g: StepGains) -> None:
    n = len(g.total)
    axes.axhline(0, color="black", lw=0.6)
    axes.grid(False)
    axes.set_xlim(n + 0.5, 0.5)
    axes.set_xticks(layer_ticks(n))
    if g.zero:
        axes.plot(
            g.zero, np.full(len(g.zero), 0.03), "X", color=RED, ms=8, clip_on=False,
            transform=axes.get_xaxis_transform(), label="exactly 0: nothing comes through",
        )  # fmt: skip
