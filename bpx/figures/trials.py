"""The trials of a study, read from its trials.csv and study.json, and how their keys and values are drawn."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from matplotlib.axis import Axis, XAxis, YAxis
from matplotlib.colors import LogNorm, Normalize, TwoSlopeNorm
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from bpx.engine.arrays import Values
from bpx.figures.canvas import literal, power, ranges
from bpx.records import Outcome
from bpx.system.run_files import STUDY, TRIALS

LABELS = {
    "optimizer.lr": "learning rate",
    "model.depth": "hidden layers",
    "batch_size": "batch size",
    "initializer.sigma_w": "σw",
    "model.recurrent_scale": "scale of the recurrent weights",
    "dataset.steps": "steps of a sequence",
    "gradient_flow/slope": "gradient slope after training / decades a layer",
    "gradient_flow/abs_slope": "|gradient slope| after training / decades a layer",
}
COST, ACCURACY, SLOPE = ("cost/val", "cost/train"), ("accuracy/val", "accuracy/test"), ("gradient_flow/slope",)
LOGARITHMIC = ("optimizer.lr",)  # keys that are drawn on a log axis however little they range


class About(TypedDict):
    """The keys of a study's ``study.json``: its name, objectives, space (key: grammar), data, and theory's depths."""

    name: str
    objective: list[str]
    direction: list[str]
    space: dict[str, str]
    dataset: str
    depth_scale: dict[str, list[float]]


@dataclass(frozen=True)
class Trials:
    """The ended trials of a study, column by column, as text."""

    columns: dict[str, list[str]]
    about: About

    def numbers(self, name: str) -> Values:
        """Return a column as numbers, NaN where it holds none."""
        return np.array([_number(text) for text in self.columns.get(name, [])], dtype=float)

    def numeric(self, name: str) -> bool:
        """Return whether every value of a column is a number."""
        return name in self.columns and bool(np.isfinite(self.numbers(name)).all())

    def first(self, names: Sequence[str]) -> str | None:
        """Return the first of the columns that holds a number."""
        return next((n for n in names if np.isfinite(self.numbers(n)).any()), None)

    def ended(self, how: str) -> NDArray[np.bool_]:
        """Return which trials ended as ``how``."""
        return np.array([text == how for text in self.columns["outcome"]])


def read_trials(directory: Path) -> Trials:
    """Read what a study has written into its directory."""
    with (directory / TRIALS).open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    about = json.loads((directory / STUDY).read_text(encoding="utf-8"))
    return Trials({name: [row[name] or "" for row in rows] for name in names}, about)


def best_trial(trials: Trials) -> int | None:
    """Return the row of the best finished trial; None of several objectives, or where none has finished."""
    names, directions = trials.about["objective"], trials.about["direction"]
    values = trials.numbers(names[0])
    good = trials.ended(Outcome.FINISHED)
    if len(names) > 1 or values.size == 0 or not np.isfinite(values[good]).any():
        return None
    values = np.where(good, values, np.nan)
    return int(np.nanargmin(values) if directions[0] == "minimize" else np.nanargmax(values))


def key_axis(axis: XAxis | YAxis, values: Values, key: str = "") -> None:
    """Make an axis logarithmic where its values range, or its key does; name few places, and no fractions of counts."""
    places = np.unique(values[np.isfinite(values)])
    doubling = len(places) > 2 and np.allclose(np.diff(np.log2(np.maximum(places, 1e-300))), 1)
    if ranges(places) or doubling or (len(places) and places[0] > 0 and key in LOGARITHMIC):
        axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    name_places(axis, places)
    if doubling:
        axis.set_ticks(places, [f"{p:g}" for p in places])


def name_places(axis: Axis, values: Values) -> None:
    """Name few places of an axis of ``values``: 1, 2, 5 or powers of ten on a logarithmic one, integers of counts."""
    places = values[np.isfinite(values)]
    if axis.get_scale() == "log":
        few = bool(len(places) and 0 < places.max() < 100 * places.min())
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if few else power(v)))
        axis.set_minor_locator(NullLocator())
    elif len(places) and (places == np.round(places)).all():
        axis.set_major_locator(MaxNLocator(integer=True))


def colour_map(name: str) -> str:
    """Return the map of colours for a metric: diverging for a signed slope, brightest where it is best."""
    return "RdBu_r" if name in SLOPE else "viridis" if name.startswith("accuracy") else "viridis_r"


def colour_norm(name: str, values: ArrayLike) -> Normalize:
    """Return the scale of colours: around zero for a signed slope, logarithmic for what ranges."""
    good = np.asarray(values, float)
    good = good[np.isfinite(good)]
    if good.size == 0:
        return Normalize(0, 1)
    if name in SLOPE:
        reach = max(float(np.quantile(np.abs(good), 0.95)), 1e-12)
        return TwoSlopeNorm(0, -reach, reach)
    if ranges(good):
        return LogNorm(good.min(), good.max())
    return Normalize(good.min(), good.max())


def label(key: str) -> str:
    """Return what a key or a metric is called on an axis."""
    return LABELS.get(key) or literal(key, 40)


def study_name(trials: Trials) -> str:
    """Return the study and the dataset, for the foot of a figure."""
    return f"{trials.about['name']} · dataset: {trials.about['dataset']}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
