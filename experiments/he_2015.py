"""He et al. 2015: does deep ReLU training stall with Xavier initialization where He initialization learns?

Published: a 22-layer rectifier network converges with both, He's earlier; a 30-layer one stalls completely with Xavier
and learns with He (section 2.2, figures 2 and 3). There convolutional networks on ImageNet; here dense ones on MNIST.
"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREY, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from experiments.signals import initial_profiles

DEPTHS, SHOWN = (10, 20, 30, 40), 30
SETUP = (
    "dataset=mnist", "dataset.train_size=5000", "dataset.val_size=1000", "model.width=100", "activation=relu",
    "batch_size=50", "optimizer.lr=0.02", "epochs=6",
)  # fmt: skip
LEARNED, STALLED = 50.0, 20.0  # per cent
SCHEMES = {"He": ("initializer=he_normal", BLUE), "Xavier": ("initializer=xavier_normal", ORANGE)}


def measure(s: Study) -> Data:
    """Train both initializations at four depths."""
    short = ("max_steps=20",) if s.quick else ()
    data: Data = {"accuracy": {}, "ratio": {}, "cost": {}}
    for name, (scheme, _) in SCHEMES.items():
        accuracy, ratio = [], []
        for depth in DEPTHS:
            runs = s.train(f"{name} {depth}", *SETUP, scheme, f"model.depth={depth}", *short)
            delta = initial_profiles(s, *SETUP, scheme, f"model.depth={depth}")
            accuracy.append([100 * r.metrics["accuracy/test"] for r in runs])
            ratio.append(delta[:, 0] / delta[:, -1])
            s.log(**{f"accuracy/{name}_{depth}": np.median(accuracy[-1]),
                     f"first_over_last/{name}_{depth}": np.median(ratio[-1])})  # fmt: skip
            if depth == SHOWN:
                data["step"] = runs[0].history("cost/train")[0]
                data["cost"][name] = percentiles([r.history("cost/train")[1] for r in runs])
        data["accuracy"][name] = percentiles(np.transpose(accuracy))
        data["ratio"][name] = percentiles(np.transpose(ratio))
    return data


def draw(data: Data) -> Picture:
    """Draw δ and accuracy by depth, and the training of 30 layers."""
    figure = new_figure("mnist, 5,000 images, width 100, ReLU", "He and Xavier initialization by depth", 11.5, 4.2)
    left, middle, right = figure.subplots(1, 3)
    for name, (_, colour) in SCHEMES.items():
        band(left, DEPTHS, data["ratio"][name], name, colour)
        band(middle, DEPTHS, data["accuracy"][name], name, colour)
        band(right, data["step"], data["cost"][name], name, colour)
    left.plot(DEPTHS, 0.5 ** (np.array(DEPTHS) / 2 - 0.5), "--", color=GREY, label="theory: 1/√2 a layer")
    left.set_yscale("log")
    style_axes(left, "hidden layers", "‖δ‖, first over last hidden layer", "at initialization")
    middle.set_ylim(0, 100)
    style_axes(middle, "hidden layers", "test accuracy / %", "after training")
    style_axes(right, "optimizer step", "training cost", f"{SHOWN} hidden layers")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say the accuracies, and from which depth on Xavier stalls where He learns."""
    he, xavier = (data["accuracy"][name][1] for name in SCHEMES)
    said = "; ".join(f"{d} layers {a:.0f} and {b:.0f} %" for d, a, b in zip(DEPTHS, he, xavier, strict=True))
    stalls = [d for d, a, b in zip(DEPTHS, he, xavier, strict=True) if a > LEARNED and b < STALLED]
    if stalls:
        told = f"""In these dense layers, without convolutions, Xavier stalls from {stalls[0]} layers on where He
        learns: a smaller network and set than the paper's, the same conclusion"""
    else:
        told = "In this time no depth shows it: He learns nowhere where Xavier stalls"
    ratio = {name: data["ratio"][name][1, DEPTHS.index(SHOWN)] for name in SCHEMES}
    return f"""
    Test accuracy with He and with Xavier: {said}. Published: 22 layers converge with both, 30 stall with Xavier. At
    {SHOWN} layers δ shrinks {1 / ratio["Xavier"]:.0f} times under it (theory: {2**14.5:.0f}), and changes by a factor
    of {ratio["He"]:.1f} under He. {told}.
    """


run = StudyCommand(measure, draw, word, seeds=3, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
