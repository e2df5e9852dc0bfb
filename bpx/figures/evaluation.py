"""Figures of a trained network's decisions, from the arrays of ``evaluation.npz``."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bpx.engine.arrays import Array, Arrays
from bpx.figures.canvas import BLUE, GREEN, GREY, RED, colours, figure_legend, literal, new_figure, style_axes
from bpx.system.text import counted

RIGHT, COUNTED = "#d4e6f1", 20  # the colour of the diagonal; classes whose counts are written
PER_TARGET = 3.6  # inches


def part(arrays: Arrays) -> str:
    """Return the part of the data that the arrays are of: test, or training where there is no test part."""
    return str(arrays.get("part", "test"))


def confusion(arrays: Arrays) -> Figure:
    """Draw the confusion matrix: counts, and errors coloured by their share of the true class."""
    counts = arrays["confusion"]
    total, wrong = int(counts.sum()), int(counts.sum() - np.trace(counts))
    title = f"confusion on {counted(total, f'{part(arrays)} sample')}: {counted(wrong, 'error')}"
    figure = new_figure(f"dataset: {arrays['name']}", title, 6.4, 5.4)
    axes = figure.subplots()
    image = draw_confusion(axes, arrays)
    if wrong:
        figure.colorbar(image, ax=axes, label="errors: share of the true class / %", shrink=0.85)
    return figure


def draw_confusion(axes: Axes, arrays: Arrays) -> AxesImage:
    """Draw the confusion matrix into ``axes`` and return the image of the errors, which have the scale to themselves.

    The diagonal, what is right, is light blue.
    """
    counts, names = arrays["confusion"], [literal(n) for n in arrays["class_names"]]
    k = len(names)
    right = np.eye(k, dtype=bool)
    axes.imshow(np.where(right, 1.0, np.nan), cmap=ListedColormap([RIGHT]))
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    largest = float(share[~right].max(initial=0.0)) or 1.0
    image = axes.imshow(np.where(right | (counts == 0), np.nan, share), cmap="YlOrBr", vmin=0, vmax=largest)
    if k <= COUNTED:
        for i, j in np.ndindex(k, k):
            if counts[i, j]:
                colour = "white" if i != j and share[i, j] > 0.6 * largest else "#222222"
                axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=8, color=colour)
        long = max(map(len, names)) > 3
        axes.set_xticks(range(k), names, rotation=45 if long else 0, ha="right" if long else "center")
        axes.set_yticks(range(k), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    return image


def samples(arrays: Arrays) -> Figure:
    """Draw images with prediction, probability and true label, the worst errors first; right ones are green."""
    names, shape = [literal(n) for n in arrays["class_names"]], tuple(arrays["sample_image_shape"])
    wrong = int(np.sum(arrays["sample_pred"] != arrays["sample_true"]))
    kind = "the worst errors" if wrong == len(arrays["sample_pred"]) else "the worst first"
    figure = new_figure(
        f"dataset: {arrays['name']}",
        f"{part(arrays)} samples, {kind}: prediction (probability) and true label",
        6.4,
        7.0,
    )
    panels = list(figure.subplots(3, 3).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, x, true, predicted, p in zip(
        panels,
        arrays["sample_x"],
        arrays["sample_true"],
        arrays["sample_pred"],
        arrays["sample_prob"],
        strict=False,
    ):
        axes.imshow(_picture(x.reshape(shape)), cmap="gray_r")
        axes.set_title(
            f"{names[predicted]} ({p:.2f})\ntrue: {names[true]}",
            fontsize=9,
            color=GREEN if predicted == true else RED,
        )
    return figure


def _picture(x: Array) -> Array:
    """Return an image (height, width) or, its values from 0 to 1, (height, width, channels)."""
    if x.ndim == 2:
        return x
    return x[:, :, 0] if x.shape[-1] == 1 else (x - x.min()) / (np.ptp(x) or 1)


def decision(arrays: Arrays) -> Figure:
    """Draw the regions in which a network of two inputs decides for each class, under the test points."""
    accuracy = float(arrays["test_accuracy"])
    title = f"decision regions and {part(arrays)} points" + (
        f", test accuracy {100 * accuracy:.1f} %" if np.isfinite(accuracy) else ""
    )
    figure = new_figure(f"dataset: {arrays['name']}", title, 6.4, 5.2)
    draw_regions(figure.subplots(), arrays)
    figure.legend(loc="outside right center", frameon=False, title="class")
    return figure


def draw_regions(axes: Axes, arrays: Arrays) -> None:
    """Draw the decision regions and the test points into ``axes``, one labelled colour a class."""
    names = [literal(n) for n in arrays["class_names"]]
    k = len(names)
    own_colours = colours(k)
    axes.pcolormesh(
        arrays["grid_x"], arrays["grid_y"], arrays["grid_class"],
        cmap=ListedColormap(own_colours), vmin=-0.5, vmax=k - 0.5, alpha=0.3, shading="nearest", rasterized=True,
    )  # fmt: skip
    for c, colour in enumerate(own_colours):
        own = arrays["points"][arrays["points_label"] == c]
        axes.scatter(own[:, 0], own[:, 1], s=14, color=colour, edgecolor="white", lw=0.4, label=names[c])
    style_axes(axes, "feature 1 (raw units)", "feature 2 (raw units)")
    axes.grid(False)


def regression(arrays: Arrays) -> Figure:
    """Draw predicted against true values of every target, in the units of the data, beside the line where they agree.

    R^2 = 1 - sum (a - t)^2 / sum (t - mean t)^2 is the title of each panel.
    """
    true, predicted = arrays["target_true"], arrays["target_pred"]
    names, steps = [literal(n) for n in arrays["target_names"]], int(arrays.get("steps", 1))
    shown = counted(len(true) // steps, f"{part(arrays)} sample") + f" of {steps} steps" * (steps > 1)
    figure = new_figure(
        f"dataset: {arrays['name']}",
        f"{shown}: predicted against true",
        max(5.0, 0.8 + PER_TARGET * true.shape[1]),
        4.6,
    )
    for axes, name, t, a in zip(
        figure.subplots(1, len(names), squeeze=False)[0], names, true.T, predicted.T, strict=True
    ):
        ends = [float(min(t.min(), a.min())), float(max(t.max(), a.max()))]
        axes.plot(ends, ends, color=GREY, lw=1.2, label="equal")
        point = "a step" if steps > 1 else "a sample"
        axes.plot(t, a, ".", color=BLUE, ms=5, alpha=0.6, label=point, rasterized=len(t) > 2000)
        spread = float(np.sum((t - t.mean()) ** 2))
        r2 = f"R² = {1 - float(np.sum((a - t) ** 2)) / spread:.3f}" if spread > 0 else "R² undefined: one value"
        axes.locator_params(nbins=6)
        style_axes(axes, f"true {name}", f"predicted {name}", r2)
    figure_legend(figure, [axes], 2)
    return figure
