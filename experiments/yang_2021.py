"""Yang et al. 2021: does the best learning rate stay where it was from width 64 to 1024?

Published: under the maximal update parametrization the best learning rate does not depend on the width, under the
standard one it falls as networks grow wider (figure 1: transformers under Adam).
"""

import sys

import numpy as np

from bpx.figures.canvas import Picture, figure_legend, new_figure, shades, style_axes
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data
from bpx.system.text import counted

WIDTHS = (64, 256, 1024)
EXPONENTS = (-11, -10, -9, -8, -7, -6, -5)  # of 2: the learning rates
STEPS = 100
SETUP = (
    "dataset=digits", "model.depth=2", "optimizer=adam", "batch_size=64", "epochs=100", "probes=none",
    "tracking.per_layer=[]",
)  # fmt: skip
PARAMETRIZATIONS = {"standard": "initializer=he_normal", "mup": "initializer=mup"}


def measure(s: Study) -> Data:
    """Train every width at every learning rate in both parametrizations, and keep the cost on the training part."""
    widths, exponents = (WIDTHS, EXPONENTS) if not s.quick else (WIDTHS[:2], EXPONENTS[::3])
    steps = STEPS if not s.quick else 10
    found: Data = {"widths": widths, "rates": [2.0**e for e in exponents], "steps": steps}
    for name, word in PARAMETRIZATIONS.items():
        cost = np.full((s.seeds, len(widths), len(exponents)), np.nan)
        for i, width in enumerate(widths):
            for j, e in enumerate(exponents):
                words = (*SETUP, word, f"model.width={width}", f"optimizer.lr={2.0**e}", f"max_steps={steps}")
                made = s.train(f"{name} width {width} lr 2^{e}", *words)
                cost[:, i, j] = [r.metrics.get("cost/train", np.nan) for r in made]
        found[name] = np.median(cost, axis=0)
        best = best_rates(found[name], np.array(found["rates"]))
        s.log(**{f"best_rate/{name}/{n}": b for n, b in zip(widths, best, strict=True)})
        s.log(**{f"shift/{name}": np.log2(best[-1] / best[0])})
    return found


def best_rates(cost: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """Return the learning rate of the lowest cost for every width."""
    return np.array(rates[np.argmin(np.nan_to_num(cost, nan=np.inf), axis=1)])


def draw(data: Data) -> Picture:
    """Draw the cost over the learning rate, a line for every width, the best marked."""
    name = f"digits, 2 hidden layers, Adam, {data['steps']} steps, {counted(data['seeds'], 'seed')}"
    figure = new_figure(name, "does the best learning rate move with the width?", 9.5, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    widths, rates = data["widths"], np.array(data["rates"])
    for axes, key in zip(panels, PARAMETRIZATIONS, strict=True):
        for n, cost, colour in zip(widths, data[key], shades(len(widths)), strict=True):
            best = int(np.argmin(np.nan_to_num(cost, nan=np.inf)))
            axes.plot(rates, cost, ".-", color=colour, label=f"width {n}")
            axes.plot(rates[best], cost[best], "o", color=colour, ms=9, mfc="none")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        style_axes(axes, "learning rate", "training cost, median", {"mup": "maximal update"}.get(key, key))
    figure_legend(figure, panels, 6)
    return figure


def word(data: Data) -> str:
    """Say the best learning rate at every width in both parametrizations."""
    rates, said = np.array(data["rates"]), []
    shift = {}
    for key in PARAMETRIZATIONS:
        best = best_rates(np.array(data[key]), rates)
        shift[key] = float(np.log2(best[-1] / best[0]))
        pairs = ", ".join(f"{n}: 2^{np.log2(b):.0f}" for n, b in zip(data["widths"], best, strict=True))
        said.append(f"{key}: {pairs}")
    return f"""
    Best learning rate by width (median of {counted(data["seeds"], "seed")}, cost over {data["steps"]} steps):
    {"; ".join(said)}. From the narrowest to the widest it moves by a factor of 2^{shift["standard"]:.0f} in the
    standard parametrization and of 2^{shift["mup"]:.0f} in the maximal update one; published: it falls in the first
    and stays in the second.
    """


run = StudyCommand(measure, draw, word, seeds=3, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
