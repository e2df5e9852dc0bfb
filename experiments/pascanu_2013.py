"""Pascanu et al. 2013: is there a cliff in the cost of a deep network with shared weights, and does clipping save it?

Published: the cost of a one-unit recurrent network over 50 steps, as a function of weight and bias, has a wall of
high curvature; a gradient step there throws the parameters far away, a clipped one does not (section 2.3, figure 6;
algorithm 1). A recurrent network is a deep one whose layers share their weights: h = σ(w h + b), target 0.7.
"""

import sys

import numpy as np

from bpx.figures.canvas import GREEN, RED, Picture, legend_below, new_figure, style_axes
from bpx.records import Outcome
from bpx.runs.study import Study, StudyCommand
from bpx.runs.study_data import Data

LAYERS, START, TARGET = 50, 0.5, 0.7
SETUP = (
    f"model.depth={LAYERS - 1}", "model.width=1", "activation=sigmoid", "loss=mean_squared_error",
    "loss.output=sigmoid", "dataset=gaussian", "dataset.n_in=1", "dataset.n_out=1", "batch_size=1", "dtype=float64",
)  # fmt: skip
W, B = np.linspace(4.2, 6.6, 121), np.linspace(-3.2, -1.8, 113)
FROM = np.array([5.3, -2.3])
FAR = 100.0  # from here there is no way back
LR, LIMIT, STEPS = 1.0, 0.05, 200
DEEP = (
    "dataset=digits", "model.depth=8", "model.width=64", "activation=relu", "initializer=he_normal",
    "initializer.gain=2", "optimizer.lr=0.1", "epochs=4", "probes=none",
)  # fmt: skip


class Shared:
    """The composed network with one weight and one bias for all its layers."""

    def __init__(self, s: Study) -> None:
        self.net = s.plan(*SETUP).network(1, 1).bind(1)
        self.x, self.y = np.array([[START]]), np.array([[TARGET]])

    def cost(self, w: float, b: float) -> float:
        """Return J."""
        n = self.net.parameters.n_weights
        self.net.parameters.theta[:n], self.net.parameters.theta[n:] = w, b
        return self.net.cost(self.x, self.y)

    def gradient(self, w: float, b: float) -> np.ndarray:
        """Return dJ/d(w, b): the sums over the layers."""
        self.cost(w, b)
        self.net.backward()
        n = self.net.parameters.n_weights
        return np.array([self.net.parameters.grad[:n].sum(), self.net.parameters.grad[n:].sum()])


def descend(shared: Shared, start: np.ndarray, limit: float) -> np.ndarray:
    """Return the path of gradient descent, the gradient clipped to norm ``limit``."""
    path = [start]
    while len(path) <= STEPS and np.abs(path[-1]).max() < FAR:
        g = shared.gradient(*path[-1])
        path.append(path[-1] - LR * g * min(1.0, limit / (float(np.linalg.norm(g)) + 1e-6)))
    return np.array(path)


