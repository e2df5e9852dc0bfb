"""Glorot & Bengio 2010: does normalized initialization keep signals and gradients alike, and does sigmoid saturate?

Published: with U(±1/√n) activations and gradients shrink from layer to layer, with U(±√6/√(n_in + n_out)) they do
not; mean singular values of ∂z'/∂z about 0.5 and 0.8 (section 4.2.2); with sigmoid the top hidden layer saturates at
0 in the first steps (section 3.1). There: 5 layers of 1,000 tanh units; MNIST is one of their sets.
"""

import sys

import numpy as np

from bpx.engine import Network
from bpx.figures.canvas import BLUE, GREY, ORANGE, Picture, legend_below, new_figure, shades, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
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


def singular_value(net: Network) -> float:
    """Return the mean singular value of ∂z^(l+1)/∂z^l = diag(φ'(z^l)) W^(l+1), one sample, hidden layers."""
    found = []
    for k in range(4):
        slope = 1 - np.tanh(net.dense[k].y[0].astype(float)) ** 2
        found.append(np.linalg.svd(slope[:, None] * net.dense[k + 1].W.value, compute_uv=False).mean())
    return float(np.mean(found))


def measure(s: Study) -> Data:
    """Measure five tanh layers of 1,000 at initialization, then watch sigmoid layers in the first steps."""
    data: Data = {"forward": {}, "backward": {}, "singular_value": {}, "shrink": {}}
    for name, more in SCHEMES.items():
        a, d, v = [], [], []
        for i, (net, _, _) in enumerate(s.draws(*SETUP, *more, random_delta=True)):
            a.append([rms(x) for x in activations(net)])
            d.append([l2(x) for x in deltas(net)[:-1]])
            if i < 2:
                v.append(singular_value(net))
        backward = np.array(d) / np.array(d)[:, -1:]
        data["forward"][name] = percentiles(a)
        data["backward"][name] = percentiles(backward)
        data["singular_value"][name] = np.mean(v)
        data["shrink"][name] = 1 / np.median(backward[:, 0])
        s.log(**{f"singular_value/{name}": np.mean(v), f"delta_shrinks_{name}": data["shrink"][name]})
    made = [r.records() for r in s.train("sigmoid", *SIGMOID, *(("max_steps=400",) if s.quick else ()))]
    means = np.array([r.grid("activation_mean")[2] for r in made])  # (seeds, layers, steps)
    s.log(lowest_top_activation=np.median(means, axis=0)[3].min())
    return data | {
        "step": made[0].grid("activation_mean")[0],
        "activation_mean": {f"layer {i}": percentiles(means[:, i - 1]) for i in range(1, 5)},
    }


def draw(data: Data) -> Picture:
    """Draw activations and δ by layer, and the sigmoid layers' activations by step."""
    figure = new_figure("mnist, 5×1000 tanh; 4×200 sigmoid", "standard and normalized initialization", 11.5, 4.3)
    left, middle, right = figure.subplots(1, 3)
    at = np.arange(1, 6)
    for name, colour in (("standard", ORANGE), ("normalized", BLUE)):
        band(left, at, data["forward"][name], name, colour)
        band(middle, at, data["backward"][name], name, colour)
    left.set_ylim(0, None)
    middle.set_yscale("log")
    style_axes(left, "hidden layer", "RMS of the activations", "forward")
    style_axes(middle, "hidden layer", "‖δ‖, relative to the last", "backward")
    for (name, mean), colour in zip(data["activation_mean"].items(), shades(4), strict=True):
        band(right, data["step"], mean, name, colour)
    right.axhline(0, color=GREY, lw=0.8)
    seeds = f"{counted(data['seeds'], 'seed')}"
    style_axes(right, "optimizer step", "mean activation", f"sigmoid, standard initialization, {seeds}")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say singular values and δ beside the published ones, and what the top sigmoid layer does."""
    steps, first, top = data["step"], data["activation_mean"]["layer 1"][1], data["activation_mean"]["layer 4"][1]
    low = np.flatnonzero(top < 0.1)
    if low.size:
        said = f"""is driven towards 0 at once, as published: its mean activation falls from {top[0]:.2f} below 0.1
        by step {steps[low[0]]}, while the first layer's stays at {first[top.argmin()]:.2f}. There it left 0 again after
        about 100 epochs; in these {steps[-1]} steps it {"stays" if top[-1] < 0.1 else "leaves it"} (at
        {top[-1]:.2f}; medians of {counted(data["seeds"], "seed")})"""
    else:
        said = f"""does not saturate in these {steps[-1]} steps (published: at 0, at once): its mean activation goes
        from {top[0]:.2f} to {top.min():.2f} at the lowest"""
    values, shrink = data["singular_value"], data["shrink"]
    return f"""
    Mean singular values of ∂z'/∂z: {values["standard"]:.2f} with standard initialization (published about 0.5),
    {values["normalized"]:.2f} with normalized (about 0.8). From the fifth to the first hidden layer δ shrinks
    {shrink["standard"]:.1f} times with standard, {shrink["normalized"]:.1f} times with normalized initialization. With
    sigmoid the top hidden layer {said}.
    """


run = StudyCommand(measure, draw, word, seeds=10, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
