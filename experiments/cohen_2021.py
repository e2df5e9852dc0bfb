"""Cohen et al. 2021: does full-batch gradient descent train at the edge of stability, lr·λ near 2?

Published: the sharpness λ rises while full-batch gradient descent trains, until it hovers just above 2 / lr, where it
stays while the cost goes on falling, not monotonically (figure 1; tanh, squared error, 5,000 images of CIFAR-10).
"""

import sys

import numpy as np

from bpx.figures.canvas import Picture, colours, figure_legend, new_figure, style_axes
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data
from bpx.system.text import counted

RATES = (0.1, 0.15, 0.2)
STEPS, EVERY = 1000, 25
SETUP = (
    "dataset=digits", "dataset.train_size=200", "model.depth=5", "model.width=32", "activation=tanh",
    "initializer=lecun_normal", "loss=mean_squared_error", "optimizer=sgd", "batch_size=200", "probes=none",
    f"probes.sharpness={EVERY}", "tracking.per_layer=[]",
)  # fmt: skip
NEAR = 1.9  # of lr·λ that has come to the bound
LATE = 0.5  # the share of the steps, at the end, of which the hovering is told


def measure(s: Study) -> Data:
    """Train with the whole set as one batch at several learning rates, and keep the sharpness and the cost."""
    steps = STEPS if not s.quick else 100
    found: Data = {"steps": np.arange(0, steps, EVERY), "rates": RATES}
    for lr in RATES:
        made = s.train(f"lr {lr:g}", *SETUP, f"optimizer.lr={lr}", f"epochs={steps}")
        rows = [run.records().select(quantity="lr_lambda_max").value for run in made]
        found[f"product/{lr:g}"] = np.array([row[: len(found["steps"])] for row in rows])
        s.log(**{f"late_product/{lr:g}": late(found[f"product/{lr:g}"])})
    return found


def late(product: np.ndarray) -> float:
    """Return the median of lr·λ over the last part of training, over all seeds."""
    return float(np.median(product[:, int(product.shape[1] * (1 - LATE)) :]))


def draw(data: Data) -> Picture:
    """Draw lr·λ over the steps at every learning rate, beside 2."""
    figure = new_figure(
        f"digits, 200 images in one batch, tanh, {counted(data['seeds'], 'seed')}", "the edge of stability", 8, 4.2
    )
    axes = figure.subplots()
    for lr, colour in zip(data["rates"], colours(len(data["rates"])), strict=True):
        product = np.array(data[f"product/{lr:g}"])
        axes.plot(data["steps"], np.median(product, axis=0), color=colour, label=f"lr {lr:g}")
        axes.fill_between(data["steps"], product.min(axis=0), product.max(axis=0), color=colour, alpha=0.2, lw=0)
    axes.axhline(2, color="black", ls="--", lw=1, label="bound of gradient descent, 2")
    axes.set_ylim(bottom=0)
    style_axes(axes, "step", "lr · largest eigenvalue of the Hessian", "median and range of the seeds")
    figure_legend(figure, (axes,), 4)
    return figure


def word(data: Data) -> str:
    """Say where lr·λ began and where it hovers."""
    each, low = [], []
    for lr in data["rates"]:
        product = np.array(data[f"product/{lr:g}"])
        each.append(f"lr {lr:g}: {np.median(product[:, 0]):.2f} to {late(product):.2f}")
        if late(product) < NEAR:
            low.append(f"{lr:g}")
    rest = f" With lr {' and '.join(low)} it is below that, and still rising, when the training ends." if low else ""
    return f"""
    lr·λ at the start and over the last half of the training ({counted(data["seeds"], "seed")}): {"; ".join(each)}.
    Published: it rises to 2 and hovers at or just above it, and training goes on.{rest}
    """


run = StudyCommand(measure, draw, word, seeds=3, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
