"""Balduzzi et al. 2017: do looks-linear weights train plain ReLU networks that are too deep for He's?

Published: with mirrored, looks-linear weights a network starts as a linear one, whose gradients do not shatter, and
plain ReLU networks of up to 200 layers train without shortcuts, where others stop at 30 or so (section 4, figure 6).
"""

import sys

import numpy as np

from bpx.figures.canvas import Picture, colours, figure_legend, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

DEPTHS = (5, 10, 20, 40, 80)
SETUP = (
    "dataset=digits", "model.width=48", "optimizer=adam", "optimizer.lr=0.001", "epochs=5", "probes=none",
    "tracking.per_layer=[]",
)  # fmt: skip
INITIALIZERS = ("he_normal", "orthogonal", "looks_linear")


def measure(s: Study) -> Data:
    """Train plain nets of several depths from each kind of weights, and keep the test accuracy."""
    depths = DEPTHS if not s.quick else DEPTHS[::2]
    found: Data = {"depths": depths, "accuracy": {}}
    for name in INITIALIZERS:
        accuracy = np.zeros((s.seeds, len(depths)))
        gain = ("initializer.gain=auto",) if name == "orthogonal" else ()
        for i, depth in enumerate(depths):
            made = s.train(f"{name}, {depth} layers", *SETUP, f"initializer={name}", *gain, f"model.depth={depth}")
            accuracy[:, i] = [r.metrics.get("accuracy/test", 0.0) for r in made]
        found["accuracy"][name] = percentiles(accuracy)
        s.log(**{f"accuracy/{name}/{depths[-1]}": float(found["accuracy"][name][1, -1])})
    return found


def draw(data: Data) -> Picture:
    """Draw the test accuracy over the depth, a line with its band for each kind of weights."""
    name = f"digits, plain ReLU networks of width 48, Adam, 5 epochs, {counted(data['seeds'], 'seed')}"
    figure = new_figure(name, "trainable depth by initial weights", 7.5, 4.2)
    axes = figure.subplots()
    for (kind, accuracy), colour in zip(data["accuracy"].items(), colours(len(data["accuracy"])), strict=True):
        band(axes, data["depths"], 100 * np.array(accuracy), kind, colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(data["depths"], [str(depth) for depth in data["depths"]])
    axes.set_ylim(0, 102)
    style_axes(axes, "hidden layers", "test accuracy / %", "median, and 80 % of the seeds")
    figure_legend(figure, (axes,), 3)
    return figure


def word(data: Data) -> str:
    """Say the accuracy at every depth for each kind of weights."""
    each = "; ".join(
        f"{name}: " + ", ".join(f"{d} layers {100 * a:.0f} %" for d, a in zip(data["depths"], accuracy[1], strict=True))
        for name, accuracy in data["accuracy"].items()
    )
    return f"""
    Test accuracy after 5 epochs (median of {counted(data["seeds"], "seed")}): {each}. Published: with looks-linear
    weights plain networks of 200 layers train without shortcuts, with others they stop at 30 or so.
    """


run = StudyCommand(measure, draw, word, seeds=3, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
