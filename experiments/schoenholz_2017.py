"""Schoenholz et al. 2017: does a tanh network train on MNIST down to a depth of about 6 ξc, and no further?

Published: the depth to which random networks can be trained follows 6 ξc, ξc being the layers over which two inputs
forget their correlation; it diverges at the edge of chaos (σb² = 0.05, width 300, and many more steps than here).
"""

import sys

import numpy as np
from scipy.stats import spearmanr

from bpx.engine import ACTIVATIONS
from bpx.figures.canvas import RED, Picture, new_figure, style_axes
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data
from bpx.system.text import counted
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


def measure(s: Study) -> Data:
    """Train a grid of σw and depth for a fixed number of steps."""
    sigmas, depths = (SIGMAS, DEPTHS) if not s.quick else (SIGMAS[::4], DEPTHS[:5:2])
    accuracy = np.empty((s.seeds, len(depths), len(sigmas)))
    for i, depth in enumerate(depths):
        for j, sigma in enumerate(sigmas):
            words = (*SETUP, f"model.depth={depth}", f"initializer.sigma_w={sigma}", f"max_steps={STEPS}")
            made = s.train(f"depth {depth} sigma {sigma:g}", *words)
            accuracy[:, i, j] = [r.metrics.get("accuracy/train", 0.1) for r in made]
    each = np.array([[trainable(column, np.array(depths)) for column in one.T] for one in accuracy])
    reached, predicted = np.median(each, axis=0), six_xi(np.array(sigmas))
    for w, d, p in zip(sigmas, reached, predicted, strict=True):
        s.log(**{f"depth/{w:g}": d, f"depth_6_xi_c/{w:g}": min(p, 1e6)})
    if len(set(reached)) > 1:
        s.log(rank_correlation=rank_correlation(reached, predicted))
    s.log(edge_of_chaos=critical_sigma_w(ACTIVATIONS["tanh"](), SIGMA_B))
    return {"sigma_w": sigmas, "depth": depths, "steps": STEPS, "accuracy": np.median(accuracy, axis=0),
            "reached": reached, "reached_range": [each.min(axis=0), each.max(axis=0)]}  # fmt: skip


def six_xi(sigmas: np.ndarray) -> np.ndarray:
    """Return 6 ξc by σw, infinite at the edge of chaos."""
    tanh = ACTIVATIONS["tanh"]()
    return np.array([6 * (mean_field(tanh, float(w), SIGMA_B).xi_c or np.inf) for w in sigmas])


def rank_correlation(reached: np.ndarray, predicted: np.ndarray) -> float:
    """Return Spearman's rank correlation of measured and predicted depths."""
    return float(spearmanr(reached, np.minimum(predicted, 1e6)).statistic)


def draw(data: Data) -> Picture:
    """Draw the accuracy over σw and depth, the depth reached, and 6 ξc."""
    sigmas, depths, reached = data["sigma_w"], data["depth"], data["reached"]
    edge = critical_sigma_w(ACTIVATIONS["tanh"](), SIGMA_B)
    fine = np.linspace(sigmas[0], sigmas[-1], 241)
    xi = six_xi(fine)
    name = f"mnist, 3,000 images, tanh, width 100, {data['steps']} steps, {counted(data['seeds'], 'seed')}"
    figure = new_figure(name, "trainable depth and 6 ξc", 8.4, 4.8)
    axes = figure.subplots()
    mesh = axes.pcolormesh(sigmas, depths, 100 * data["accuracy"], cmap="viridis", vmin=10, vmax=100, shading="nearest")
    figure.colorbar(mesh, ax=axes, label="training accuracy / %")
    axes.plot(fine, xi, color="black", lw=4)  # an edge, to be seen on yellow too
    axes.plot(fine, xi, "--", color="white", lw=2, label="6 ξc (theory)")
    axes.fill_between(sigmas, *data["reached_range"], color=RED, alpha=0.35, lw=0)
    axes.plot(sigmas, np.where(reached > 0, reached, np.nan), "o-", color=RED, mec="white", ms=5, lw=1.6,
              label="accuracy falls through 50 %: median, all seeds")  # fmt: skip
    axes.axvline(edge, color="white", lw=0.8, ls=":")
    axes.set_ylim(depths[0] - 3, depths[-1] + 10)
    style_axes(axes, "σw", "hidden layers", f"dotted: the edge of chaos, σw = {edge:.3f} at σb² = 0.05")
    axes.grid(False)
    axes.legend(loc="upper right", fontsize=8, facecolor="#555555", labelcolor="white")
    return figure


def word(data: Data) -> str:
    """Say the depth reached beside 6 ξc, and what it says of the theory."""
    sigmas, reached = data["sigma_w"], data["reached"]
    predicted = six_xi(sigmas)
    return f"""
    Depth at which the training accuracy after {data["steps"]} steps falls through one half (median of {data["seeds"]}
    seeds), by σw, with 6 ξc in brackets: {table(sigmas, reached, predicted, data["depth"][-1])}.
    {compared(sigmas, reached, predicted)}
    These are {data["steps"]} steps of a net a third as wide, not the paper's 10⁴ and more.
    """


def table(sigmas: np.ndarray, reached: np.ndarray, predicted: np.ndarray, most: int) -> str:
    """Return measured and predicted depth for every σw."""
    depth = ["none" if d == 0 else f"≥ {most}" if d == most else f"{d:.0f}" for d in reached]
    theory = ["∞" if p > 1e4 else f"{p:.0f}" for p in predicted]
    return ", ".join(f"{w:g}: {d} ({p})" for w, d, p in zip(sigmas, depth, theory, strict=True))


def compared(sigmas: np.ndarray, reached: np.ndarray, predicted: np.ndarray) -> str:
    """Return what the measured depths say of the theory, no more than they can."""
    if not reached.any():
        return "Not trained at any depth tried: nothing can be said of the theory."
    edge = critical_sigma_w(ACTIVATIONS["tanh"](), SIGMA_B)
    said = f"The deepest is at σw = {', '.join(f'{w:g}' for w in sigmas[reached == reached.max()])}, the edge of chaos "
    said += f"at {edge:.3f}; "
    if len(set(reached)) > 1:
        rank = rank_correlation(reached, predicted)
        said += f"the rank correlation of measured and predicted depth is {rank:.2f}. "
    else:
        said += "all are equal, and have no rank correlation with the predicted ones. "
    lost = (reached[sigmas < edge][0] < reached.max(), reached[sigmas > edge][-1] < reached.max())
    said += "Depth is lost on both sides of the edge, as published. " if all(lost) else (
        "Depth is not lost on both sides of the edge, as was published. ")  # fmt: skip
    return said + f"What is reached lies below 6 ξc at {np.sum(reached < predicted)} of {len(sigmas)} σw."


run = StudyCommand(measure, draw, word, seeds=3, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
