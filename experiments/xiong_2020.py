"""Xiong et al. 2020: where are a Transformer's gradients large at initialization, with the norm after or before?

Published: with layer normalization after each addition (post-norm) the gradient of the last layer's feed-forward
weights does not depend on the number of layers L, and gradients shrink from the output to the input; with normalization
inside the branches (pre-norm) it falls as 1/√L. (Theorem 1, figure 3.) A random δ of length 1 or so is sent back from
every token, so that what is measured is the network's own. Needs the extra ``torch``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from bpx.figures.canvas import GREY, Picture, colours, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.probes.scales import QUANTITIES
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
from experiments.signals import linear_cost

if TYPE_CHECKING:
    from torch import nn

WIDTH, HEADS, WORDS, LENGTH, BATCH = 64, 4, 100, 16, 8
DEPTHS = (4, 6, 8, 12, 16)
PROFILED = 12
KINDS = ("post-norm", "pre-norm")


def transformer(depth: int, kind: str) -> nn.Sequential:
    """Return an encoder of ``depth`` layers that classifies token by token, drawn by Xavier as published.

    Its output is (batch, length, words).
    """
    from torch import nn

    before = kind == "pre-norm"
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, batch_first=True, norm_first=before)
    embed = nn.Embedding(WORDS, WIDTH)
    encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(WIDTH) if before else None, enable_nested_tensor=False)
    out = nn.Linear(WIDTH, WORDS)
    for p in encoder.parameters():
        if p.dim() > 1:
            nn.init.xavier_normal_(p)
    return nn.Sequential(embed, encoder, out)


def gradients(depth: int, kind: str) -> np.ndarray:
    """Return the norm of dJ/dW of the second feed-forward matrix of every layer, from the input on, (depth,)."""
    import torch

    from bpx.torch.passes import batch, measured_pass

    model = transformer(depth, kind)
    ids = torch.randint(0, WORDS, (BATCH, LENGTH))
    delta = torch.randn(BATCH, LENGTH, WORDS) / (LENGTH * WORDS**0.5)  # of the mean over the tokens
    with measured_pass(model, batch(ids, delta, linear_cost, "mean", None, None)) as measured:
        norms = measured.scales()[:, QUANTITIES.index("grad_norm")]
        return np.array([n for n, name in zip(norms, measured.modules, strict=True) if name.endswith("linear2")])


def measure(s: Study) -> Data:
    """Draw encoders of several depths for each seed and measure one backward pass."""
    import torch

    data: Data = {"last": {}, "profile": {}, "exponent": {}, "first_over_last": {}}
    for kind in KINDS:
        found: dict[int, list[np.ndarray]] = {depth: [] for depth in DEPTHS}
        for seed in range(s.seeds):
            torch.manual_seed(seed)
            for depth in DEPTHS:
                found[depth].append(gradients(depth, kind))
        last = np.array([[profile[-1] for profile in found[depth]] for depth in DEPTHS]).T  # (seeds, depths)
        profiles = np.array(found[PROFILED])
        data["last"][kind] = percentiles(last)
        data["profile"][kind] = percentiles(np.log10(profiles))
        data["exponent"][kind] = float(np.polyfit(np.log(DEPTHS), np.log(np.median(last, axis=0)), 1)[0])
        data["first_over_last"][kind] = float(np.median(profiles[:, 0] / profiles[:, -1]))
        s.log(**{f"exponent/{kind}": data["exponent"][kind], f"first_over_last/{kind}": data["first_over_last"][kind]})
    return data


def draw(data: Data) -> Picture:
    """Draw the gradient by layer, and the last layer's against the number of layers."""
    name = f"nn.TransformerEncoder, width {WIDTH}, Xavier initialization, {counted(data['seeds'], 'network')}"
    figure = new_figure(name, "post- against pre-norm: the gradient of the second feed-forward matrix", 12, 4.8)
    left, right = figure.subplots(1, 2)
    for kind, colour in zip(KINDS, colours(len(KINDS)), strict=True):
        band(left, np.arange(1, PROFILED + 1), data["profile"][kind], kind, colour)
        band(right, DEPTHS, data["last"][kind], f"{kind}, ∝ L^{data['exponent'][kind]:.2f}", colour)
        start, exponent = data["last"][kind][1, 0], -0.5 if kind == "pre-norm" else 0.0
        right.plot(DEPTHS, start * (np.array(DEPTHS) / DEPTHS[0]) ** exponent, "--", color=GREY, lw=1.2)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
    right.set_yticks([0.1, 0.15, 0.2, 0.3, 0.4], ["0.1", "0.15", "0.2", "0.3", "0.4"])
    right.minorticks_off()
    left.set_xticks(range(2, PROFILED + 1, 2))
    style_axes(left, "layer, from the input", "log10 of ‖∂J/∂W₂‖", f"{PROFILED} layers")
    style_axes(right, "number of layers L", "‖∂J/∂W₂‖ of the last layer", "dashed: published, L⁰ and L^(−1/2)")
    for axes in (left, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say what the exponents and the profiles are."""
    post, pre = (data["exponent"][kind] for kind in KINDS)
    as_published = abs(post) < 0.15 and abs(pre + 0.5) < 0.15
    ratio = data["first_over_last"]
    shrinks = ratio["post-norm"] < 0.9
    found = "the largest gradients are at the output, as published" if shrinks else "gradients do not shrink yet"
    return f"""
    {"As published" if as_published else "Not as published"}: the gradient of the last layer's feed-forward weights goes
    with the number of layers as L^{post:.2f} with post-norm (published 0) and as L^{pre:.2f} with pre-norm (published
    −0.5). In {PROFILED} layers the first layer's gradient is ×{ratio["post-norm"]:.2f} of the last one's with
    post-norm and ×{ratio["pre-norm"]:.2f} with pre-norm. With the norm after it {found}; that they are large at the
    output is what the paper gives as the reason for a warm-up of the learning rate.
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
