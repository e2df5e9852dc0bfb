"""Xiao et al. 2018: do delta-orthogonal kernels train convolutions that are too deep for Gaussian ones?

Published: plain convolutional networks of tanh units train at depths of thousands of layers at criticality, and with
delta-orthogonal kernels, which preserve the length of every gradient, as fast as shallow ones, where Gaussian kernels
slow down with depth (sections 3.3 and 4, figures 1 and 5: up to 10,000 layers; here up to 200).
"""

import sys

import numpy as np

from bpx.figures.canvas import Picture, colours, figure_legend, new_figure, style_axes
from bpx.runs.study import Study, StudyCommand
from bpx.runs.study_data import Data, percentiles

DEPTHS = (10, 50, 200)
SETUP = (
    "dataset=digits", "model=plain_conv", "model.width=16", "activation=tanh", "optimizer=adam", "optimizer.lr=0.001",
    "epochs=4", "probes=none", "tracking.per_layer=[]",
)  # fmt: skip
KINDS = {
    "delta-orthogonal": ("initializer=delta_orthogonal",),
    "Gaussian": ("initializer=lecun_normal", "initializer.sigma_w=1"),
    "Gaussian x 0.9": ("initializer=lecun_normal", "initializer.sigma_w=0.9"),
}


def measure(s: Study) -> Data:
    """Follow delta through drawn networks, and train each kind of kernels at several depths."""
    depths = DEPTHS if not s.quick else DEPTHS[:2]
    found: Data = {"depths": depths, "factor": {}, "accuracy": {}}
    for kind, words in KINDS.items():
        accuracy = np.zeros((s.seeds, len(depths)))
        ratios = []
        for net, _, _ in s.draws(*SETUP, *words, f"model.depth={depths[1]}", "batch_size=8", random_delta=True):
            first, last = (np.linalg.norm(net.dense[i].dx) for i in (1, -2))
            ratios.append((first / last) ** (1 / (depths[1] - 2)))
        found["factor"][kind] = float(np.median(ratios))
        for i, depth in enumerate(depths):
            made = s.train(f"{kind}, {depth} layers", *SETUP, *words, f"model.depth={depth}")
            accuracy[:, i] = [r.metrics.get("accuracy/test", 0.0) for r in made]
        found["accuracy"][kind] = percentiles(accuracy)
        s.log(**{f"factor/{kind}": found["factor"][kind]})
        s.log(**{f"accuracy/{kind}/{d}": float(a) for d, a in zip(depths, found["accuracy"][kind][1], strict=True)})
    return found


def draw(data: Data) -> Picture:
    """Draw the test accuracy over the depth, a line with its band for each kind of kernels."""
    name = f"digits, plain 3 x 3 convolutions of 16 channels, tanh, Adam, 4 epochs, {data['seeds']} seeds"
    figure = new_figure(name, "trainable depth of convolutions by initial kernels", 7.5, 4.2)
    axes = figure.subplots()
    for (kind, band), colour in zip(data["accuracy"].items(), colours(len(data["accuracy"])), strict=True):
        low, median, high = np.array(band)
        label = f"{kind}: δ ×{data['factor'][kind]:.3f} a layer"
        axes.plot(data["depths"], median, "o-", color=colour, ms=4, label=label)
        axes.fill_between(data["depths"], low, high, color=colour, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    style_axes(axes, "hidden layers", "test accuracy", "median, and 80 % of the seeds")
    figure_legend(figure, (axes,), 2)
    return figure


def word(data: Data) -> str:
    """Say the accuracy at every depth and the factor of delta for each kind of kernels."""
    each = "; ".join(
        f"{kind} (δ ×{data['factor'][kind]:.3f} a layer): "
        + ", ".join(f"{d} layers {100 * a:.0f} %" for d, a in zip(data["depths"], band[1], strict=True))
        for kind, band in data["accuracy"].items()
    )
    return f"""
    Test accuracy after 4 epochs (median of {data["seeds"]} seeds): {each}. Published: with delta-orthogonal kernels
    networks of 10,000 layers train, and as fast as shallow ones; Gaussian kernels slow down with depth.
    """


run = StudyCommand(measure, draw, word, seeds=2, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
