"""All figures of one run, drawn from the files in its directory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bpx.engine.arrays import Arrays
from bpx.figures.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    dots,
    legend_below,
    new_figure,
    ranges,
    save_all,
    style_axes,
    widen_flat,
)
from bpx.figures.evaluation import confusion, decision, regression, samples
from bpx.figures.flow import flow_drawings
from bpx.records import read, read_metrics
from bpx.system.run_files import EVALUATION, FIGURES, METRICS, RECORD

LABELS = {"cost/train": "training minibatches", "cost/val": "validation"}
FROM_ARRAYS: dict[str, tuple[str, Callable[[Arrays], Figure]]] = {
    "confusion": ("confusion", confusion),
    "samples": ("sample_image_shape", samples),
    "decision": ("grid_class", decision),
    "regression": ("target_true", regression),
}


def draw_all(
    directory: Path,
    failed: dict[str, str] | None = None,
    allow: Collection[str] = (),
    suffix: str = "png",
    folder: Path | None = None,
) -> list[Path]:
    """Draw every figure that the run's files allow and return the paths.

    Parameters
    ----------
    directory
        The run's directory. A figure whose file, arrays or quantities are missing is left out.
    failed
        Takes the error of each figure that cannot be drawn, in one line; without it the error is raised.
    allow
        The modules that may be imported for an activation that is not part of bpx.
    suffix
        The format: png, pdf or svg.
    folder
        Where to put them; else ``figures`` in the run's directory.
    """
    folder = folder or directory / FIGURES
    folder.mkdir(exist_ok=True)
    record = directory / RECORD
    records = read(record) if record.is_file() else None
    arrays: Arrays = {"name": np.array(records.about.get("dataset", "") if records else "")}
    if (directory / EVALUATION).is_file():  # a run that was stopped has none
        with np.load(directory / EVALUATION, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file}
    name = str(arrays["name"])
    figures: dict[str, Callable[[], Figure | None]] = {}
    if (directory / METRICS).is_file():
        figures["curves"] = lambda: curves(directory / METRICS, name)
    for file_name, (needed, draw) in FROM_ARRAYS.items():
        if needed in arrays and arrays[needed].size:
            figures[file_name] = partial(draw, arrays)
    flow = flow_drawings(records, allow) if records else {}
    return save_all(figures | flow, folder, failed, suffix)


def curves(path: Path, name: str) -> Figure:
    """Draw cost and accuracy over the steps, from ``metrics.jsonl``; the final test values are the title."""
    metrics = read_metrics(path)
    last = {key: values[-1] for key, (_, values) in metrics.items()}
    parts = [f"test cost {last['cost/test']:.4g}"] if "cost/test" in last else []
    parts += [f"test accuracy {100 * last['accuracy/test']:.2f} %"] if "accuracy/test" in last else []
    has_accuracy = "accuracy/val" in metrics
    figure = new_figure(f"dataset: {name}", " · ".join(parts) or "training")
    axes = figure.subplots(1, 2 if has_accuracy else 1, squeeze=False)[0]
    costs = {key: metrics[key] for key in ("cost/train", "cost/val") if key in metrics}
    for (key, (steps, values)), colour in zip(costs.items(), (BLUE, ORANGE), strict=False):
        axes[0].plot(steps, values, color=colour, lw=1.4, marker=dots(len(values)), label=LABELS[key])
    if costs:
        drawn = np.concatenate([values for _, values in costs.values()])
        axes[0].set_yscale("log") if ranges(drawn) else widen_flat(axes[0], drawn)
    style_axes(axes[0], "optimizer step", "cost", "cost")
    if costs:
        legend_below(axes[0], 2)
    if has_accuracy:
        steps, values = metrics["accuracy/val"]
        axes[1].plot(steps, 100 * values, color=GREEN, lw=1.4, marker=dots(len(values)))
        style_axes(axes[1], "optimizer step", "accuracy / %", "validation accuracy")
    return figure
