"""Glorot & Bengio 2010: does normalized initialization keep signals and gradients alike, and does sigmoid saturate?

Published: with U(±1/√n) activations and gradients shrink from layer to layer, with U(±√6/√(n_in + n_out)) they do
not; mean singular values of ∂z'/∂z about 0.5 and 0.8 (section 4.2.2); with sigmoid the top hidden layer saturates at
0 in the first steps (section 3.1). There: 5 layers of 1,000 tanh units; MNIST is one of their sets.
"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREY, ORANGE, legend_below, new_figure, shades, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, study
from experiments.signals import activations, deltas, l2, rms

SETUP = (
    "dataset=mnist", "dataset.train_size=10000", "activation=tanh", "model.depth=5", "model.width=1000",
    "batch_size=100", "dataset.scaling=unit",
)  # fmt: skip
SCHEMES = {
    "standard": ("initializer=lecun_uniform", "initializer.sigma_w=0.5773502692"),  # U(±1/√n): σw = 1/√3
    "normalized": ("initializer=xavier_uniform",),
}
PUBLISHED = {"standard": 0.5, "normalized": 0.8}
SIGMOID = (
    "dataset=mnist", "dataset.train_size=10000", "activation=sigmoid", "model.depth=4", "model.width=200",
    "initializer=lecun_uniform", "initializer.sigma_w=0.5773502692", "batch_size=10", "optimizer.lr=0.1",
    "epochs=4", "probes.every=20",
)  # fmt: skip


def singular_value(net) -> float:
    """Return the mean singular value of ∂z^(l+1)/∂z^l = diag(φ'(z^l)) W^(l+1), one sample, hidden layers."""
    found = []
    for k in range(4):
        slope = 1 - np.tanh(net.dense[k].y[0].astype(float)) ** 2
        found.append(np.linalg.svd(slope[:, None] * net.dense[k + 1].W.value, compute_uv=False).mean())
    return float(np.mean(found))


@study(seeds=10, quick=2)
def run(s: Study) -> str:
    """Measure five tanh layers of 1,000 at initialization, then watch sigmoid layers in the first steps."""
    forward, backward, values = {}, {}, {}
    for name, more in SCHEMES.items():
        a, d, v = [], [], []
        for i, (net, _, _) in enumerate(s.draws(*SETUP, *more)):
            a.append([rms(x) for x in activations(net)])
            d.append([l2(x) for x in deltas(net)[:-1]])
            if i < 2:
                v.append(singular_value(net))
        forward[name], backward[name], values[name] = np.array(a), np.array(d), float(np.mean(v))
        s.log(**{f"singular_value/{name}": values[name]})
    made = [r.records() for r in s.train("sigmoid", *SIGMOID, *(("max_steps=400",) if s.quick else ()))]
    steps = made[0].grid("activation_mean")[0]
    means = np.array([r.grid("activation_mean")[2] for r in made])  # (seeds, layers, steps)
    mean = np.median(means, axis=0)
    lowest = int(mean[3].argmin())

    figure = new_figure("mnist, 5×1000 tanh; 4×200 sigmoid", "standard and normalized initialization", 11.5, 4.3)
    left, middle, right = figure.subplots(1, 3)
    at = np.arange(1, 6)
    for name, colour in (("standard", ORANGE), ("normalized", BLUE)):
        band(left, at, forward[name], name, colour)
        band(middle, at, backward[name] / backward[name][:, -1:], name, colour)
    left.set_ylim(0, None)
    middle.set_yscale("log")
    style_axes(left, "hidden layer", "RMS of the activations", "forward")
    style_axes(middle, "hidden layer", "‖δ‖, relative to the last", "backward")
    for i, colour in enumerate(shades(4), 1):
        band(right, steps, means[:, i - 1], f"layer {i}", colour)
    right.axhline(0, color=GREY, lw=0.8)
    style_axes(right, "optimizer step", "mean activation", f"sigmoid, standard initialization, {s.seeds} seeds")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    s.draw(figure)
    shrink = {n: 1 / np.median(backward[n][:, 0] / backward[n][:, -1]) for n in SCHEMES}
    s.log(delta_shrinks_standard=shrink["standard"], delta_shrinks_normalized=shrink["normalized"],
          lowest_top_activation=mean[3].min())  # fmt: skip
    low = np.flatnonzero(mean[3] < 0.1)
    if low.size:
        top = f"""is driven towards 0 at once, as published: its mean activation falls from {mean[3, 0]:.2f} below 0.1
        by step {steps[low[0]]}, while the first layer's stays at {mean[0, lowest]:.2f}. There it left 0 again after
        about 100 epochs; in these {steps[-1]} steps it {"stays" if mean[3, -1] < 0.1 else "leaves it"} (at
        {mean[3, -1]:.2f}; medians of {s.seeds} seeds)"""
    else:
        top = f"""does not saturate in these {steps[-1]} steps (published: at 0, at once): its mean activation goes from
        {mean[3, 0]:.2f} to {mean[3].min():.2f} at the lowest"""
    return f"""
    Mean singular values of ∂z'/∂z: {values["standard"]:.2f} with standard initialization (published about 0.5),
    {values["normalized"]:.2f} with normalized (about 0.8). From the fifth to the first hidden layer δ shrinks
    {shrink["standard"]:.1f} times with standard, {shrink["normalized"]:.1f} times with normalized initialization. With
    sigmoid the top hidden layer {top}.
    """


if __name__ == "__main__":
    sys.exit(run.main())
