"""The figures of one run, drawn from the files in its directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bpx.figures.canvas import BLUE, GREEN, ORANGE, RED, log10, new, plain, ranges, save, shades
from bpx.records import Records, read, read_metrics

LINES = 8  # more layers than these are drawn as a heat map
Arrays = dict[str, Any]


def draw_all(directory: Path) -> list[Path]:
    """Draw every figure that the run's files allow into ``figures/`` and return the paths."""
    folder = directory / "figures"
    folder.mkdir(exist_ok=True)
    with np.load(directory / "evaluation.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file}
    name = str(arrays["name"])
    records = read(directory / "gradient_flow.parquet")
    drawn = [save(curves(directory / "metrics.jsonl", name), folder / "curves.png")]
    from_arrays: list[tuple[str, str, Callable[[Arrays], Figure]]] = [
        ("confusion", "confusion", confusion),
        ("samples", "sample_x", samples),
        ("decision", "grid_class", decision),
    ]
    for file_name, needed, draw in from_arrays:
        if needed in arrays and (file_name != "samples" or arrays["sample_image_shape"].size):
            drawn.append(save(draw(arrays), folder / f"{file_name}.png"))
    if records.step.size:
        drawn.append(save(gradient_norms(records, name), folder / "gradient_norms.png"))
        drawn.append(save(delta_profile(records, name), folder / "profile.png"))
    return drawn


def curves(path: Path, name: str) -> Figure:
    """Draw cost and accuracy over the steps, from ``metrics.jsonl``."""
    metrics = read_metrics(path)
    last = {key: values[-1] for key, (_, values) in metrics.items()}
    parts = [f"test cost {last['cost/test']:.4f}"] if "cost/test" in last else []
    parts += [f"test accuracy {100 * last['accuracy/test']:.2f} %"] if "accuracy/test" in last else []
    has_accuracy = "accuracy/val" in metrics
    figure = new(name, " · ".join(parts) or "training")
    axes = figure.subplots(1, 2 if has_accuracy else 1, squeeze=False)[0]
    for key, colour in (("cost/train", BLUE), ("cost/val", ORANGE)):
        if key in metrics:
            steps, values = metrics[key]
            axes[0].plot(steps, values, color=colour, lw=1.4, label=key.split("/")[1])
            if ranges(values):
                axes[0].set_yscale("log")
    plain(axes[0], "optimizer step", "cost", "cost")
    axes[0].legend(frameon=False)
    if has_accuracy:
        steps, values = metrics["accuracy/val"]
        axes[1].plot(steps, 100 * values, color=GREEN, lw=1.4)
        plain(axes[1], "optimizer step", "accuracy / %", "validation accuracy")
    return figure


def confusion(arrays: Arrays) -> Figure:
    """Draw the confusion matrix: counts, coloured by the share of the true class."""
    counts, names = arrays["confusion"], [str(n) for n in arrays["class_names"]]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new(str(arrays["name"]), f"confusion on {counts.sum():,} test samples", 6.4, 5.4)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    k = len(names)
    if k <= 20:
        for i, j in np.ndindex(k, k):
            if counts[i, j]:
                colour = "white" if share[i, j] > 0.5 else "#333333"
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=colour)
        axes.set_xticks(range(k), names, rotation=45 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(k), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.85)
    return figure


def samples(arrays: Arrays) -> Figure:
    """Draw test images with prediction, probability and true label; red where the prediction is wrong."""
    names, shape = arrays["class_names"], tuple(arrays["sample_image_shape"])
    figure = new(str(arrays["name"]), "test samples: prediction (probability), true label", 6.0, 6.4)
    for axes, x, true, predicted, p in zip(
        figure.subplots(3, 3).flat,
        arrays["sample_x"],
        arrays["sample_true"],
        arrays["sample_pred"],
        arrays["sample_prob"],
        strict=False,
    ):
        axes.imshow(x.reshape(shape), cmap="gray_r")
        axes.set_title(
            f"{names[predicted]} ({p:.2f}), true {names[true]}",
            fontsize=9,
            color=GREEN if predicted == true else RED,
        )
        axes.set_axis_off()
    return figure


