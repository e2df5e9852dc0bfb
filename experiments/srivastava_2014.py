"""Srivastava et al. 2014: does dropout narrow the gap between training and test, and for how many images does it help?

Published: on MNIST dropout lowers the error of a standard network from 1.60 to 1.25–1.35 % (table 2); by the size of
the training set (section 7.4, figure 10: 100 to 50,000 images, 784-1024-1024-2048-10, p = 0.5), no gain at 100 or
500, a growing gain beyond, then a declining one.
"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

SIZES = (100, 500, 1000, 5000)
SETUP = (
    "dataset=mnist", "dataset.val_size=1000", "model.hidden=[512,512]", "batch_size=50", "optimizer=nesterov",
    "optimizer.lr=0.01",
    "epochs=1000", "probes=none",
)  # fmt: skip
KINDS = {"none": ((), ORANGE), "dropout 0.5": (("dropout=inverted", "dropout.rate=0.5"), BLUE)}


def measure(s: Study) -> Data:
    """Train with and without dropout on training sets of growing size, the same number of steps each."""
    sizes = SIZES if not s.quick else SIZES[:2]
    at = 1000 if 1000 in sizes else sizes[-1]
    data: Data = {"sizes": sizes, "at": at}
    for kind, (more, _) in KINDS.items():
        test, gap = [], []
        found = data[kind] = {}
        for n in sizes:
            words = (*SETUP, f"dataset.train_size={n}", *more, f"max_steps={50 if s.quick else 1200}")
            runs = s.train(f"{kind} {n}", *words)
            test.append([100 * (1 - r.metrics["accuracy/test"]) for r in runs])
            gap.append([100 * (r.metrics["accuracy/train"] - r.metrics["accuracy/test"]) for r in runs])
            s.log(**{f"error_{kind.split()[0]}/{n}": np.median(test[-1])})
            if n == at:
                costs = np.array([r.history("cost/val")[1] for r in runs])
                found["step"], found["cost"] = runs[0].history("cost/val")[0], percentiles(costs)
                found["rise"] = np.median(costs[:, -1] / costs.min(axis=1))
        found["error"], found["gap"] = percentiles(np.transpose(test)), percentiles(np.transpose(gap))
    return data


def draw(data: Data) -> Picture:
    """Draw error and gap by the number of images, and the validation cost."""
    figure = new_figure("mnist, 784-512-512-10 ReLU", "dropout and over-fitting", 11.5, 4.2)
    left, middle, right = figure.subplots(1, 3)
    for kind, (_, colour) in KINDS.items():
        band(left, data["sizes"], data[kind]["error"], kind, colour)
        band(middle, data["sizes"], data[kind]["gap"], kind, colour)
        band(right, data[kind]["step"], data[kind]["cost"], kind, colour)
    for axes in (left, middle):
        axes.set_xscale("log")
        axes.set_yscale("log")
    style_axes(left, "training images", "test error / %", f"{counted(data['seeds'], 'seed')}")
    style_axes(middle, "training images", "test error − training error / %", "the gap")
    style_axes(right, "optimizer step", "validation cost", f"over-fitting on {data['at']:,} images")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say the errors, where the gain is largest, and how far the cost rises again."""
    none, dropout = (data[kind]["error"][1] for kind in KINDS)
    said = "; ".join(f"{n:,} images {a:.1f} and {b:.1f}"
                     for n, a, b in zip(data["sizes"], none, dropout, strict=True))  # fmt: skip
    best = int((none - dropout).argmax())
    return f"""
    Test error in % without and with dropout: {said}. The gain is largest at {data["sizes"][best]:,} images
    ({none[best] - dropout[best]:.1f} points; published: none at 100 and 500, then growing, then declining). On
    {data["at"]:,} images the validation cost ends at {data["none"]["rise"]:.2f} times its minimum without dropout and
    at {data["dropout 0.5"]["rise"]:.2f} times with it. A smaller network and set than the paper's 1.60 against 1.25 %.
    """


run = StudyCommand(measure, draw, word, seeds=5, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
