"""Do gradients vanish in ten layers of five sigmoid units with weights from N(0, 0.1²)?"""

import math
import sys
from typing import Any

import numpy as np

from bpx.engine import ACTIVATIONS
from bpx.figures.canvas import BLUE, GREY, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import BAND, Data, percentiles
from bpx.system.text import counted
from bpx.theory import Architecture, predict
from experiments.signals import activations, deltas

LAYERS, UNITS, STD = 10, 5, 0.1
SETUP = (
    "activation=sigmoid", f"model.depth={LAYERS - 1}", f"model.width={UNITS}", "initializer=normal",
    "dataset=gaussian", f"dataset.n_in={UNITS}", f"dataset.n_out={UNITS}",
    "loss=mean_squared_error", "loss.output=sigmoid", "batch_size=1", "dtype=float64",
)  # fmt: skip


def profiles(s: Study, std: float) -> dict[str, np.ndarray]:
    """Return ‖δ‖, mean |a| and ‖W‖ of every layer, (seeds, layers); the output sends back a random δ."""
    rows: dict[str, list[Any]] = {"delta": [], "activation": [], "weight": []}
    for net, _, _ in s.draws(*SETUP, f"initializer.std={std}", random_delta=True):
        rows["delta"].append([np.linalg.norm(d) for d in deltas(net)])
        rows["activation"].append([np.abs(a).mean() for a in activations(net)])
        rows["weight"].append([np.linalg.norm(dense.W.value) for dense in net.dense])
    return {key: np.array(values) for key, values in rows.items()}


def predicted(std: float) -> float:
    """Return theory's factor of ‖δ‖ per layer, going backward, NaN where theory has no answer."""
    net = Architecture(ACTIVATIONS["sigmoid"](), (UNITS,) * (LAYERS + 1), (std,) * LAYERS, batch_size=1)
    factor = predict(net, q1=UNITS * std**2).factor
    return math.nan if factor is None else factor


def measure(s: Study) -> Data:
    """Draw many networks, pass one sample through each, and compare the scale of δ with theory."""
    s.train("one epoch", *SETUP, f"initializer.std={STD}", "epochs=1", seeds=1)
    measured = profiles(s, STD)
    delta = measured["delta"]
    ratio = delta[:, 0] / delta[:, -1]
    # the output layer's δ has another formula: the factor is that of the hidden layers
    factor = float(np.median((delta[:, 0] / delta[:, -2]) ** (1 / (LAYERS - 2))))
    theory = predicted(STD)
    s.log(ratio_first_to_last=np.median(ratio), factor_per_layer=factor, predicted_factor=theory)
    profile = {key: percentiles(values) for key, values in measured.items()}
    return profile | {"ratio": np.percentile(ratio, BAND), "factor": factor, "theory": theory}


def draw(data: Data) -> Picture:
    """Draw error signal, activations and weights by layer."""
    name = f"{counted(data['seeds'], 'network')}, one sample each"
    figure = new_figure(name, "ten sigmoid layers, W ~ N(0, 0.1²): δ vanishes", 11, 4)
    left, middle, right = figure.subplots(1, 3)
    at = np.arange(1, LAYERS + 1)
    band(left, at, data["delta"], "measured", BLUE)
    line = data["delta"][1, -2] * data["theory"] ** (LAYERS - 1 - at[:-1])
    left.plot(at[:-1], line, "--", color=GREY, label=f"theory: ×{data['theory']:.3f} a layer")
    left.set_yscale("log")
    style_axes(left, "layer, from the input", "‖δ‖", "error signal")
    band(middle, at[:-1], data["activation"], "measured", ORANGE)
    middle.set_ylim(0, 1)
    style_axes(middle, "layer, from the input", "mean |a|", "activations")
    band(right, at, data["weight"], "measured", ORANGE)
    right.set_ylim(0, None)
    style_axes(right, "layer, from the input", "‖W‖", "weights")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say whether δ vanishes, how far, and whether the forward pass shows it."""
    low, high = data["activation"][1].min(), data["activation"][1].max()
    most, ratio, fewest = 1 / data["ratio"]
    spread = (
        f"80 % of {counted(data['seeds'], 'network')}: {fewest:.0e} to {most:.0e}"
        if data["seeds"] > 1
        else "one network"
    )
    return f"""
    {"Yes" if data["factor"] < 1 else "No"}: δ reaches the first layer {ratio:.1e} times smaller than it leaves the
    output ({spread}), a factor of {data["factor"]:.3f} per layer where theory says {data["theory"]:.3f}. Activations
    ({low:.2f} to {high:.2f} in the median) and weights are alike in every layer: nothing in the forward pass tells of
    it.
    """


run = StudyCommand(measure, draw, word, seeds=1000, quick=100)


if __name__ == "__main__":
    sys.exit(run.main())
