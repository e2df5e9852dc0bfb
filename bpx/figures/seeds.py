"""Curves over seeds: the mean as a line, one standard deviation around it as a band."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bpx.engine.arrays import Values
from bpx.figures.canvas import figure_legend, literal, log_y, new_figure, style_axes
from bpx.figures.study import band

PANELS = (("cost", ("cost/train", "cost/val")), ("accuracy", ("accuracy/val",)))
STYLES = ("-", "--")


@final
@dataclass(frozen=True)
class Band:
    """A metric over the seeds: at each of the ``steps`` its ``mean`` and its standard deviation, ``std``."""

    steps: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @property
    def edges(self) -> Values:
        """The lower edge, the mean and the upper edge, (3, n)."""
        return np.array([self.mean - self.std, self.mean, self.mean + self.std])


def bands(groups: Mapping[str, Mapping[str, Band]], title: str, dataset: str) -> Figure:
    """Draw cost and accuracy by step, a colour for each group of runs that differ in the seed alone."""
    shown = [(label, [n for n in names if any(n in g for g in groups.values())]) for label, names in PANELS]
    shown = [(label, names) for label, names in shown if names]
    figure = new_figure(f"dataset: {dataset}", title, 1.0 + 4.3 * len(shown), 4.2)
    drawn = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (label, names) in zip(drawn, shown, strict=True):
        for i, (group, series) in enumerate(groups.items()):
            for name, style in zip(names, STYLES, strict=False):
                if name in series:
                    text = literal(f"{group} {name}".strip(), 60)
                    band(axes, series[name].steps, series[name].edges, text, f"C{i % 10}", style)
        if label == "cost":
            means = [series[name].mean for series in groups.values() for name in names if name in series]
            log_y(axes, np.concatenate(means))
        style_axes(axes, "step", label)
    figure_legend(figure, list(drawn), 2)
    return figure
