"""What does inverted dropout with p = 0.5 do to a layer, and what stays as it was?"""

import sys

import numpy as np

from bpx.engine import Dropout, Network
from bpx.figures.canvas import BLUE, GREY, ORANGE, RED, Picture, new_figure, style_axes
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data

RATE, UNITS, ROWS = 0.5, 20, 10
SETUP = (
    f"model.hidden=[{UNITS}]", "activation=relu", "dropout=inverted", f"dropout.rate={RATE}",
    "dataset=gaussian", "dataset.n_in=20", "dataset.n_out=1", "loss=mean_squared_error", f"batch_size={ROWS}",
)  # fmt: skip
AVERAGED = (1, 3, 10, 30, 100, 300)


def mask_of(net: Network) -> np.ndarray:
    """Return the mask of the dropout layer, (ROWS, UNITS): 0 or 1 / (1 - p)."""
    layer = net.blocks[2]
    assert isinstance(layer, Dropout)
    return layer.mask


def measure(s: Study) -> Data:
    """Drop units of one layer many times, count them, and average the outputs."""
    dropped, scaled, kept = [], [], []
    for net, x, _ in s.draws(*SETUP):  # noqa: B007  # the last batch is used again below
        a, mask = net.blocks[1].y, mask_of(net)
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
    s.log(dropped=np.mean(dropped), by_the_scaled_mask=np.mean(scaled), scale_of_the_kept=np.mean(kept),
          error_of_one=errors[0], error_of_300=errors[-1])  # fmt: skip
    net.forward(x, train=True)
    batch = {"a": net.blocks[1].y, "mask": mask_of(net), "y": net.blocks[2].y}
    return {"dropped": dropped, "scaled": scaled, "kept": np.mean(kept), "errors": errors, "same": same, "batch": batch}


def edges(low: float, high: float) -> list[float]:
    """Return the edges of forty bins."""
    return [float(edge) for edge in np.linspace(low, high, 41)]


def draw(data: Data) -> Picture:
    """Draw one batch before and after, the share of dropped units, and the mean over masks."""
    figure = new_figure(f"one batch of {ROWS} samples, {UNITS} units", f"inverted dropout, p = {RATE:g}", 11.5, 5.4)
    panels = figure.subplot_mosaic([["a", "mask", "y"], ["share", "share", "mean"]])
    most = float(data["batch"]["y"].max())
    for name, title in (("a", "activations"), ("mask", "mask: 0 or 1 / (1 − p)"), ("y", "after dropout")):
        image = panels[name].imshow(
            data["batch"][name], cmap="viridis", vmin=0, vmax=2 if name == "mask" else most, aspect="auto"
        )
        style_axes(panels[name], "unit", "sample", title)
        panels[name].grid(False)
        figure.colorbar(image, ax=panels[name])
    share, mean, errors = panels["share"], panels["mean"], data["errors"]
    share.hist(data["dropped"], edges(0.3, 0.7), color=BLUE, alpha=0.8, label="share of zeros in the mask")
    share.hist(data["scaled"], edges(-0.2, 0.2), color=RED, alpha=0.5, label="1 − mean of the scaled mask")
    share.axvline(RATE, color=GREY, ls="--", label="p")
    style_axes(share, "fraction dropped", "batches", f"{data['seeds']} batches" if data["seeds"] > 1 else "one batch")
    share.legend(fontsize=8, frameon=False)
    mean.plot(AVERAGED, errors, ".-", color=ORANGE, lw=1.5, label="measured")
    mean.plot(AVERAGED, errors[0] / np.sqrt(AVERAGED), "--", color=GREY, label="1/√n")
    mean.set_xscale("log")
    mean.set_yscale("log")
    style_axes(mean, "masks averaged, n", "relative error", "the mean of y tends to a")
    mean.legend(fontsize=8, frameon=False)
    return figure


def word(data: Data) -> str:
    """Say how many units are dropped, what happens to the others, and what stays."""
    dropped, errors, seeds = 100 * data["dropped"], 100 * data["errors"], data["seeds"]
    low, high = np.percentile(dropped, (10, 90))
    spread = f"{low:.0f} to {high:.0f} % in 80 % of {seeds} batches" if seeds > 1 else "in one batch"
    return f"""
    {dropped.mean():.1f} % of the units are dropped ({spread}); counted from the scaled mask, as is
    sometimes done, it would seem {100 * data["scaled"].mean():.1f} %. What is kept is scaled by {data["kept"]:.3f}, so
    that the mean over masks is the layer without dropout: one mask is off by {errors[0]:.0f} %, the mean of
    {max(AVERAGED)} by {errors[-1]:.0f} %. The second moment is multiplied by {1 + RATE / (1 - RATE):g}, which theory
    counts as a larger σw². Evaluation {"changes nothing" if data["same"] else "differs"}.
    """


run = StudyCommand(measure, draw, word, seeds=1000, quick=100)


if __name__ == "__main__":
    sys.exit(run.main())
