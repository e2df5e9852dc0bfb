"""Nielsen, chapter 5: is the gradient of early layers as small as published, and do they learn as slowly?

Published: norms of the batch-mean δ of each hidden layer at initialization, 784-30-…-30-10, sigmoid, N(0, 1/fan_in)
weights, N(0, 1) biases, cross-entropy, 1,000 images. (Nielsen 2015, Neural Networks and Deep Learning, ch. 5.)
"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREEN, RED, Picture, legend_below, new_figure, shades, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
from experiments.signals import deltas, l2

SETUP = (
    "dataset=mnist", "dataset.train_size=1000", "activation=sigmoid", "loss=sigmoid_cross_entropy",
    "initializer=lecun_normal", "initializer.bias_std=1", "model.width=30", "batch_size=1000",
)  # fmt: skip
PUBLISHED = {2: (0.066, 0.309), 3: (0.012, 0.060, 0.283), 4: (0.003, 0.017, 0.070, 0.285)}
LEARNING = 10  # of the seeds are trained, too
TRAINING = ("optimizer.lr=0.1", "epochs=500", "probes.every=10")


def measure(s: Study) -> Data:
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
        s.log(**{f"norm_{depth}/layer_{i:02d}": m for i, m in enumerate(np.median(rows, axis=0), 1)})
    learning = s.train("learning, 4 hidden", *SETUP, "model.depth=4", *TRAINING, *(("epochs=20",) if s.quick else ()),
                       seeds=min(s.seeds, LEARNING))  # fmt: skip
    grids = [r.records().grid("grad_norm_bias") for r in learning]
    speed = np.array([values for _, _, values in grids])  # (seeds, layers, steps)
    by_sample = np.array(alone)
    inside = {str(depth): np.percentile(values, (2.5, 97.5), axis=0) for depth, values in norms.items()}
    s.log(published_inside=np.mean(np.concatenate(within(inside))))
    return {
        "norms": {str(depth): percentiles(values) for depth, values in norms.items()},
        "range": inside,
        "of_mean": percentiles(norms[4] / norms[4][:, -1:]),
        "by_sample": percentiles(by_sample / by_sample[:, -1:]),
        "mean_falls": np.median(norms[4][:, 3] / norms[4][:, 0]),
        "sample_falls": np.median(by_sample[:, 3] / by_sample[:, 0]),
        "trained": len(speed),
        "step": grids[0][0],
        "speed": {f"layer {i}": percentiles(speed[:, i - 1]) for i in range(1, 5)},
        "slower": np.median(speed[:, 3] / speed[:, 0], axis=0)[[0, -1]],
    }


def within(ranges: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return for each depth which published numbers lie between the rows of its (2, layers) range."""
    return [(low <= PUBLISHED[int(depth)]) & (PUBLISHED[int(depth)] <= high) for depth, (low, high) in ranges.items()]


def draw(data: Data) -> Picture:
    """Draw the norms beside the published ones, the two norms of δ, and the norms while learning."""
    figure = new_figure("mnist, 784-30-…-30-10, sigmoid", "how fast layers learn: ‖mean δ‖", 11.5, 4.3)
    left, middle, right = figure.subplots(1, 3)
    for (depth, published), colour in zip(PUBLISHED.items(), shades(3), strict=True):
        at = np.arange(1, depth + 1)
        band(left, at, data["norms"][str(depth)], f"{depth} hidden layers", colour)
        left.plot(at, published, "x", color=RED, ms=8, mew=2, label="published" if depth == 4 else "_")
    left.set_yscale("log")
    left.set_xticks((1, 2, 3, 4))
    style_axes(
        left, "hidden layer", "‖mean of δ over 1,000 images‖", f"at initialization, {counted(data['seeds'], 'seed')}"
    )
    at = np.arange(1, 5)
    band(middle, at, data["of_mean"], "norm of the mean", BLUE)
    band(middle, at, data["by_sample"], "norm by sample", GREEN)
    middle.set_yscale("log")
    middle.set_xticks(at)
    style_axes(middle, "hidden layer", "relative to the last", "does δ vanish, or cancel?")
    for (name, speed), colour in zip(data["speed"].items(), shades(4), strict=True):
        band(right, data["step"], speed, name, colour)
    right.set_yscale("log")
    title = f"while learning, 4 hidden layers, {counted(data['trained'], 'seed')}"
    style_axes(right, "step of gradient descent", "‖∂J/∂b‖", title)
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say the norms beside the published ones, how much slower early layers learn, and whether samples cancel."""
    said = [f"{depth} hidden {', '.join(f'{m:.3f}' for m in data['norms'][str(depth)][1])} (published "
            f"{', '.join(f'{p:.3f}' for p in published)})" for depth, published in PUBLISHED.items()]  # fmt: skip
    inside = np.concatenate(within(data["range"]))
    mean_falls, sample_falls = data["mean_falls"], data["sample_falls"]
    if sample_falls > mean_falls / 2:
        indeed = f"""And δ vanishes indeed: from the fourth layer to the first its norm, sample by sample, falls
        {sample_falls:.0f} times, the norm of its mean {mean_falls:.0f} times; the samples do not merely cancel"""
    else:
        indeed = f"""The norm of the mean falls {mean_falls:.0f} times from the fourth layer to the first, the norm
        sample by sample {sample_falls:.0f} times: a part of it is samples that cancel"""
    at_first, at_last = data["slower"]
    return f"""
    Medians of {counted(data["seeds"], "seed")}: {"; ".join(said)}. {inside.sum()} of the {inside.size} published
    numbers lie within what 95 % of seeds show: they are one draw. Where learning begins, the first layer's bias
    gradient is {at_first:.0f} times smaller than the fourth's, after {data["step"][-1]} steps {at_last:.1f} times
    ({counted(data["trained"], "seed")}). {indeed}.
    """


run = StudyCommand(measure, draw, word, seeds=100, quick=5)


if __name__ == "__main__":
    sys.exit(run.main())
