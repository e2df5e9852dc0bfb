"""Yang et al. 2019: do gradients explode at initialization because of batch normalization?

Published: in a deep network with batch normalization gradients explode at initialization whatever the weights' scale;
for ReLU the squared norm grows by π/(π − 1) ≈ 1.467 per layer in the limit of large batches; linear
layers explode the least. (A Mean Field Theory of Batch Normalization.)
"""

import math
import sys

import numpy as np

from bpx.engine import ACTIVATIONS
from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, study
from bpx.theory import Architecture, predict
from experiments.signals import deltas, l2

DEPTH, WIDTH, BATCHES = 50, 200, (8, 16, 32, 64, 128, 256)
SETUP = (f"model.depth={DEPTH}", f"model.width={WIDTH}", "dataset=gaussian", f"dataset.n_in={WIDTH}",
         "loss=mean_squared_error", "initializer=he_normal")  # fmt: skip
ACTIVATION = {"relu": BLUE, "tanh": ORANGE, "linear": GREEN}
TAIL = slice(20, DEPTH)  # the first layers still know the data


def profile(s: Study, *more: str, seeds: int | None = None) -> np.ndarray:
    """Return ‖δ‖ of every hidden layer, (seeds, DEPTH)."""
    return np.array([[l2(d) for d in deltas(net)[:-1]] for net, _, _ in s.draws(*SETUP, *more, seeds=seeds)])


def factor(delta: np.ndarray) -> float:
    """Return the median factor of δ per layer, going backward, over the deep layers."""
    tail = delta[:, TAIL]
    return float(np.median((tail[:, 0] / tail[:, -1]) ** (1 / (tail.shape[1] - 1))))


@study(seeds=10, quick=1)
def run(s: Study) -> str:
    """Measure δ by layer with and without batch normalization, by activation and by batch size."""
    norm = "normalization=batch"
    with_norm = {a: profile(s, norm, f"activation={a}", "batch_size=256") for a in ACTIVATION}
    without = profile(s, "activation=relu", "batch_size=256")
    layer = profile(s, "activation=relu", "batch_size=256", "normalization=layer")
    wide = {scale: factor(profile(s, norm, "activation=relu", "batch_size=256", f"initializer.gain={scale}",
                                  seeds=min(3, s.seeds))) for scale in (0.5, 4.0)}  # fmt: skip
    by_batch = {n: factor(profile(s, norm, "activation=relu", f"batch_size={n}", seeds=min(5, s.seeds)))
                for n in BATCHES}  # fmt: skip
    limit = math.sqrt(math.pi / (math.pi - 1))
    expected = []
    for n in BATCHES:
        net = Architecture(ACTIVATIONS["relu"](), (WIDTH,) * (DEPTH + 2), (math.sqrt(2 / WIDTH),) * (DEPTH + 1),
                           normalization="batch", batch_size=n)  # fmt: skip
        expected.append(predict(net, 2.0).factor or np.nan)
    found = {a: factor(d) for a, d in with_norm.items()}
    s.log(**{f"factor/{a}": f for a, f in found.items()})
    s.log(**{f"factor_relu/batch_{n}": f for n, f in by_batch.items()}, factor_none=factor(without),
          factor_layer_norm=factor(layer), published_relu=limit)  # fmt: skip

    figure = new_figure(f"gaussian, {DEPTH} layers of {WIDTH}, He", "batch normalization at initialization", 11, 4.4)
    left, right = figure.subplots(1, 2)
    at = np.arange(1, DEPTH + 1)
    for a, colour in ACTIVATION.items():
        band(left, at, with_norm[a] / with_norm[a][:, -1:], f"{a}, batch", colour)
    band(left, at, layer / layer[:, -1:], "relu, layer", GREY, "--")
    band(left, at, without / without[:, -1:], "relu, none", "black", ":")
    left.set_yscale("log")
    style_axes(left, "hidden layer", "‖δ‖, relative to the last", "batches of 256")
    right.plot(BATCHES, list(by_batch.values()), "o", color=BLUE, label="measured, ReLU")
    right.plot(BATCHES, expected, "--", color=GREY, label="theory for this batch size")
    right.axhline(limit, color="black", lw=0.9, ls=":", label="published: √(π / (π − 1)), large batches")
    right.set_xscale("log", base=2)
    style_axes(right, "batch size", "factor of ‖δ‖ per layer", "small batches explode more")
    legend_below(left, 3)
    legend_below(right, 1)
    s.draw(figure)
    alike = abs(wide[4.0] / wide[0.5] - 1) < 0.05
    small, large = by_batch[BATCHES[0]], by_batch[BATCHES[-1]]
    return f"""
    {"Yes" if found["relu"] > 1 else "No"}: with batch normalization δ changes by a factor of {found["relu"]:.3f} per
    ReLU layer
    on its way back (published limit
    √(π/(π−1)) = {limit:.3f}, {100 * abs(found["relu"] / limit - 1):.1f} % apart), {found["tanh"]:.3f} for tanh,
    {found["linear"]:.3f} for linear. The weights' scale {"does not matter" if alike else "matters"} ({wide[0.5]:.3f}
    and {wide[4.0]:.3f} with gains
    of 0.5 and 4). Over {DEPTH} layers that is a factor of {found["relu"] ** (DEPTH - 1):.0f}. Without normalization it
    is {factor(without):.3f}, with layer normalization {factor(layer):.3f}. Small batches
    {"explode faster" if small > large else "do not explode faster"}: by {small:.3f} per layer for batches of
    {BATCHES[0]}.
    """


if __name__ == "__main__":
    sys.exit(run.main())
