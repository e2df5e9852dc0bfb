"""Schoenholz et al. 2017: does a tanh network train on MNIST down to a depth of about 6 ξc, and no further?

Published: the depth to which random networks can be trained follows 6 ξc, ξc being the layers over which two inputs
forget their correlation; it diverges at the edge of chaos (σb² = 0.05, width 300, and many more steps than here).
"""

import sys
from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from bpx.engine import ACTIVATIONS
from bpx.figures.canvas import RED, new_figure, style_axes
from bpx.runs.study import Study, study
from bpx.theory import critical_sigma_w, mean_field

SIGMA_B = 0.05**0.5
SIGMAS = (1.0, 1.15, 1.25, 1.327, 1.4, 1.6, 1.9, 2.3, 2.8)
DEPTHS = (6, 12, 20, 30, 45, 60, 80)
SETUP = (
    "dataset=mnist", "dataset.train_size=3000", "dataset.val_size=500", "activation=tanh", "initializer=lecun_normal",
    f"initializer.bias_std={SIGMA_B}", "model.width=100", "batch_size=50", "optimizer.lr=0.005", "epochs=100",
    "probes=none", "tracking.per_layer=[]",
)  # fmt: skip
STEPS, TRAINED = 300, 0.5


def trainable(x: np.ndarray, depths: np.ndarray) -> float:
    """Return the depth at which the accuracy falls through one half, interpolated; 0 where no depth trains."""
    below = np.flatnonzero(x < TRAINED)
    if not below.size:
        return float(depths[-1])
    i = int(below[0])
    if i == 0:
        return 0.0
    return float(depths[i - 1] + (x[i - 1] - TRAINED) / (x[i - 1] - x[i]) * (depths[i] - depths[i - 1]))


@study(seeds=3, quick=1)
def run(s: Study) -> str:
    """Train a grid of σw and depth for a fixed number of steps."""
    sigmas, depths = (SIGMAS, DEPTHS) if not s.quick else (SIGMAS[::4], DEPTHS[:2])
    steps = STEPS if not s.quick else 10
    accuracy = np.empty((s.seeds, len(depths), len(sigmas)))
    for i, depth in enumerate(depths):
        for j, sigma in enumerate(sigmas):
            words = (*SETUP, f"model.depth={depth}", f"initializer.sigma_w={sigma}", f"max_steps={steps}")
            made = s.train(f"depth {depth} sigma {sigma:g}", *words)
            accuracy[:, i, j] = [r.metrics.get("accuracy/train", 0.1) for r in made]
    tanh = ACTIVATIONS["tanh"]()
    edge = critical_sigma_w(tanh, SIGMA_B)
    fine = np.linspace(sigmas[0], sigmas[-1], 241)
    xi = np.array([mean_field(tanh, float(w), SIGMA_B).xi_c or np.inf for w in fine])
    each = np.array([[trainable(column, np.array(depths)) for column in one.T] for one in accuracy])  # (seeds, sigmas)
    reached = np.median(each, axis=0)
    predicted = np.array([6 * (mean_field(tanh, w, SIGMA_B).xi_c or np.inf) for w in sigmas])
    for w, d, p in zip(sigmas, reached, predicted, strict=True):
        s.log(**{f"depth/{w:g}": d, f"depth_6_xi_c/{w:g}": min(p, 1e6)})

    figure = new_figure(
        f"mnist, 3,000 images, tanh, width 100, {steps} steps, {s.seeds} seeds", "trainable depth and 6 ξc", 8.4, 4.8
    )
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        sigmas, depths, 100 * np.median(accuracy, axis=0), cmap="viridis", vmin=10, vmax=100, shading="nearest"
    )
    figure.colorbar(mesh, ax=axes, label="training accuracy / %")
    axes.plot(fine, 6 * xi, color="black", lw=4)  # an edge, to be seen on yellow too
    axes.plot(fine, 6 * xi, "--", color="white", lw=2, label="6 ξc (theory)")
    axes.fill_between(sigmas, each.min(axis=0), each.max(axis=0), color=RED, alpha=0.35, lw=0)
    axes.plot(sigmas, np.where(reached > 0, reached, np.nan), "o-", color=RED, mec="white", ms=5, lw=1.6,
              label="accuracy falls through 50 %: median, all seeds")  # fmt: skip
    axes.axvline(edge, color="white", lw=0.8, ls=":")
    axes.set_ylim(depths[0] - 3, depths[-1] + 10)
    style_axes(axes, "σw", "hidden layers", f"dotted: the edge of chaos, σw = {edge:.3f} at σb² = 0.05")
    axes.grid(False)
    axes.legend(loc="upper right", fontsize=8, facecolor="#555555", labelcolor="white")
    s.draw(figure)
    s.log(edge_of_chaos=edge)
    return f"""
    Depth at which the training accuracy after {steps} steps falls through one half (median of {s.seeds} seeds), by σw,
    with 6 ξc in brackets:
    {table(sigmas, reached, predicted, depths[-1])}. {compared(s, np.array(sigmas), reached, predicted, edge)}
    These are {steps} steps of a net a third as wide, not the paper's 10⁴ and more.
    """


def table(sigmas: Sequence[float], reached: np.ndarray, predicted: np.ndarray, most: int) -> str:
    """Return measured and predicted depth for every σw."""
    depth = ["none" if d == 0 else f"≥ {most}" if d == most else f"{d:.0f}" for d in reached]
    theory = ["∞" if p > 1e4 else f"{p:.0f}" for p in predicted]
    return ", ".join(f"{w:g}: {d} ({p})" for w, d, p in zip(sigmas, depth, theory, strict=True))


def compared(s: Study, sigmas: np.ndarray, reached: np.ndarray, predicted: np.ndarray, edge: float) -> str:
    """Return what the measured depths say of the theory, no more than they can."""
    if not reached.any():
        return "Not trained at any depth tried: nothing can be said of the theory."
    said = f"The deepest is at σw = {', '.join(f'{w:g}' for w in sigmas[reached == reached.max()])}, the edge of chaos "
    said += f"at {edge:.3f}; "
    if len(set(reached)) > 1:
        rank = float(spearmanr(reached, np.minimum(predicted, 1e6)).statistic)
        s.log(rank_correlation=rank)
        said += f"the rank correlation of measured and predicted depth is {rank:.2f}. "
    else:
        said += "all are equal, and have no rank correlation with the predicted ones. "
    lost = (reached[sigmas < edge][0] < reached.max(), reached[sigmas > edge][-1] < reached.max())
    said += "Depth is lost on both sides of the edge, as published. " if all(lost) else (
        "Depth is not lost on both sides of the edge, as was published. ")  # fmt: skip
    return said + f"What is reached lies below 6 ξc at {np.sum(reached < predicted)} of {len(sigmas)} σw."


if __name__ == "__main__":
    sys.exit(run.main())
