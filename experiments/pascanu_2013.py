"""Pascanu et al. 2013: is there a cliff in the cost of a recurrent network, and does clipping save it?

Published: the cost of a one-unit recurrent network over 50 steps, as a function of weight and bias, has a wall of
high curvature; a gradient step there throws the parameters far away, a clipped one does not (section 2.3, figure 6;
algorithm 1). The network is h_t = σ(w h_(t-1) + b) from h_0 = 0.5, with target 0.7 at the last step.
"""

import sys

import numpy as np

from bpx.figures.canvas import GREEN, RED, Picture, legend_below, new_figure, style_axes
from bpx.probes.through_time import recurrent_layers
from bpx.records import Outcome
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data
from bpx.system.text import counted

STEPS_BACK, START, TARGET = 50, 0.5, 0.7
SETUP = (
    "model=rnn", "model.depth=1", "model.width=1", "model.learn_start=true", "activation=sigmoid",
    "loss=mean_squared_error", "dtype=float64",
)  # fmt: skip
W, B = np.linspace(4.2, 6.6, 121), np.linspace(-3.2, -1.8, 113)
FROM = np.array([5.3, -2.3])
FAR = 100.0  # from here there is no way back
LR, LIMIT, STEPS = 1.0, 0.05, 200
DEEP = (
    "dataset=digits", "model.depth=8", "model.width=64", "activation=relu", "initializer=he_normal",
    "initializer.gain=2", "optimizer.lr=0.1", "epochs=4", "probes=none",
)  # fmt: skip


class OneUnit:
    """The recurrent network of one unit, without inputs, whose state is its output."""

    def __init__(self, s: Study) -> None:
        self.net = s.plan(*SETUP).network(STEPS_BACK, 1, sequence_shape=(STEPS_BACK, 1)).bind(1)
        (self.cell,) = recurrent_layers(self.net)
        self.bias = self.net.parameters["layer_01.dense.b"]
        self.cell.h0.value[...] = START
        self.net.dense[1].W.value[...] = 1
        self.x, self.y = np.zeros((1, STEPS_BACK, 1)), np.array([[TARGET]])

    def cost(self, w: float, b: float) -> float:
        """Return J."""
        self.cell.W.value[...], self.bias.value[...] = w, b
        return self.net.cost(self.x, self.y)

    def gradient(self, w: float, b: float) -> np.ndarray:
        """Return dJ/d(w, b)."""
        self.cost(w, b)
        self.net.backward()
        return np.array([self.cell.W.grad[0, 0], self.bias.grad[0]])


def descend(net: OneUnit, start: np.ndarray, limit: float) -> np.ndarray:
    """Return the path of gradient descent, the gradient clipped to norm ``limit``."""
    path = [start]
    while len(path) <= STEPS and np.abs(path[-1]).max() < FAR:
        g = net.gradient(*path[-1])
        path.append(path[-1] - LR * g * min(1.0, limit / (float(np.linalg.norm(g)) + 1e-6)))
    return np.array(path)


def measure(s: Study) -> Data:
    """Map the cost, walk over it with and without clipping, and train an exploding network both ways."""
    net = OneUnit(s)
    J = np.array([[net.cost(float(w), float(b)) for w in W] for b in B])
    slope = np.array([[np.linalg.norm(net.gradient(float(w), float(b))) for w in W[::4]] for b in B[::4]])
    paths = {"clipped": descend(net, FROM, LIMIT), "not clipped": descend(net, FROM, np.inf)}
    jump = {k: float(np.linalg.norm(np.diff(p, axis=0), axis=1).max()) for k, p in paths.items()}
    late = [net.cost(*at) for at in paths["clipped"][-100:]]
    end = {k: net.cost(*p[-1]) for k, p in paths.items()}
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
    figure = new_figure(f"h_t = σ(w h_(t−1) + b) over {STEPS_BACK} steps; digits", "the cliff, and clipping", 11.5, 4.6)
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
    style_axes(right, "optimizer step", "training cost", f"8 ReLU layers, gain 2, {counted(data['seeds'], 'seed')}")
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
    {100 * free["diverged"]:.0f} % of {counted(data["seeds"], "run")} diverge without clipping,
    {100 * clipped["diverged"]:.0f} % with clipping to norm 1, which reach {test} of the test images.
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=3)


if __name__ == "__main__":
    sys.exit(run.main())
