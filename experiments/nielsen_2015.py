"""Nielsen, chapter 5: is the gradient of early layers as small as published, and do they learn as slowly?

Published: norms of the batch-mean δ of each hidden layer at initialization, 784-30-…-30-10, sigmoid, N(0, 1/fan_in)
weights, N(0, 1) biases, cross-entropy, 1,000 images. (Nielsen 2015, Neural Networks and Deep Learning, ch. 5.)
"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, RED, legend_below, new_figure, shades, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, study
from experiments.signals import deltas, l2

SETUP = (
    "dataset=mnist", "dataset.train_size=1000", "activation=sigmoid", "loss=sigmoid_cross_entropy",
    "initializer=lecun_normal", "initializer.bias_std=1", "model.width=30", "batch_size=1000",
)  # fmt: skip
PUBLISHED = {2: (0.066, 0.309), 3: (0.012, 0.060, 0.283), 4: (0.003, 0.017, 0.070, 0.285)}
LEARNING = 10  # of the seeds are trained, too
TRAINING = ("optimizer.lr=0.1", "epochs=500", "probes.every=10")


@study(seeds=100, quick=5)
def run(s: Study) -> str:
    """Measure the norms over seeds, then the speed at which the layers learn."""
    norms, alone = {}, []
    for depth in PUBLISHED:
        rows = []
        for net, _, _ in s.draws(*SETUP, f"model.depth={depth}"):
            hidden = deltas(net)[:-1]
            rows.append([np.linalg.norm(d.mean(axis=0)) for d in hidden])
            if depth == 4:
                alone.append([l2(d) for d in hidden])
        norms[depth] = np.array(rows)
    learning = s.train("learning, 4 hidden", *SETUP, "model.depth=4", *TRAINING, *(("epochs=20",) if s.quick else ()),
                       seeds=min(s.seeds, LEARNING))  # fmt: skip
    grids = [r.records().grid("grad_norm_bias") for r in learning]
    steps, speed = grids[0][0], np.array([values for _, _, values in grids])  # (seeds, layers, steps)

    figure = new_figure("mnist, 784-30-…-30-10, sigmoid", "how fast layers learn: ‖mean δ‖", 11.5, 4.3)
    left, middle, right = figure.subplots(1, 3)
    for (depth, values), colour in zip(norms.items(), shades(3), strict=True):
        at = np.arange(1, depth + 1)
        band(left, at, values, f"{depth} hidden layers", colour)
        left.plot(at, PUBLISHED[depth], "x", color=RED, ms=8, mew=2, label="published" if depth == 4 else "_")
    left.set_yscale("log")
    left.set_xticks((1, 2, 3, 4))
    style_axes(left, "hidden layer", "‖mean of δ over 1,000 images‖", f"at initialization, {s.seeds} seeds")
    at = np.arange(1, 5)
    band(middle, at, norms[4] / norms[4][:, -1:], "norm of the mean", BLUE)
    band(middle, at, np.array(alone) / np.array(alone)[:, -1:], "norm by sample", "#3a8f5c")
    middle.set_yscale("log")
    middle.set_xticks(at)
    style_axes(middle, "hidden layer", "relative to the last", "does δ vanish, or cancel?")
    for i, colour in enumerate(shades(4), 1):
        band(right, steps, speed[:, i - 1], f"layer {i}", colour)
    right.set_yscale("log")
    style_axes(right, "step of gradient descent", "‖∂J/∂b‖", f"while learning, 4 hidden layers, {len(speed)} seeds")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    s.draw(figure)

    said, inside, total = [], 0, 0
    for depth, values in norms.items():
        low, middle_value, high = np.percentile(values, (2.5, 50, 97.5), axis=0)
        inside += int(sum((low <= PUBLISHED[depth]) & (PUBLISHED[depth] <= high)))
        total += depth
        said.append(f"{depth} hidden {', '.join(f'{m:.3f}' for m in middle_value)} (published "
                    f"{', '.join(f'{p:.3f}' for p in PUBLISHED[depth])})")  # fmt: skip
        s.log(**{f"norm_{depth}/layer_{i:02d}": m for i, m in enumerate(middle_value, 1)})
    behind = np.median(speed[:, 3] / speed[:, 0], axis=0)  # how much slower the first layer learns, by step
    s.log(published_inside=inside / total)
    mean_falls, sample_falls = (float(np.median(v[:, 3] / v[:, 0])) for v in (norms[4], np.array(alone)))
    if sample_falls > mean_falls / 2:
        indeed = f"""And δ vanishes indeed: from the fourth layer to the first its norm, sample by sample, falls
        {sample_falls:.0f} times, the norm of its mean {mean_falls:.0f} times; the samples do not merely cancel"""
    else:
        indeed = f"""The norm of the mean falls {mean_falls:.0f} times from the fourth layer to the first, the norm
        sample by sample {sample_falls:.0f} times: a part of it is samples that cancel"""
    return f"""
    Medians of {s.seeds} seeds: {"; ".join(said)}. {inside} of the {total} published numbers lie within what 95 % of
    seeds show: they are one draw. Where learning begins, the first layer's bias gradient is
    {behind[0]:.0f} times smaller than the fourth's, after {steps[-1]} steps {behind[-1]:.1f} times
    ({len(speed)} seeds).
    {indeed}.
    """


if __name__ == "__main__":
    sys.exit(run.main())
