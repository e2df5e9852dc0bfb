"""How far does a numerical gradient agree with backpropagation, and which ε should it take?"""

import sys

import numpy as np

from bpx.engine.gradcheck import GradientCheck, gradcheck, relative_difference
from bpx.figures.canvas import BLUE, GREY, ORANGE, RED, Picture, legend_below, new_figure, style_axes
from bpx.figures.gradient_check import gradient_bars
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

SETUP = (
    "model.hidden=[2]", "activation=sigmoid", "loss=mean_squared_error", "loss.output=sigmoid",
    "initializer=normal", "initializer.std=0.01",
    "dataset=gaussian", "dataset.n_in=2", "dataset.n_out=1", "batch_size=1", "dtype=float64",
)  # fmt: skip
EPSILONS = 10.0 ** np.arange(-11, 0)
CLASSIC = 4  # ε = 1e-7
LIMIT = 1e-7


def worst_tensor(check: GradientCheck) -> float:
    """Return the largest relative difference of a tensor, below the round-off floor too."""
    return max(relative_difference(t.numeric, t.analytic) for t in check.tensors)


def measure(s: Study) -> Data:
    """Check 2-2-1 networks at every ε, the whole gradient and its worst tensor."""
    checks = [[gradcheck(net, x, y, directions=1, epsilon=float(e)) for e in EPSILONS] for net, x, y in s.draws(*SETUP)]
    whole = np.array([[c.relative for c in row] for row in checks])
    tensors = np.array([[worst_tensor(c) for c in row] for row in checks])
    best = int(np.median(whole, axis=0).argmin())
    passed = float(np.mean(whole[:, CLASSIC] < LIMIT))
    single = float(np.mean(tensors[:, CLASSIC] >= LIMIT))
    sizes = np.array([[np.linalg.norm(t.analytic) for t in row[CLASSIC].tensors] for row in checks])
    first = checks[0][CLASSIC]
    weights = [i for i, t in enumerate(first.tensors) if t.name.endswith("W")]
    smaller = float(np.median(sizes[:, weights[-1]] / sizes[:, weights[0]]))
    s.log(relative_at_1e_7=np.median(whole[:, CLASSIC]), passed_at_1e_7=passed, tensors_failing_at_1e_7=single)
    s.log(best_epsilon=EPSILONS[best], relative_at_best=np.median(whole[:, best]), first_layer_smaller=smaller)
    return {
        "whole": percentiles(whole),
        "worst_tensor": percentiles(tensors),
        "passed": passed,
        "tensors_failing": single,
        "smaller": smaller,
        "parameters": [f"{t.name[6:8]}.{t.name[-1]}" for t in first.tensors for _ in t.analytic],
        "analytic": np.concatenate([t.analytic for t in first.tensors]),
        "numeric": np.concatenate([t.numeric for t in first.tensors]),
        "relative": first.relative,
    }


def draw(data: Data) -> Picture:
    """Draw one network's gradients both ways, and the agreement by ε."""
    name = f"2-2-1, sigmoid, {counted(data['seeds'], 'network')}"
    figure = new_figure(name, "the gradient checked by central differences", 11.5, 4.2)
    bars, scatter, curve = figure.subplots(1, 3)
    analytic, numeric = data["analytic"], data["numeric"]
    gradient_bars(bars, data["parameters"], analytic, numeric, "one network, all nine gradients, ε = 1e-7")
    low, high = min(analytic.min(), 0), max(analytic.max(), 0)
    scatter.plot([low, high], [low, high], color=GREY, lw=1, label="equal")
    scatter.plot(analytic, numeric, "o", color=BLUE, ms=5, label=f"relative difference {data['relative']:.0e}")
    scatter.locator_params(axis="x", nbins=4)
    style_axes(scatter, "backpropagation", "numerical", "one against the other")
    band(curve, EPSILONS, data["whole"], "whole gradient", BLUE)
    band(curve, EPSILONS, data["worst_tensor"], "worst tensor", ORANGE)
    curve.axhline(LIMIT, color=RED, lw=0.9, ls=":", label="10⁻⁷")
    curve.set_xscale("log")
    curve.set_yscale("log")
    style_axes(curve, "ε", "relative difference", "round-off on the left, curvature on the right")
    scatter.legend(fontsize=8, frameon=False)
    legend_below(curve, 3)
    return figure


def word(data: Data) -> str:
    """Say how far both agree at ε = 1e-7, and which ε is best."""
    whole = data["whole"][1]
    best = int(whole.argmin())
    return f"""
    With ε = 1e-7 the whole gradient agrees to {whole[CLASSIC]:.0e} (median of {counted(data["seeds"], "network")}) and
    {100 * data["passed"]:.0f} % pass ‖n − a‖ / ‖n + a‖ < 1e-7, but in {100 * data["tensors_failing"]:.0f} % some single
    tensor does not: the weights' gradient is {data["smaller"]:.0f} times smaller in the first layer than in the last,
    the round-off is not. ε = {EPSILONS[best]:.0e} is best, {whole[best]:.0e}: below it round-off grows as 1/ε, above it
    what the extrapolation leaves of the curvature, as ε⁴.
    """


run = StudyCommand(measure, draw, word, seeds=300, quick=20)


if __name__ == "__main__":
    sys.exit(run.main())
