"""The figure of a coordinate check: z, and what training changes of it, by width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bpx.engine.arrays import Values
from bpx.figures.canvas import figure_legend, log_y, new_figure, positive, shades, style_axes


def coordinate_check(name: str, widths: Sequence[int], measured: Mapping[str, tuple[Values, ...]]) -> Figure:
    """Draw the RMS of z and of its change by width: a row for each parametrization.

    Parameters
    ----------
    name : str
        Of the data.
    widths : sequence of int
        Of the hidden layers.
    measured : mapping of str to (ndarray, ndarray)
        By parametrization: RMS of z and of its change, each (steps + 1, widths, layers).

    Returns
    -------
    Figure
        Columns: z at the start, its change after all steps, the change of the last layer after each step.
    """
    figure = new_figure(name, "coordinate check: what does not depend on the width is flat", 11.5, 3.4 * len(measured))
    rows = figure.subplots(len(measured), 3, squeeze=False, sharey="col")
    for (start, end, last), (of, (z, change)) in zip(rows, measured.items(), strict=True):
        steps, _, layers = change.shape
        for i, colour in enumerate(shades(layers)):
            label = f"layer_{i + 1:02d}"
            start.plot(widths, positive(z[0, :, i]), "o-", color=colour, ms=4, label=label)
            end.plot(widths, positive(change[-1, :, i]), "o-", color=colour, ms=4)
        for step, colour in zip(range(1, steps), shades(steps - 1, "plasma"), strict=True):
            label = f"last layer, step {step}"
            last.plot(widths, positive(change[step, :, -1]), "s--", color=colour, ms=4, label=label)
        style_axes(start, "width", "RMS of z", f"{of}: at the start")
        style_axes(end, "width", "RMS of the change of z", f"{of}: after {steps - 1} steps")
        style_axes(last, "width", "RMS of the change of z", f"{of}: last layer, step by step")
        for axes in (start, end, last):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator([float(n) for n in widths]))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
    drawn = [(z[0], change[-1], change[1:, :, -1]) for z, change in measured.values()]
    for column, values in zip(rows.T, zip(*drawn, strict=True), strict=True):
        for axes in column:
            log_y(axes, np.concatenate([v.ravel() for v in values]))
    figure_legend(figure, rows[0], 6)
    return figure
