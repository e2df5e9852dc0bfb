"""Gers et al. 2000: what do forget gates do to a gradient through time, and where should their bias start?

Published: a forget gate lets a cell be reset; its bias starts positive, so that a cell at first keeps its state as the
cells of 1997 do (section 3). Jozefowicz et al. (2015) find that a bias of 1 makes LSTM as good as the best cells. In
theory a gate of small weights keeps σ(b) of the state, and of the gradient, at every step.
"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREY, RED, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.probes.through_time import recurrent_layers, state_grad_l2
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

BIASES = (-3, -2, -1, 0, 1, 2, 3, 4, 5, 6)
TRAINED = (-2, 0, 1, 3, 5)
STEPS, BASELINE = 50, 1 / 6
SETUP = (
    "dataset=adding", f"dataset.steps={STEPS}", "model=lstm", "model.depth=1", "model.width=32", "initializer=uniform",
    "batch_size=64", "dataset.n_samples=6000",
)  # fmt: skip
TRAINING = (
    "optimizer=adam", "optimizer.lr=0.01", "optimizer.clip_norm=1", "epochs=100", "max_steps=1000", "probes=none",
)  # fmt: skip


def measure(s: Study) -> Data:
    """Measure the factor per step over the bias, and train at some of them."""
    factors = []
    for bias in BIASES:
        drawn = s.draws(*SETUP, "dtype=float64", f"model.forget_bias={bias}", random_delta=True)
        logs = np.log10([state_grad_l2(recurrent_layers(net)[-1]) for net, _, _ in drawn])
        factors.append(10 ** ((logs[:, 0] - logs[:, -2]) / (STEPS - 2)))
    error = {}
    for bias in TRAINED[::4] if s.quick else TRAINED:
        (run,) = s.train(f"bias {bias}", *SETUP, *TRAINING, f"model.forget_bias={bias}", seeds=1)
        error[str(bias)] = 2 * run.metrics.get("cost/test", np.inf)
        s.log(**{f"error/bias_{bias}": error[str(bias)]})
    found = percentiles(np.array(factors).T)
    s.log(largest_distance=float(np.abs(found[1] - _gate(np.array(BIASES))).max()))
    return {"factor": found, "error": error}


def _gate(bias: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-bias)))


def draw(data: Data) -> Picture:
    """Draw the factor per step and the error after training, over the bias."""
    figure = new_figure(f"adding problem over {STEPS} steps, LSTM of 32 units", "where forget gates start", 12, 4.6)
    left, right = figure.subplots(1, 2)
    band(left, np.array(BIASES), data["factor"], f"measured, {counted(data['seeds'], 'network')}", BLUE)
    grid = np.linspace(BIASES[0], BIASES[-1], 200)
    left.plot(grid, _gate(grid), "--", color=RED, label="σ(b)")
    right.plot([int(b) for b in data["error"]], list(data["error"].values()), "o-", color=BLUE, label="one seed")
    right.axhline(BASELINE, color=GREY, ls="--", lw=1.2, label="constant answer")
    right.set_yscale("log")
    style_axes(left, "bias b of the forget gates", "factor of ‖∂J/∂h_t‖ per step back", "at initialization")
    style_axes(right, "bias b of the forget gates", "mean squared error of the test", "after 1,000 steps of Adam")
    for axes in (left, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say how near the gradient's factor is to the gate, and which biases learn."""
    at = dict(zip(BIASES, np.asarray(data["factor"])[1], strict=True))
    away = max(abs(factor - float(_gate(np.array(bias)))) for bias, factor in at.items())
    error = {int(bias): e for bias, e in data["error"].items()}
    learned = [str(bias) for bias in error if error[bias] < 0.01]
    stuck = [str(bias) for bias in error if error[bias] > 0.1]
    ends = f"; biases of {', '.join(learned)} learn" if learned else ""
    ends += f", {', '.join(stuck)} not in as many steps" if stuck else ""
    return f"""
    A step back changes ‖∂J/∂h_t‖ by about the share of the state that the gates keep: ×{at[-2]:.2f} with a bias of −2,
    ×{at[0]:.2f} with 0, ×{at[1]:.2f} with 1, ×{at[3]:.2f} with 3, at most {away:.2f} from σ(b). Over {STEPS} steps the
    mean squared error after training is {", ".join(f"{e:.2g} (bias {bias})" for bias, e in error.items())}, and the
    constant answer has 0.167{ends}.
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
