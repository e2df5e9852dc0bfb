"""Where does training get stuck, and is it a local minimum?"""

import sys
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from bpx.data import Dataset
from bpx.engine.model_files import load_model
from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, RED, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, TrainedRun, study

SETUP = (
    "dataset=moons", "dataset.noise=0.1", "dataset.n_samples=500", "model.hidden=[3,3]", "activation=relu",
    "epochs=200", "dtype=float64",
)  # fmt: skip
RATES = (0.03, 0.3, 3.0)
STUCK = 0.1  # of the training cost; the best runs end below 0.01
FLAT = 1e-4  # of the gradient's norm


@dataclass
class End:
    """Where a run ends: cost and gradient over all training samples, its flow, and what descending on brings."""

    cost: float
    gradient: float
    by_layer: np.ndarray
    dead: float
    further: float
    gradient_further: float


def end(run: TrainedRun, data: Dataset) -> End:
    """Look at a trained run, then go on downhill with the exact gradient (L-BFGS) as far as it leads."""
    net = load_model(run.directory).net.bind(len(data.x_train))

    def descend(theta: np.ndarray) -> tuple[float, np.ndarray]:
        net.store.theta[:] = theta
        J = net.cost(data.x_train, data.y_train)
        net.backward()
        return J, net.store.grad.copy()

    cost, grad = descend(net.store.theta.copy())
    by_layer = np.array([np.linalg.norm(dense.W.grad) for dense in net.dense])
    dead = np.concatenate([(block.y <= 0).all(axis=0) for block in net.blocks if block.kind == "activation"])
    found = minimize(descend, net.store.theta.copy(), jac=True, method="L-BFGS-B", options={"maxiter": 3000})
    return End(cost, float(np.linalg.norm(grad)), by_layer, float(dead.mean()), found.fun, np.linalg.norm(found.jac))


@study(seeds=40, quick=4)
def run(s: Study) -> str:
    """Train many small networks at three learning rates, and look at where they end."""
    short = ("epochs=20",) if s.quick else ()
    data = s.data(s.plan(*SETUP))
    ends = {lr: [end(r, data) for r in s.train(f"lr {lr:g}", *SETUP, f"optimizer.lr={lr}", *short)] for lr in RATES}
    every = [e for made in ends.values() for e in made]
    stuck = [e for e in every if e.cost > STUCK]
    solved = [e for e in every if e.cost <= STUCK]
    escaped = [e for e in stuck if e.further <= STUCK]
    dead = [e for e in stuck if e.further > STUCK and not e.by_layer[0] > 0]
    kept = [e for e in stuck if e.further > STUCK and e.by_layer[0] > 0]
    share = {lr: float(np.mean([e.cost > STUCK for e in made])) for lr, made in ends.items()}
    s.log(**{f"stuck/lr_{lr:g}": value for lr, value in share.items()})
    s.log(stuck=len(stuck), escaped=len(escaped), dead=len(dead), minima=len(kept))

    figure = new_figure("moons, 2-3-3-2 ReLU", "where training gets stuck", 12, 4.4)
    left, middle, right = figure.subplots(1, 3)
    for (lr, made), colour in zip(ends.items(), (BLUE, ORANGE, GREEN), strict=True):
        costs = np.array([e.cost for e in made])
        left.plot(np.linspace(0, 100, len(costs)), np.sort(costs), ".-", color=colour, label=f"learning rate {lr:g}")
        middle.plot(costs, [max(e.further, 1e-6) for e in made], ".", color=colour, ms=7, label=f"learning rate {lr:g}")
    left.axhline(STUCK, color=GREY, ls=":", lw=1)
    left.set_yscale("log")
    style_axes(left, "share of the seeds / %", "final training cost", f"{s.seeds} seeds each, sorted")
    for line in (middle.axhline, middle.axvline):
        line(STUCK, color=GREY, ls=":", lw=1)
    middle.set_xscale("log")
    middle.set_yscale("log")
    style_axes(middle, "final training cost", "cost after L-BFGS from there", "what descending on brings (1e-6: less)")
    at = np.arange(1, 4)
    groups = (("stuck for good", kept, RED), ("stuck, escapes", escaped, ORANGE), ("solved", solved, GREEN))
    for label, group, colour in groups:
        if group:
            band(right, at, np.maximum([e.by_layer for e in group], 1e-9), f"{label} ({len(group)})", colour)
    right.plot([], [], color=GREY, label=f"dead: exactly 0 ({len(dead)})")
    right.set_yscale("log")
    right.set_xticks(at)
    style_axes(right, "layer, from the input", "‖∂J/∂W‖ over all samples", "gradient flow where they end")
    for axes in (left, middle, right):
        legend_below(axes, 1)
    s.draw(figure)
    rates = ", ".join(f"{100 * value:.0f} % at {lr:g}" for lr, value in share.items())
    asleep = [f"{100 * np.mean([e.dead for e in group]):.0f} %" if group else "–" for _, group, _ in groups]
    minima = sum(e.gradient_further < FLAT for e in kept)
    return f"""
    {len(stuck)} of {len(every)} runs end above a cost of {STUCK} (by learning rate: {rates}), for three reasons.
    {len(dead)} are dead: no sample activates a unit of some layer, and δ is exactly zero before it.
    {len(escaped)} were only slow, or thrown about by their step: with exact gradients (L-BFGS) they come down.
    {len(kept)} stay above {STUCK} even so, {minima} with a gradient below {FLAT:g}, the others where L-BFGS
    finds no way down, as it may at a kink: what may be called local minima, of networks that have lost
    {asleep[0]} of their units (those that escape: {asleep[1]}, the solved: {asleep[2]}).
    """


if __name__ == "__main__":
    sys.exit(run.main())
