"""What does batch normalization do to a layer's values, in training and in evaluation?"""

import sys

import numpy as np

from bpx.engine import gradcheck
from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, study

FEATURES, ROWS, STEPS = 8, 100, 60
SETUP = (
    f"model.hidden=[{FEATURES}]", "activation=tanh", "normalization=batch", "initializer=lecun_normal",
    "dataset=gaussian", f"dataset.n_in={FEATURES}", "dataset.n_out=1", "loss=mean_squared_error",
    f"batch_size={ROWS}", "dtype=float64",
)  # fmt: skip


@study(seeds=100, quick=10)
def run(s: Study) -> str:
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
    z, y, errors = np.array(before), np.array(after), np.array(errors)
    s.log(mean_after=np.abs(y.mean(axis=1)).max(), std_after=y.std(axis=1).mean(), gradient_check=max(checks))
    s.log(evaluation_differs_at_first=np.median(errors[:, 0]), evaluation_differs_at_last=np.median(errors[:, -1]))

    figure = new_figure(f"{s.seeds} layers of {FEATURES} units, batches of {ROWS}", "batch normalization", 11.5, 4.2)
    left, middle, right = figure.subplots(1, 3)
    bins = np.linspace(-8, 8, 81)
    left.hist(z[0].ravel(), bins, color=ORANGE, alpha=0.6, density=True, label="before")
    left.hist(y[0].ravel(), bins, color=BLUE, alpha=0.6, density=True, label="after")
    style_axes(left, "value", "density", "one layer's values, all units")
    at = np.arange(1, FEATURES + 1)
    middle.bar(at - 0.2, z[0].std(axis=0), 0.4, color=ORANGE, label="before")
    middle.bar(at + 0.2, y[0].std(axis=0), 0.4, color=BLUE, label="after")
    middle.set_yscale("log")
    style_axes(middle, "unit", "standard deviation", "one layer's units")
    steps = np.arange(1, STEPS + 1)
    band(right, steps, errors, "measured", GREEN)
    right.plot(steps, errors[:, 0].mean() * 0.9 ** (steps - 1), "--", color=GREY, label="0.9 to the steps")
    right.set_yscale("log")
    style_axes(right, "training step", "mean |difference|", "evaluation against training")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    s.draw(figure)
    return f"""
    In training every unit comes out with mean {np.abs(y.mean(axis=1)).max():.0e} and standard deviation
    {y.std(axis=1).mean():.4f}, whatever went in (standard deviations from {z.std(axis=1).min():.2f} to
    {z.std(axis=1).max():.0f}); scale and shift then start at 1 and 0. Evaluation uses the running averages, which are
    wrong at first (values differ by {np.median(errors[:, 0]):.1f}) and forget their start as 0.9 to the number of
    steps, units of small variance last, until the noise of a batch of {ROWS} is left
    ({np.median(errors[:, -1]):.2f}). The backward pass through the
    batch statistics agrees with central differences to {max(checks):.0e} in the worst of {s.seeds} networks.
    """


if __name__ == "__main__":
    sys.exit(run.main())
