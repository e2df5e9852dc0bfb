"""Where does training get stuck, and is it a local minimum?"""

import sys
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from bpx.data import Dataset
from bpx.engine.model_files import load_model
from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, RED, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.job import RunResult
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

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


def end(run: RunResult, data: Dataset) -> End:
    """Look at a trained run, then go on downhill with the exact gradient (L-BFGS) as far as it leads."""
    net = load_model(run.directory).net.bind(len(data.x_train))

    def descend(theta: np.ndarray) -> tuple[float, np.ndarray]:
        net.parameters.theta[:] = theta
        J = net.cost(data.x_train, data.y_train)
        net.backward()
        return J, net.parameters.grad.copy()

    cost, grad = descend(net.parameters.theta.copy())
    by_layer = np.array([np.linalg.norm(dense.W.grad) for dense in net.dense])
    dead = np.concatenate([(block.y <= 0).all(axis=0) for block in net.blocks if block.kind == "activation"])
    found = minimize(descend, net.parameters.theta.copy(), jac=True, method="L-BFGS-B", options={"maxiter": 3000})
    return End(
        cost, float(np.linalg.norm(grad)), by_layer, float(dead.mean()), found.fun, float(np.linalg.norm(found.jac))
    )


def measure(s: Study) -> Data:
    """Train many small networks at three learning rates, and look at where they end."""
    short = ("epochs=20",) if s.quick else ()
    data = s.data(s.plan(*SETUP))
    ends = [[end(r, data) for r in s.train(f"lr {lr:g}", *SETUP, f"optimizer.lr={lr}", *short)] for lr in RATES]
    found = {name: np.array([[getattr(e, name) for e in made] for made in ends]) for name in ends[0][0].__dict__}
    s.log(**{f"stuck/lr_{lr:g}": np.mean(cost > STUCK) for lr, cost in zip(RATES, found["cost"], strict=True)})
    s.log(**{name: np.sum(chosen) for name, chosen in groups(found).items()})
    return found


def groups(data: Data) -> dict[str, np.ndarray]:
    """Return which runs, (rates, seeds), are stuck, and of these which escape, are dead, or stay; and the solved."""
    stuck, stays = data["cost"] > STUCK, data["further"] > STUCK
    flows = data["by_layer"][..., 0] > 0
    return {"stuck": stuck, "escaped": stuck & ~stays, "dead": stuck & stays & ~flows, "minima": stuck & stays & flows,
            "solved": ~stuck}  # fmt: skip


def draw(data: Data) -> Picture:
    """Draw the final costs, what descending on brings, and the gradient flow of each group."""
    figure = new_figure("moons, 2-3-3-2 ReLU", "where training gets stuck", 12, 4.4)
    left, middle, right = figure.subplots(1, 3)
    for lr, costs, further, colour in zip(RATES, data["cost"], data["further"], (BLUE, ORANGE, GREEN), strict=True):
        left.plot(np.linspace(0, 100, len(costs)), np.sort(costs), ".-", color=colour, label=f"learning rate {lr:g}")
        middle.plot(costs, np.maximum(further, 1e-6), ".", color=colour, ms=7, label=f"learning rate {lr:g}")
    left.axhline(STUCK, color=GREY, ls=":", lw=1)
    left.set_yscale("log")
    style_axes(left, "share of the seeds / %", "final training cost", f"{counted(data['seeds'], 'seed')} each, sorted")
    for line in (middle.axhline, middle.axvline):
        line(STUCK, color=GREY, ls=":", lw=1)
    middle.set_xscale("log")
    middle.set_yscale("log")
    style_axes(middle, "final training cost", "cost after L-BFGS from there", "what descending on brings (1e-6: less)")
    at, group = np.arange(1, 4), groups(data)
    shown = (("stuck for good", "minima", RED), ("stuck, escapes", "escaped", ORANGE), ("solved", "solved", GREEN))
    for label, name, colour in shown:
        if group[name].any():
            flow = percentiles(np.maximum(data["by_layer"][group[name]], 1e-9))
            band(right, at, flow, f"{label} ({group[name].sum()})", colour)
    right.plot([], [], color=GREY, label=f"dead: exactly 0 ({group['dead'].sum()})")
    right.set_yscale("log")
    right.set_xticks(at)
    style_axes(right, "layer, from the input", "‖∂J/∂W‖ over all samples", "gradient flow where they end")
    for axes in (left, middle, right):
        legend_below(axes, 1)
    return figure


def word(data: Data) -> str:
    """Say how many runs are stuck, and why."""
    group = groups(data)
    n = {name: int(chosen.sum()) for name, chosen in group.items()}
    rates = ", ".join(f"{100 * share:.0f} % at {lr:g}"
                      for lr, share in zip(RATES, group["stuck"].mean(axis=1), strict=True))  # fmt: skip
    lost = {name: f"{100 * data['dead'][chosen].mean():.0f} %" if n[name] else "–" for name, chosen in group.items()}
    flat = int(np.sum(data["gradient_further"][group["minima"]] < FLAT))
    return f"""
    {n["stuck"]} of {group["stuck"].size} runs end above a cost of {STUCK} (by learning rate: {rates}), for three
    reasons. {n["dead"]} are dead: no sample activates a unit of some layer, and δ is exactly zero before it.
    {n["escaped"]} were only slow, or thrown about by their step: with exact gradients (L-BFGS) they come down.
    {n["minima"]} stay above {STUCK} even so, {flat} with a gradient below {FLAT:g}, the others where L-BFGS
    finds no way down, as it may at a kink: what may be called local minima, of networks that have lost
    {lost["minima"]} of their units (those that escape: {lost["escaped"]}, the solved: {lost["solved"]}).
    """


run = StudyCommand(measure, draw, word, seeds=40, quick=4)


if __name__ == "__main__":
    sys.exit(run.main())
