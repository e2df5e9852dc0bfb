"""The data of a report's charts, as JSON: rounded, null for non-finite values, a limited number of steps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bpx.engine.arrays import Values
from bpx.figures.canvas import colours, shades
from bpx.figures.layers import number
from bpx.figures.trials import Trials
from bpx.records import Records, aligned
from bpx.stored.groups import Group
from bpx.system.files import Json

DIGITS, MAX_STEPS, MAX_POINTS = 4, 60, 300  # significant digits; steps of a layer's line, points of a metric's
METRIC_DIGITS = 7  # a cost that hardly changes would be a stair of four
PREDICTED = "predicted_"


def metrics_chart(groups: Sequence[Group]) -> Json:
    """Return the chart of the metrics of the whole network by step: medians over the runs of each group."""
    drawn = [
        {"name": group.label, "colour": colour, "metrics": _metrics(group)}
        for group, colour in zip(groups, colours(len(groups)), strict=True)
    ]
    return {"kind": "metrics", "groups": drawn, "colours": colours(6)} if any(g["metrics"] for g in drawn) else {}


def layers_chart(groups: Sequence[Group]) -> Json:
    """Return the chart of every quantity by layer and step, with theory: medians over the runs of each group."""
    drawn = []
    for group, colour in zip(groups, colours(len(groups)), strict=True):
        records = [run.records for run in group.runs if run.records is not None and run.records.quantities]
        if records:
            drawn.append({"name": group.label, "colour": colour, **_layers(records)})
    drawn = [group for group in drawn if group["quantities"]]
    count = max((len(rows) for group in drawn for rows in group["quantities"].values()), default=0)
    return {"kind": "layers", "groups": drawn, "shades": shades(max(count, 1))} if drawn else {}


def trials_chart(trials: Trials) -> Json:
    """Return the chart of the trials of a search: x, y and colour are any keys or metrics."""
    keys = list(trials.about["space"])
    known = [name for name in trials.columns if np.isfinite(trials.numbers(name)).any()]
    objectives = [name for name in trials.about["objective"] if name in known]
    rest = [name for name in known if "/" in name and name not in (*objectives, *keys)]
    names = ["trial", "outcome", *keys, *objectives, *rest]
    columns = {name: _cells(trials, name) for name in names if name in trials.columns}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"kind": "trials", "keys": keys, "metrics": objectives + rest, "rows": rows} if objectives and rows else {}


def plain(values: ArrayLike, digits: int = DIGITS) -> list[object] | float | None:
    """Return an array as lists of rounded numbers, None for non-finite values."""
    array = np.asarray(values, float)
    if array.ndim == 0:
        return float(f"{array:.{digits}g}") if np.isfinite(array) else None
    return [plain(value, digits) for value in array]


def _metrics(group: Group) -> Json:
    names = sorted({name for run in group.runs for name in run.series if "/layer_" not in name})
    order = ("cost/", "accuracy/")  # first; the others by name
    names.sort(key=lambda name: next((i for i, start in enumerate(order) if name.startswith(start)), len(order)))
    found = {}
    for name in names:
        steps, values = aligned([run.series[name] for run in group.runs if name in run.series])
        few = _few(len(steps), MAX_POINTS)
        found[name] = {"x": steps[few].tolist(), "y": plain(_median(values)[few], METRIC_DIGITS)}
    return found


def _layers(records: Sequence[Records]) -> Json:
    first = records[0]
    own = {}  # the steps of every quantity that has one value a layer
    for name in sorted(first.quantities):
        rows = first.select(quantity=name, operation="")
        if rows.layers - {""} and not rows.index.any():
            own[name] = np.unique(rows.step)
    steps = np.unique(np.concatenate([*own.values(), np.empty(0, np.int64)]))
    few = steps[_few(len(steps), MAX_STEPS)]
    quantities, theory = {}, {}
    for name in own:
        if name.startswith(PREDICTED):
            continue
        grids = [_grid(one, name, few) for one in records if name in one.quantities]
        same = [grid for grid in grids if grid.shape == grids[0].shape]
        quantities[name] = plain(_median(np.array(same)))
    for name in quantities:
        if PREDICTED + name in own:
            lines = {"line": PREDICTED + name, "low": f"{PREDICTED}{name}_low", "high": f"{PREDICTED}{name}_high"}
            theory[name] = {key: plain(first.grid(q)[2][:, 0]) for key, q in lines.items() if q in own}
    return {"steps": few.tolist(), "quantities": quantities, "theory": theory}


def _grid(records: Records, name: str, steps: NDArray[np.int64]) -> Values:
    """Return the values (layers, steps) of a quantity, by number of the layer; NaN where a step has none."""
    at, layers, values = records.grid(name)
    grid = np.full((max(map(number, layers)), len(steps)), np.nan)
    known = np.isin(steps, at)
    for layer, row in zip(layers, values, strict=True):
        grid[number(layer) - 1, known] = row[np.searchsorted(at, steps[known])]
    return grid


def _median(runs: Values) -> Values:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where no run has a value
        return np.asarray(np.nanmedian(runs, axis=0))


def _few(n: int, most: int) -> NDArray[np.intp]:
    """Return at most ``most`` of ``n`` places, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.intp))


def _cells(trials: Trials, name: str) -> list[object]:
    if name == "outcome" or not np.isfinite(trials.numbers(name)).any():
        return list(trials.columns[name])
    return [plain(value) for value in trials.numbers(name)]
