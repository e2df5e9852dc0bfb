"""What does batch normalization do to a layer's values, in training and in evaluation?"""

import sys

import numpy as np

from bpx.engine import gradcheck
from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

FEATURES, ROWS, STEPS = 8, 100, 60
SETUP = (
    f"model.hidden=[{FEATURES}]", "activation=tanh", "normalization=batch", "initializer=lecun_normal",
    "dataset=gaussian", f"dataset.n_in={FEATURES}", "dataset.n_out=1", "loss=mean_squared_error",
    f"batch_size={ROWS}", "dtype=float64",
)  # fmt: skip


def measure(s: Study) -> Data:
    """Send features of unlike scale through a batch-normalized layer, step by step, then evaluate."""
    before, after, errors, checks = [], [], [], []
    plan = s.plan(*SETUP)
    for seed in range(s.seeds):
        rng = np.random.default_rng(seed)
        mean, std = rng.uniform(-3, 3, FEATURES), 10 ** rng.uniform(-1, 1, FEATURES)  # of the layer's input z
        net = plan.network(FEATURES, 1)
        net.initialize(plan.initializer, rng)
        net.bind(ROWS)
        norm = net.blocks[1]
        distance = []
        for _ in range(STEPS):
            z = mean + std * rng.standard_normal((ROWS, FEATURES))
            trained = norm.forward(z, train=True).copy()
            distance.append(np.abs(norm.forward(z, train=False) - trained).mean())
        before.append(z)
        after.append(trained)
        errors.append(distance)
        x, target = rng.standard_normal((ROWS, FEATURES)), rng.standard_normal((ROWS, 1))
        checks.append(gradcheck(net, x, target, entries=10, directions=1).relative)
    z, y, off = np.array(before), np.array(after), np.array(errors)
    spread = z.std(axis=1)
    s.log(mean_after=np.abs(y.mean(axis=1)).max(), std_after=y.std(axis=1).mean(), gradient_check=max(checks))
    s.log(evaluation_differs_at_first=np.median(off[:, 0]), evaluation_differs_at_last=np.median(off[:, -1]))
    return {
        "before": z[0],
        "after": y[0],
        "difference": percentiles(off),
        "first_difference": off[:, 0].mean(),
        "mean_after": np.abs(y.mean(axis=1)).max(),
        "std_after": y.std(axis=1).mean(),
        "std_before": [spread.min(), spread.max()],
        "gradient_check": max(checks),
    }


def draw(data: Data) -> Picture:
    """Draw one layer's values before and after, and how far evaluation is from training."""
    name = f"{data['seeds']} layers of {FEATURES} units, batches of {ROWS}"
    figure = new_figure(name, "batch normalization", 11.5, 4.2)
    left, middle, right = figure.subplots(1, 3)
    before, after = data["before"], data["after"]
    bins = np.linspace(-8, 8, 81)
    left.hist(before.ravel(), bins, color=ORANGE, alpha=0.6, density=True, label="before")
    left.hist(after.ravel(), bins, color=BLUE, alpha=0.6, density=True, label="after")
    style_axes(left, "value", "density", "one layer's values, all units")
    at = np.arange(1, FEATURES + 1)
    middle.bar(at - 0.2, before.std(axis=0), 0.4, color=ORANGE, label="before")
    middle.bar(at + 0.2, after.std(axis=0), 0.4, color=BLUE, label="after")
    middle.set_yscale("log")
    style_axes(middle, "unit", "standard deviation", "one layer's units")
    steps = np.arange(1, STEPS + 1)
    band(right, steps, data["difference"], "measured", GREEN)
    right.plot(steps, data["first_difference"] * 0.9 ** (steps - 1), "--", color=GREY, label="0.9 to the steps")
    right.set_yscale("log")
    style_axes(right, "training step", "mean |difference|", "evaluation against training")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say what comes out in training and in evaluation, and whether the gradient is right."""
    low, high = data["std_before"]
    first, last = data["difference"][1, 0], data["difference"][1, -1]
    return f"""
    In training every unit comes out with mean {data["mean_after"]:.0e} and standard deviation
    {data["std_after"]:.4f}, whatever went in (standard deviations from {low:.2f} to {high:.0f}); scale and shift then
    start at 1 and 0. Evaluation uses the running averages, which are wrong at first (values differ by {first:.1f}) and
    forget their start as 0.9 to the number of steps, units of small variance last, until the noise of a batch of
    {ROWS} is left ({last:.2f}). The backward pass through the batch statistics agrees with central differences to
    {data["gradient_check"]:.0e} in the worst of {counted(data["seeds"], "network")}.
    """


run = StudyCommand(measure, draw, word, seeds=100, quick=10)


if __name__ == "__main__":
    sys.exit(run.main())
