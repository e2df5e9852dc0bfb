"""Ioffe & Szegedy 2015: do three sigmoid layers learn MNIST faster, and better, with batch normalization?

Published: 784-100-100-100-10, sigmoid, small Gaussian weights, batches of 60, 50,000 steps: with batch normalization
the test accuracy is higher, and reached far sooner (figure 1a); a unit's input distribution stays stable (1b, 1c).
"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

SETUP = (
    "dataset=mnist", "model.depth=3", "model.width=100", "activation=sigmoid", "initializer=lecun_normal",
    "batch_size=60", "optimizer.lr=0.1",
)  # fmt: skip
NORMS = {"with batch normalization": ("normalization=batch", BLUE), "without": ("normalization=none", ORANGE)}


def when(steps: int) -> str:
    """Return the steps to the goal in words, 0 being never."""
    return f"at the evaluation after {steps:,} steps" if steps else "not at all"


def measure(s: Study) -> Data:
    """Train both for eight epochs, a seventh of the published number of steps."""
    length = ("max_steps=50",) if s.quick else ("epochs=8",)
    data: Data = {}
    for name, (norm, _) in NORMS.items():
        runs = s.train(name, *SETUP, norm, *length)
        steps, cost_steps = (runs[0].history(metric)[0] for metric in ("accuracy/val", "cost/train"))
        values = np.array([r.history("accuracy/val")[1] for r in runs])
        reached = np.flatnonzero(np.median(values, axis=0) > 0.9)
        grids = [r.records().grid("delta_l2") for r in runs]
        data[name] = {
            "accuracy_test": np.median([100 * r.metrics["accuracy/test"] for r in runs]),
            "accuracy_val": {"step": steps, "value": percentiles(100 * values)},
            "steps_to_90": int(steps[reached[0]]) if reached.size else 0,
            "cost": {"step": cost_steps, "value": percentiles([r.history("cost/train")[1] for r in runs])},
            "flow": {"step": grids[0][0], "value": percentiles([delta[0] / delta[2] for _, _, delta in grids])},
        }
        key = name.split(" ")[0]
        s.log(**{f"accuracy_{key}": data[name]["accuracy_test"], f"steps_to_90/{key}": data[name]["steps_to_90"]})
    return data


def draw(data: Data) -> Picture:
    """Draw accuracy, cost and gradient flow over the steps."""
    figure = new_figure("mnist, 784-100-100-100-10, sigmoid", "three sigmoid layers, with and without", 11.5, 4.2)
    left, middle, right = figure.subplots(1, 3)
    for name, (_, colour) in NORMS.items():
        for axes, key in ((left, "accuracy_val"), (middle, "cost"), (right, "flow")):
            band(axes, data[name][key]["step"], data[name][key]["value"], name, colour)
    style_axes(left, "optimizer step", "validation accuracy / %", f"{counted(data['seeds'], 'seed')}")
    middle.set_yscale("log")
    style_axes(middle, "optimizer step", "training cost", "training cost")
    right.set_yscale("log")
    style_axes(right, "optimizer step", "‖δ‖, first over last hidden layer", "gradient flow")
    for axes in (left, middle, right):
        legend_below(axes, 1)
    return figure


def word(data: Data) -> str:
    """Say how far and how fast both come."""
    a, b = (data[name]["accuracy_test"] for name in NORMS)
    first, last = (data[name]["steps_to_90"] for name in NORMS)
    return f"""
    Test accuracy after {data["without"]["cost"]["step"][-1]:,} steps: {a:.1f} % with, {b:.1f} % without (published,
    after 50,000: higher with, and reached far sooner). 90 % of the validation images are reached {when(first)} with,
    {when(last)} without. The learning rate here is the same for both; the paper's point that batch normalization bears
    a larger one comes on top.
    """


run = StudyCommand(measure, draw, word, seeds=5, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