def decision(arrays: Arrays) -> Figure:
    """Draw the regions in which a network of two inputs decides for each class, under the test points."""
    k = len(arrays["class_names"])
    colours = [BLUE, ORANGE, GREEN, RED, *shades(max(k - 4, 0))][:k]
    accuracy = f", test accuracy {100 * float(arrays['test_accuracy']):.1f} %"
    figure = new(str(arrays["name"]), f"decision regions{accuracy}", 6.4, 5.2)
    axes = figure.subplots()
    axes.pcolormesh(
        arrays["grid_x"], arrays["grid_y"], arrays["grid_class"],
        cmap=ListedColormap(colours), vmin=-0.5, vmax=k - 0.5, alpha=0.3, shading="nearest", rasterized=True,
    )  # fmt: skip
    for c, colour in enumerate(colours):
        own = arrays["points"][arrays["points_label"] == c]
        axes.scatter(own[:, 0], own[:, 1], s=14, color=colour, edgecolor="white", lw=0.4, label=f"class {c}")
    plain(axes, "feature 1", "feature 2")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def gradient_norms(records: Records, name: str) -> Figure:
    """Draw the gradient norms of weights and biases by layer, at initialization and at the end, and over time."""
    steps, layers, W = records.grid("grad_norm")
    _, _, b = records.grid("grad_norm_bias")
    figure = new(name, "gradient norms by layer", 9.6, 4.2)
    left, right = figure.subplots(1, 2)
    at = np.arange(1, len(layers) + 1)
    for column, label, marker in ((0, "initialization", "o"), (-1, f"step {steps[-1]:,}", "s")):
        colour = BLUE if column == 0 else ORANGE
        left.plot(at, _positive(W[:, column]), color=colour, marker=marker, ms=4, label=f"weights, {label}")
        left.plot(at, _positive(b[:, column]), color=colour, marker=marker, ms=4, ls=":", label=f"biases, {label}")
    _log_y(left, np.concatenate([W[:, 0], W[:, -1]]))
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain(left, "layer, from the input", "L2 norm of the gradient", "by layer")
    left.legend(frameon=False, fontsize=8)
    _over_time(figure, right, steps, W, "L2 norm of dJ/dW")
    return figure


def delta_profile(records: Records, name: str) -> Figure:
    """Draw the scale of delta and of the activations by layer, at initialization and at the end."""
    figure = new(name, "scale of the signal by layer, forward and backward", 9.6, 4.0)
    panels = (
        ("activation_std", "std of the activations", "forward"),
        ("delta_rms", "RMS of delta", "backward"),
    )
    for axes, (quantity, label, title) in zip(figure.subplots(1, 2), panels, strict=True):
        steps, layers, values = records.grid(quantity)
        at = np.arange(1, len(layers) + 1)
        axes.plot(at, _positive(values[:, 0]), "o-", ms=4, color=BLUE, label="initialization")
        axes.plot(at, _positive(values[:, -1]), "s-", ms=4, color=ORANGE, label=f"step {steps[-1]:,}")
        _log_y(axes, values[:, [0, -1]])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes, "layer, from the input", label, title)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _over_time(figure: Figure, axes: Any, steps: Any, values: Any, label: str) -> None:
    if len(values) <= LINES:
        for i, (row, colour) in enumerate(zip(values, shades(len(values)), strict=True), 1):
            axes.plot(steps, _positive(row), color=colour, lw=1.2, label=f"layer {i}")
        _log_y(axes, values)
        plain(axes, "optimizer step", label, "over time")
        axes.legend(frameon=False, fontsize=8)
    else:
        edges = np.append(steps, steps[-1] + 1)
        image = axes.pcolormesh(edges, np.arange(len(values) + 1) + 0.5, log10(values), cmap="magma")
        figure.colorbar(image, ax=axes, label=f"log10 of the {label}")
        plain(axes, "optimizer step", "layer, from the input", "over time")
        axes.grid(False)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)


def _positive(values: Any) -> Any:
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _log_y(axes: Any, values: Any) -> None:
    if np.isfinite(_positive(values)).any():
        axes.set_yscale("log")