def measure(s: Study) -> Data:
    """Map the cost, walk over it with and without clipping, and train an exploding network both ways."""
    shared = Shared(s)
    J = np.array([[shared.cost(float(w), float(b)) for w in W] for b in B])
    slope = np.array([[np.linalg.norm(shared.gradient(float(w), float(b))) for w in W[::4]] for b in B[::4]])
    paths = {"clipped": descend(shared, FROM, LIMIT), "not clipped": descend(shared, FROM, np.inf)}
    jump = {k: float(np.linalg.norm(np.diff(p, axis=0), axis=1).max()) for k, p in paths.items()}
    late = [shared.cost(*at) for at in paths["clipped"][-100:]]
    end = {k: shared.cost(*p[-1]) for k, p in paths.items()}
    s.log(steepest=slope.max(), median_slope=np.median(slope), jump_not_clipped=jump["not clipped"],
          jump_clipped=jump["clipped"], cost_not_clipped=end["not clipped"], cost_clipped=end["clipped"])  # fmt: skip
    training = {}
    for name, limit in (("not clipped", "null"), ("clipped", "1")):
        runs = s.train(f"clip {limit}", *DEEP, f"optimizer.clip_norm={limit}")
        accuracy = [r.metrics["accuracy/test"] for r in runs if "accuracy/test" in r.metrics]
        histories = {}
        for seed, r in enumerate(runs):
            steps, cost = r.history("cost/train")
            histories[f"seed {seed}"] = {"step": steps, "cost": cost}
        diverged = float(np.mean([r.outcome == Outcome.DIVERGED for r in runs]))
        training[name] = {"diverged": diverged, "accuracy": np.median(accuracy) if accuracy else None,
                          "runs": histories}  # fmt: skip
        s.log(**{f"diverged_{name.replace(' ', '_')}": diverged})
    return {
        "log10_cost": np.log10(np.maximum(J, 1e-8)).round(3),
        "slope": [np.median(slope), slope.max()],
        "paths": paths,
        "jump": jump,
        "end": end["not clipped"],
        "late": [min(late), max(late)],
        "training": training,
    }


def draw(data: Data) -> Picture:
    """Draw the two paths over the cost, and the training costs."""
    figure = new_figure(f"{LAYERS} layers, h = σ(w h + b); digits", "the cliff, and clipping", 11.5, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    mesh = left.pcolormesh(W, B, data["log10_cost"], cmap="viridis", shading="nearest", rasterized=True)
    figure.colorbar(mesh, ax=left, label="log10 J")
    for (name, path), colour in zip(data["paths"].items(), ("white", RED), strict=True):
        left.plot(*path.T, ".-", color=colour, lw=1.2, ms=4, label=f"{name}: longest step {data['jump'][name]:.2g}")
    left.plot(*FROM, "*", color="gold", ms=12, mec="black")
    left.set_xlim(W[0], W[-1])
    left.set_ylim(B[0], B[-1])
    style_axes(left, "w", "b", "gradient descent from the star")
    left.grid(False)
    left.legend(loc="upper right", fontsize=8, facecolor="#888888", labelcolor="white")
    for (name, found), colour in zip(data["training"].items(), (RED, GREEN), strict=True):
        label = f"{name}{' to 1' * (name == 'clipped')}: {100 * found['diverged']:.0f} % diverge"
        for i, history in enumerate(found["runs"].values()):
            right.plot(history["step"], history["cost"], color=colour, lw=0.8, alpha=0.7, label="_" if i else label)
    right.set_yscale("log")
    style_axes(right, "optimizer step", "training cost", f"8 ReLU layers, gain 2, {data['seeds']} seeds")
    legend_below(right, 1)
    return figure


def word(data: Data) -> str:
    """Say how steep the cliff is, and what clipping changes there and in training."""
    median, steepest = data["slope"]
    low, high = data["late"]
    free, clipped = data["training"]["not clipped"], data["training"]["clipped"]
    test = "none" if clipped["accuracy"] is None else f"{100 * clipped['accuracy']:.0f} %"
    return f"""
    {"Yes" if steepest > 1000 * median else "No"}: on this patch of (w, b) the gradient's norm is
    {median:.1g} in the median and up to {steepest:.0e} on the wall, on which the minimum lies. Plain descent comes to
    the wall and is thrown {data["jump"]["not clipped"]:.1f} away, to a cost of {data["end"]:.2g} in the end; with the
    gradient clipped to norm {LIMIT} no step is longer than {data["jump"]["clipped"]:.2f}: it stays at the wall, at a
    cost between {low:.1g} and {high:.2g} over its last 100 steps. In training (8 ReLU layers with gain 2):
    {100 * free["diverged"]:.0f} % of {data["seeds"]} runs diverge without clipping, {100 * clipped["diverged"]:.0f} %
    with clipping to norm 1, which reach {test} of the test images.
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=3)


if __name__ == "__main__":
    sys.exit(run.main())
