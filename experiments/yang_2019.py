"""Yang et al. 2019: do gradients explode at initialization because of batch normalization?

Published: in a deep network with batch normalization gradients explode at initialization whatever the weights' scale;
for ReLU the squared norm grows by π/(π − 1) ≈ 1.467 per layer in the limit of large batches; linear
layers explode the least. (A Mean Field Theory of Batch Normalization.) A random δ is sent back: that of a loss has a
part along z, which grows by itself.
"""

import math
import sys

import numpy as np

from bpx.engine import ACTIVATIONS
from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.theory import Architecture, predict
from experiments.signals import initial_profiles

DEPTH, WIDTH, BATCHES = 50, 200, (8, 16, 32, 64, 128, 256)
SETUP = (f"model.depth={DEPTH}", f"model.width={WIDTH}", "dataset=gaussian", f"dataset.n_in={WIDTH}",
         "loss=mean_squared_error", "initializer=he_normal")  # fmt: skip
ACTIVATION = {"relu": BLUE, "tanh": ORANGE, "linear": GREEN}
GAINS = (0.5, 4.0)
LIMIT = math.sqrt(math.pi / (math.pi - 1))  # published
TAIL = slice(20, DEPTH)  # the first layers still know the data


def factor(delta: np.ndarray) -> float:
    """Return the median factor of δ per layer, going backward, over the deep layers."""
    tail = delta[:, TAIL]
    return float(np.median((tail[:, 0] / tail[:, -1]) ** (1 / (tail.shape[1] - 1))))


def measure(s: Study) -> Data:
    """Measure δ by layer with and without batch normalization, by activation and by batch size."""
    norm = "normalization=batch"
    with_norm = {a: initial_profiles(s, *SETUP, norm, f"activation={a}", "batch_size=256") for a in ACTIVATION}
    without = initial_profiles(s, *SETUP, "activation=relu", "batch_size=256")
    layer = initial_profiles(s, *SETUP, "activation=relu", "batch_size=256", "normalization=layer")
    few, several = min(3, s.seeds), min(5, s.seeds)
    relu = (*SETUP, norm, "activation=relu")
    wide = {
        f"{scale:g}": factor(initial_profiles(s, *relu, "batch_size=256", f"initializer.gain={scale}", seeds=few))
        for scale in GAINS
    }
    by_batch = [factor(initial_profiles(s, *relu, f"batch_size={n}", seeds=several)) for n in BATCHES]
    expected = []
    for n in BATCHES:
        net = Architecture(ACTIVATIONS["relu"](), (WIDTH,) * (DEPTH + 2), (math.sqrt(2 / WIDTH),) * (DEPTH + 1),
                           normalization="batch", batch_size=n)  # fmt: skip
        expected.append(predict(net, 2.0).factor or np.nan)
    found = {a: factor(d) for a, d in with_norm.items()}
    s.log(**{f"factor/{a}": f for a, f in found.items()})
    s.log(**{f"factor_relu/batch_{n}": f for n, f in zip(BATCHES, by_batch, strict=True)},
          factor_none=factor(without), factor_layer_norm=factor(layer), published_relu=LIMIT)  # fmt: skip
    return {
        "with_norm": {a: percentiles(d / d[:, -1:]) for a, d in with_norm.items()},
        "layer": percentiles(layer / layer[:, -1:]),
        "without": percentiles(without / without[:, -1:]),
        "factor": found | {"none": factor(without), "layer": factor(layer)},
        "by_gain": wide,
        "by_batch": by_batch,
        "expected": expected,
    }


def draw(data: Data) -> Picture:
    """Draw δ by layer, and its factor by batch size."""
    figure = new_figure(f"gaussian, {DEPTH} layers of {WIDTH}, He", "batch normalization at initialization", 11, 4.4)
    left, right = figure.subplots(1, 2)
    at = np.arange(1, DEPTH + 1)
    for a, colour in ACTIVATION.items():
        band(left, at, data["with_norm"][a], f"{a}, batch", colour)
    band(left, at, data["layer"], "relu, layer", GREY, "--")
    band(left, at, data["without"], "relu, none", "black", ":")
    left.set_yscale("log")
    style_axes(left, "hidden layer", "‖δ‖, relative to the last", "batches of 256")
    right.plot(BATCHES, data["by_batch"], "o", color=BLUE, label="measured, ReLU")
    right.plot(BATCHES, data["expected"], "--", color=GREY, label="theory for this batch size")
    right.axhline(LIMIT, color="black", lw=0.9, ls=":", label="published: √(π / (π − 1)), large batches")
    right.set_xscale("log", base=2)
    style_axes(right, "batch size", "factor of ‖δ‖ per layer", "small batches explode more")
    legend_below(left, 3)
    legend_below(right, 1)
    return figure


def word(data: Data) -> str:
    """Say whether batch normalization explodes, how near the published limit, and what changes it."""
    found, (low, high) = data["factor"], (data["by_gain"][f"{scale:g}"] for scale in GAINS)
    alike = abs(high / low - 1) < 0.05
    small, large = data["by_batch"][0], data["by_batch"][-1]
    return f"""
    {"Yes" if found["relu"] > 1 else "No"}: with batch normalization δ changes by a factor of {found["relu"]:.3f} per
    ReLU layer on its way back (published limit √(π/(π−1)) = {LIMIT:.3f},
    {100 * abs(found["relu"] / LIMIT - 1):.1f} % apart), {found["tanh"]:.3f} for tanh, {found["linear"]:.3f} for linear.
    The weights' scale {"does not matter" if alike else "matters"} ({low:.3f} and {high:.3f} with gains of 0.5 and 4).
    Over {DEPTH} layers that is a factor of {found["relu"] ** (DEPTH - 1):.0f}. Without normalization it is
    {found["none"]:.3f}, with layer normalization {found["layer"]:.3f}. Small batches
    {"explode faster" if small > large else "do not explode faster"}: by {small:.3f} per layer for batches of
    {BATCHES[0]}.
    """


run = StudyCommand(measure, draw, word, seeds=10, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
