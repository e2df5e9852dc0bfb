"""Figures of a trained network's decisions, from the arrays of ``evaluation.npz``."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from bpx.figures.canvas import BLUE, GREEN, ORANGE, RED, literal, new_figure, shades, style_axes

Arrays = dict[str, Any]


def part(arrays: Arrays) -> str:
    """Return the part of the data that the arrays are of: test, or training where there is no test part."""
    return str(arrays.get("part", "test"))


def confusion(arrays: Arrays) -> Figure:
    """Draw the confusion matrix: counts, coloured by the share of the true class."""
    figure = new_figure(
        f"dataset: {arrays['name']}", f"confusion on {arrays['confusion'].sum():,} {part(arrays)} samples", 6.4, 5.4
    )
    axes = figure.subplots()
    figure.colorbar(draw_confusion(axes, arrays), ax=axes, label="share of the true class", shrink=0.85)
    return figure


def draw_confusion(axes: Any, arrays: Arrays) -> Any:
    """Draw the confusion matrix into ``axes`` and return the image."""
    counts, names = arrays["confusion"], [literal(n) for n in arrays["class_names"]]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    k = len(names)
    if k <= 20:
        for i, j in np.ndindex(k, k):
            if counts[i, j]:
                colour = "white" if share[i, j] > 0.5 else "#333333"
                axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=colour)
        long = max(map(len, names)) > 3
        axes.set_xticks(range(k), names, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set_yticks(range(k), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return image


def samples(arrays: Arrays) -> Figure:
    """Draw test images with prediction, probability and true label; red where the prediction is wrong."""
    names, shape = [literal(n) for n in arrays["class_names"]], tuple(arrays["sample_image_shape"])
    figure = new_figure(
        f"dataset: {arrays['name']}", f"{part(arrays)} samples: prediction (probability) and true label", 6.4, 7.0
    )
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
            f"{names[predicted]} ({p:.2f})\ntrue: {names[true]}",
            fontsize=9,
            color=GREEN if predicted == true else RED,
        )
        axes.set_axis_off()
    return figure


def decision(arrays: Arrays) -> Figure:
    """Draw the regions in which a network of two inputs decides for each class, under the test points."""
    accuracy = float(arrays["test_accuracy"])
    title = f"decision regions and {part(arrays)} points" + (
        f", test accuracy {100 * accuracy:.1f} %" if np.isfinite(accuracy) else ""
    )
    figure = new_figure(f"dataset: {arrays['name']}", title, 6.4, 5.2)
    draw_regions(figure.subplots(), arrays)
    figure.legend(loc="outside right upper", frameon=False, title="class")
    return figure


def draw_regions(axes: Any, arrays: Arrays) -> None:
    """Draw the decision regions and the test points into ``axes``, one labelled colour a class."""
    names = [literal(n) for n in arrays["class_names"]]
    k = len(names)
    colours = [BLUE, ORANGE, GREEN, RED, *shades(max(k - 4, 0))][:k]
    axes.pcolormesh(
        arrays["grid_x"], arrays["grid_y"], arrays["grid_class"],
        cmap=ListedColormap(colours), vmin=-0.5, vmax=k - 0.5, alpha=0.3, shading="nearest", rasterized=True,
    )  # fmt: skip
    for c, colour in enumerate(colours):
        own = arrays["points"][arrays["points_label"] == c]
        axes.scatter(own[:, 0], own[:, 1], s=14, color=colour, edgecolor="white", lw=0.4, label=names[c])
    style_axes(axes, "feature 1 (raw units)", "feature 2 (raw units)")
    axes.grid(False)
