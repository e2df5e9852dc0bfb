"""Which networks vanish as PyTorch draws them by default?

``nn.Linear`` and ``nn.Conv2d`` draw their weights from U(±1/√fan_in), whose standard deviation is 1/√(3 fan_in):
σw² = 1/3 in theory's terms, whatever the activation after them. A random δ is sent back, so that what is measured is
the network's own. Needs the extra ``torch``.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bpx.figures.canvas import GREY, Picture, colours, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
from experiments.signals import linear_cost

if TYPE_CHECKING:
    from torch import nn

DEPTH, WIDTH, N_IN, CLASSES, BATCH = 20, 128, 64, 10, 64
CHANNELS, SIDE = 16, 6
KINDS = (
    "Linear, ReLU",
    "Linear, Tanh",
    "Linear, GELU",
    "Linear, Sigmoid",
    "Linear, LayerNorm, ReLU",
    "Linear, BatchNorm, ReLU",
    "Conv2d, ReLU",
    "Conv2d, Tanh",
)
STYLES = {"Linear": "-", "Linear, LayerNorm": "-.", "Linear, BatchNorm": ":", "Conv2d": "--"}


def network(kind: str) -> nn.Sequential:
    """Return the network, as PyTorch draws it."""
    from torch import nn

    weights, *norms, activation = kind.split(", ")
    convolves = weights == "Conv2d"
    widths = [3, *[CHANNELS] * DEPTH] if convolves else [N_IN, *[WIDTH] * DEPTH]
    parts: list[nn.Module] = []
    for a, b in pairwise(widths):
        parts.append(nn.Conv2d(a, b, 3, padding=1) if convolves else nn.Linear(a, b))
        parts += [nn.LayerNorm(b) if norm == "LayerNorm" else nn.BatchNorm1d(b) for norm in norms]
        parts.append(getattr(nn, activation)())
    head = [nn.Flatten(), nn.Linear(CHANNELS * SIDE**2, CLASSES)] if convolves else [nn.Linear(WIDTH, CLASSES)]
    return nn.Sequential(*parts, *head)


def measure(s: Study) -> Data:
    """Draw every network for each seed, send a batch through it, and ask theory."""
    import torch

    from bpx.torch.passes import batch, measured_pass
    from bpx.torch.theory import predict_pass

    data: Data = {"version": torch.__version__.partition("+")[0], "delta": {}, "factor": {}, "theory": {}}
    for kind in KINDS:
        profiles, factors, predicted = [], [], []
        for seed in range(s.seeds):
            torch.manual_seed(seed)
            model = network(kind)
            shape = (BATCH, 3, SIDE, SIDE) if kind.startswith("Conv2d") else (BATCH, N_IN)
            given = batch(torch.randn(shape), torch.randn(BATCH, CLASSES), linear_cost, "mean", None, None)
            with measured_pass(model, given) as measured:
                observation = measured.observation()
                _, prediction = predict_pass(measured)
            assert observation.depth_slope is not None and prediction.factor is not None
            profiles.append(np.log10(observation.delta_l2 / observation.delta_l2[-1]))
            factors.append(observation.depth_slope.factor)
            predicted.append(prediction.factor)
        data["delta"][kind] = percentiles(profiles)
        data["factor"][kind] = np.percentile(factors, (10, 50, 90))
        data["theory"][kind] = float(np.median(predicted))
        s.log(**{f"factor/{kind}": float(np.median(factors)), f"theory/{kind}": data["theory"][kind]})
    return data


def draw(data: Data) -> Picture:
    """Draw delta by layer, and the factor per layer beside theory's."""
    name = f"PyTorch {data['version']}, {DEPTH} layers, {counted(data['seeds'], 'network')} of each kind"
    figure = new_figure(name, "PyTorch's default initialization: delta by layer", 13, 5.2)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    at = np.arange(1, DEPTH + 1)
    activations = list(dict.fromkeys(kind.split(", ")[-1] for kind in KINDS))
    by_name = dict(zip(activations, colours(len(activations)), strict=True))
    for kind in KINDS:
        colour, before = by_name[kind.split(", ")[-1]], kind.rpartition(", ")[0]
        band(left, at, data["delta"][kind], kind, colour, STYLES[before])
        left.text(0.6, data["delta"][kind][1, 0], kind, ha="right", va="center", fontsize=8, color=colour)
    style_axes(
        left, "layer, from the input", "log10 of ‖δ‖₂ over the last hidden layer's", "going backward: to the left"
    )
    left.set_xticks([1, *range(5, DEPTH + 1, 5)])
    left.set_xlim(-5.5, DEPTH + 0.5)
    for i, kind in enumerate(KINDS):
        colour = by_name[kind.split(", ")[-1]]
        low, middle, high = data["factor"][kind]
        right.plot([low, high], [i, i], color=colour, lw=3, alpha=0.5)
        right.plot(middle, i, "o", color=colour, ms=7)
        right.plot(data["theory"][kind], i, "|", color="black", ms=16, mew=1.6, label="theory" if not i else None)
    right.axvline(1, color=GREY, lw=1)
    right.set_yticks(range(len(KINDS)), list(KINDS))
    right.invert_yaxis()
    style_axes(right, "factor of ‖δ‖₂ per layer, going backward", "", "1: the gradient is kept")
    legend_below(right, 1)
    return figure


def word(data: Data) -> str:
    """Say which vanish, and how near theory is."""
    limit = 10 ** (-1 / (DEPTH - 1))
    factor = {kind: float(data["factor"][kind][1]) for kind in KINDS}
    lost = [f"{kind} ×{factor[kind]:.2f}" for kind in KINDS if factor[kind] < limit]
    grown = [f"{kind} ×{factor[kind]:.2f}" for kind in KINDS if factor[kind] > 1 / limit]
    kept = [f"{kind} ×{factor[kind]:.2f}" for kind in KINDS if limit <= factor[kind] <= 1 / limit]
    off = max(abs(data["theory"][kind] / factor[kind] - 1) for kind in KINDS)
    return f"""
    {len(lost)} of {len(KINDS)} kinds: going backward delta changes per layer by {", ".join(lost)}. Over {DEPTH} layers
    a network keeps its gradient within a decade between ×{limit:.2f} and ×{1 / limit:.2f}: so does
    {", ".join(kept) or "none"}; what explodes is {", ".join(grown) or "none"}. Theory, with σw² = 1/3, is within
    {100 * off:.0f} % of every factor. What a layer needs depends on what follows it: `nn.init.kaiming_normal_` for
    ReLU, or a normalization.
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
