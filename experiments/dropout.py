"""What does inverted dropout with p = 0.5 do to a layer, and what stays as it was?"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREY, ORANGE, RED, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, study

RATE, UNITS, ROWS = 0.5, 20, 10
SETUP = (
    f"model.hidden=[{UNITS}]", "activation=relu", "dropout=inverted", f"dropout.rate={RATE}",
    "dataset=gaussian", "dataset.n_in=20", "dataset.n_out=1", "loss=mean_squared_error", f"batch_size={ROWS}",
)  # fmt: skip
AVERAGED = (1, 3, 10, 30, 100, 300)


@study(seeds=1000, quick=100)
def run(s: Study) -> str:
    """Drop units of one layer many times, count them, and average the outputs."""
    dropped, scaled, kept = [], [], []
    for net, x, _ in s.draws(*SETUP):  # noqa: B007  # the last batch is used again below
        a, mask = net.blocks[1].y, net.blocks[2].mask
        dropped.append(np.mean(mask == 0))
        scaled.append(1 - mask.mean())
        on = (mask > 0) & (a > 0)
        kept.append((net.blocks[2].y[on] / a[on]).mean())
    sums, errors = np.zeros_like(a, np.float64), []
    for n in range(1, max(AVERAGED) + 1):
        net.forward(x, train=True)
        sums += net.blocks[2].y
        if n in AVERAGED:
            errors.append(np.abs(sums / n - net.blocks[1].y).mean() / np.abs(net.blocks[1].y).mean())
    net.forward(x, train=False)
    same = np.array_equal(net.blocks[3].x, net.blocks[1].y)
    variance = 1 + RATE / (1 - RATE)
    s.log(dropped=np.mean(dropped), by_the_scaled_mask=np.mean(scaled), scale_of_the_kept=np.mean(kept),
          error_of_one=errors[0], error_of_300=errors[-1])  # fmt: skip

    figure = new_figure(f"one batch of {ROWS} samples, {UNITS} units", f"inverted dropout, p = {RATE:g}", 11.5, 5.4)
    panels = figure.subplot_mosaic([["a", "mask", "y"], ["share", "share", "mean"]])
    net.forward(x, train=True)
    most = float(net.blocks[2].y.max())
    for name, values, title in (
        ("a", net.blocks[1].y, "activations"),
        ("mask", net.blocks[2].mask, "mask: 0 or 1 / (1 − p)"),
        ("y", net.blocks[2].y, "after dropout"),
    ):
        image = panels[name].imshow(values, cmap="viridis", vmin=0, vmax=2 if name == "mask" else most, aspect="auto")
        style_axes(panels[name], "unit", "sample", title)
        panels[name].grid(False)
        figure.colorbar(image, ax=panels[name])
    bins = np.linspace(0.3, 0.7, 41)
    panels["share"].hist(dropped, bins, color=BLUE, alpha=0.8, label="share of zeros in the mask")
    panels["share"].hist(scaled, np.linspace(-0.2, 0.2, 41), color=RED, alpha=0.5, label="1 − mean of the scaled mask")
    panels["share"].axvline(RATE, color=GREY, ls="--", label="p")
    style_axes(panels["share"], "fraction dropped", "batches", f"{s.seeds} batches" if s.seeds > 1 else "one batch")
    panels["share"].legend(fontsize=8, frameon=False)
    band(panels["mean"], AVERAGED, [errors], "measured", ORANGE)
    panels["mean"].plot(AVERAGED, errors[0] / np.sqrt(AVERAGED), "--", color=GREY, label="1/√n")
    panels["mean"].set_xscale("log")
    panels["mean"].set_yscale("log")
    style_axes(panels["mean"], "masks averaged, n", "relative error", "the mean of y tends to a")
    panels["mean"].legend(fontsize=8, frameon=False)
    s.draw(figure)
    low, high = 100 * np.percentile(dropped, (10, 90))
    spread = f"{low:.0f} to {high:.0f} % in 80 % of {s.seeds} batches" if s.seeds > 1 else "in one batch"
    return f"""
    {100 * np.mean(dropped):.1f} % of the units are dropped ({spread}); counted from the scaled mask, as is
    sometimes done, it would seem {100 * np.mean(scaled):.1f} %. What is kept is scaled by {np.mean(kept):.3f}, so that
    the mean over masks is the layer without dropout: one mask is off by {100 * errors[0]:.0f} %, the mean of
    {max(AVERAGED)} by {100 * errors[-1]:.0f} %. The second moment is multiplied by {variance:g}, which theory counts
    as a larger σw². Evaluation {"changes nothing" if same else "differs"}.
    """


if __name__ == "__main__":
    sys.exit(run.main())
