"""De & Smith 2020: do branches that start small train deep residual networks without normalization?

Published: with shortcuts and without normalization the variance of the residual stream doubles at every block, forward
and backward; with batch normalization it grows by 1 a block, so that a branch is small beside the stream; and a learned
scale at the end of each branch that starts at 0 (SkipInit) trains networks of 1,000 layers (sections 2 and 3; Fixup of
Zhang et al. 2019 starts branches at 0, too). A scale of 1/√L keeps the growth through L blocks at (1 + 1/L)^L < e.
"""

import sys

import numpy as np

from bpx.engine.residual import Residual
from bpx.figures.canvas import Picture, colours, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles

BRANCHES, DEPTHS = 32, (8, 32, 128)
KINDS = {
    "one": ("model.branch_scale=one",),
    "inv_sqrt": ("model.branch_scale=inv_sqrt",),
    "zero": ("model.branch_scale=zero",),
    "one, batch norm": ("model.branch_scale=one", "normalization=batch"),
}
PUBLISHED = {"one": 2.0, "inv_sqrt": 1 + 1 / BRANCHES, "zero": 1.0}  # the factor of a block
SETUP = ("dataset=digits", "model=residual_mlp", "activation=relu", "initializer=he_normal")
DRAWN = (*SETUP, f"model.depth={BRANCHES + 1}", "model.width=256", "batch_size=64", "dtype=float64")
TRAINING = (*SETUP, "model.width=48", "optimizer=momentum", "optimizer.lr=0.02", "epochs=5", "probes=none",
            "tracking.per_layer=[]")  # fmt: skip


def measure(s: Study) -> Data:
    """Measure the stream's variance and gradient block by block, and train networks of several depths."""
    depths = DEPTHS[:2] if s.quick else DEPTHS
    data: Data = {"depths": depths, "forward": {}, "backward": {}, "start": {}, "accuracy": {}}
    for kind, words in KINDS.items():
        forward, backward, start = [], [], []
        for net, _, _ in s.draws(*DRAWN, *words, random_delta=True):
            stream = [block for block in net.blocks if isinstance(block, Residual)]
            after = net.blocks[net.blocks.index(stream[-1]) + 1]
            q = np.array([np.mean(net.dense[0].y ** 2), *(np.mean(block.y**2) for block in stream)])
            g = np.array([np.mean(block.dx**2) for block in (*stream, after)])
            forward.append(np.log10(q / q[0]))
            backward.append(np.log10(g / g[-1]))
            start.append(q[0])
        data["forward"][kind], data["backward"][kind] = percentiles(forward), percentiles(backward)
        data["start"][kind] = np.median(start)
        accuracy = np.zeros((min(s.seeds, 3), len(depths)))
        for i, depth in enumerate(depths):
            runs = s.train(f"{kind}, {depth}", *TRAINING, *words, f"model.depth={depth + 1}", seeds=len(accuracy))
            accuracy[:, i] = [run.metrics.get("accuracy/test", 0.0) for run in runs]
        data["accuracy"][kind] = percentiles(accuracy)
        s.log(**{f"growth/{kind}": 10 ** (data["forward"][kind][1, -1] / BRANCHES),
                 f"accuracy/{kind}": data["accuracy"][kind][1, -1]})  # fmt: skip
    return data


def draw(data: Data) -> Picture:
    """Draw the variance of stream and gradient by block, and the accuracy by depth."""
    figure = new_figure(f"digits, ReLU, width 256 (trained: 48), {data['seeds']} networks (trained: 3)",
                        "residual networks by the scale of their branches", 12.5, 4.6)  # fmt: skip
    left, middle, right = figure.subplots(1, 3)
    block = np.arange(BRANCHES + 1)
    for kind, colour in zip(KINDS, colours(len(KINDS)), strict=True):
        band(left, block, data["forward"][kind], kind, colour)
        band(middle, block, data["backward"][kind], kind, colour)
        if kind in PUBLISHED:
            left.plot(block, block * np.log10(PUBLISHED[kind]), "--", color=colour, lw=1.2)
            middle.plot(block, block[::-1] * np.log10(PUBLISHED[kind]), "--", color=colour, lw=1.2)
        else:
            left.plot(block, np.log10(1 + block / data["start"][kind]), "--", color=colour, lw=1.2)
        band(right, data["depths"], 100 * data["accuracy"][kind], kind, colour)
    right.set_xscale("log", base=2)
    right.set_xticks(data["depths"], [str(depth) for depth in data["depths"]])
    style_axes(left, "block", "log10 of E z² over that of the first", "stream; dashed: published")
    style_axes(middle, "block", "log10 of its gradient² over the last", "gradient; dashed: published")
    style_axes(right, "blocks", "test accuracy / %", "after 5 epochs")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say the growth of a block beside what is published, and the depths that train."""
    growth = {kind: 10 ** (data["forward"][kind][1, -1] / BRANCHES) for kind in KINDS}
    back = {kind: 10 ** (data["backward"][kind][1, 0] / BRANCHES) for kind in KINDS}
    reached = {kind: 100 * data["accuracy"][kind][1] for kind in KINDS}
    near = all(abs(found[kind] / PUBLISHED[kind] - 1) < 0.05 for found in (growth, back) for kind in PUBLISHED)
    deepest = data["depths"][-1]
    trains = reached["zero"][-1] > 80 > reached["one"][-1]
    each = "; ".join(f"{kind}: {', '.join(f'{a:.0f}' for a in found)} %" for kind, found in reached.items())
    return f"""
    {"Yes" if near and trains else "Not as published"}: at initialization a block changes the variance of the stream by
    ×{growth["one"]:.3f} with branch_scale=one (published 2), ×{growth["inv_sqrt"]:.3f} with inv_sqrt (1 + 1/L =
    {PUBLISHED["inv_sqrt"]:.3f}) and ×{growth["zero"]:.3f} with zero (1), and its gradient by ×{back["one"]:.3f},
    ×{back["inv_sqrt"]:.3f} and ×{back["zero"]:.3f}; through {BRANCHES} blocks it grows
    ×{10 ** data["forward"]["one"][1, -1]:.1g}, and with batch normalization
    ×{10 ** data["forward"]["one, batch norm"][1, -1]:.0f}, about linearly as published. Test accuracy after 5 epochs at
    {", ".join(map(str, data["depths"]))} blocks: {each} (0: the cost is not finite).
    Made smaller: digits, {deepest} blocks, not 1,000 layers.
    """


run = StudyCommand(measure, draw, word, seeds=10, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
