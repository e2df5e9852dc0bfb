"""Brock et al. 2021: does clipping by unit, or by running statistics, let networks train at larger rates?

Published: adaptive gradient clipping lets residual networks without normalization train at larger batch sizes and
learning rates (section 4.1, figure 2); ZClip removes spikes of the cost and bears a larger rate (Kumar et al. 2025).
"""

import sys

import numpy as np

from bpx.figures.canvas import Picture, colours, figure_legend, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SETUP = (
    "dataset=digits", "model.depth=10", "model.width=50", "optimizer=momentum", "epochs=15", "probes=none",
    "tracking.per_layer=[]",
)  # fmt: skip
CLIPPING = {
    "none": "optimizer.clip_norm=null",
    "norm 1": "optimizer.clip_norm=1",
    "units 0.01": "optimizer.clip_units=0.01",
    "units 0.1": "optimizer.clip_units=0.1",
    "z-score 2.5": "optimizer.clip_zscore=2.5",
}
TRAINS = 0.9  # test accuracy


def measure(s: Study) -> Data:
    """Train with every kind of clipping at every learning rate, and keep the test accuracy; a diverged run has 0."""
    rates, epochs = (RATES, []) if not s.quick else (RATES[1::2], ["epochs=3"])
    found: Data = {"rates": rates, "accuracy": {}}
    for name, clip in CLIPPING.items():
        accuracy = np.zeros((s.seeds, len(rates)))
        for i, lr in enumerate(rates):
            made = s.train(f"{name}, lr {lr:g}", *SETUP, *epochs, clip, f"optimizer.lr={lr}")
            accuracy[:, i] = [r.metrics.get("accuracy/test", 0.0) for r in made]
        found["accuracy"][name] = percentiles(accuracy)
        s.log(**{f"best/{name}": float(found["accuracy"][name][1].max()), f"largest_lr/{name}": largest(found, name)})
    return found


def largest(data: Data, name: str) -> float:
    """Return the largest learning rate at which half of the seeds train; 0 where there is none."""
    rates, median = np.array(data["rates"]), np.array(data["accuracy"][name])[1]
    return float(rates[median >= TRAINS].max(initial=0.0))


def draw(data: Data) -> Picture:
    """Draw the test accuracy over the learning rate, a line with its band for each kind of clipping."""
    name = f"digits, 10 hidden layers of 50 ReLU units, momentum, {counted(data['seeds'], 'seed')}"
    figure = new_figure(name, "what clipping adds at large learning rates", 8, 4.4)
    axes = figure.subplots()
    for (kind, accuracy), colour in zip(data["accuracy"].items(), colours(len(data["accuracy"])), strict=True):
        band(axes, data["rates"], 100 * np.array(accuracy), kind, colour)
    axes.set_xscale("log")
    axes.set_ylim(0, 102)
    style_axes(axes, "learning rate", "test accuracy / % (0: diverged)", "median, and 80 % of the seeds")
    figure_legend(figure, (axes,), 5)
    return figure


def word(data: Data) -> str:
    """Say up to which learning rate each kind trains, its best accuracy, and which of the new ones help."""
    limit = {name: largest(data, name) for name in data["accuracy"]}
    best = {name: float(np.array(accuracy)[1].max()) for name, accuracy in data["accuracy"].items()}
    each = [f"{name}: lr {limit[name]:g}, {100 * best[name]:.1f} %" for name in limit]
    new = [name for name in limit if name not in ("none", "norm 1")]
    beyond = " and ".join(name for name in new if limit[name] > limit["none"]) or "none of the adaptive kinds"
    beyond_norm = " and ".join(name for name in new if limit[name] > limit["norm 1"]) or "none of them"
    gain = 100 * (max(best[name] for name in new) - best["none"])
    return f"""
    The largest learning rate at which half of {counted(data["seeds"], "seed")} reach {TRAINS:.0%} of the test images,
    and the best median accuracy: {"; ".join(each)}. Beyond what trains without clipping goes {beyond}; beyond the
    plain limit of the norm {beyond_norm}. The best accuracy moves by {gain:+.1f} points against no clipping.
    Published: larger rates and batches for networks without normalization, and fewer spikes.
    """


run = StudyCommand(measure, draw, word, seeds=5, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
