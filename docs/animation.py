"""python docs/animation.py: delta on its way back through three networks, as docs/delta.gif.

A column is a layer, a cell the mean |delta| of some of its units over a batch of digits, before the first step.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from bpx.engine import mlp
from bpx.figures.canvas import BLUE, ORANGE, RED, log10, new_figure, style_axes
from bpx.probes.probe import weight_layers

OUTPUT = Path(__file__).with_name("delta.gif")
DEPTH, WIDTH, BATCH, UNITS = 20, 100, 128, 12
LOW, HIGH = -12, 3  # decades of the colours
FRAME, HOLD = 160, 3000  # ms: a layer, and the last picture
NETWORKS: dict[str, tuple[str, str | dict[str, object], str]] = {
    "healthy: ReLU, He": ("relu", "he_normal", BLUE),
    "vanishing: sigmoid, Xavier": ("sigmoid", "xavier_normal", ORANGE),
    "exploding: ReLU, gain 2": ("relu", {"name": "he_normal", "gain": 2.0}, RED),
}


def deltas(activation: str, initializer: str | dict[str, object]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean |delta| of some units, (units, layers), and ||delta||_2 of the layers, (layers,)."""
    x, y = load_digits(return_X_y=True)
    x = ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)).astype("float32")
    net = mlp(x.shape[1], [WIDTH] * DEPTH, 10, activation, initializer=initializer).bind(batch=BATCH)
    net.cost(x[:BATCH], y[:BATCH])
    net.backward()
    found = [BATCH * np.asarray(layer.next.dx, float) for layer in weight_layers(net)[:-1]]
    units = np.column_stack([np.abs(delta).mean(axis=0)[:UNITS] for delta in found])
    return units, np.array([np.sqrt((delta**2).sum(axis=1).mean()) for delta in found])


def frame(measured: dict[str, tuple[np.ndarray, np.ndarray]], reached: int) -> Image.Image:
    """Return the picture in which delta has come back to the layer ``reached``."""
    figure = new_figure("digits, 20 hidden layers, before the first step", "δ = ∂J/∂z on its way back", 8.0, 4.6)
    panels = figure.subplot_mosaic("AD;BD;CD", width_ratios=(1.25, 1))
    at = np.arange(1, DEPTH + 1)
    for axes, (name, (units, norms)) in zip((panels[key] for key in "ABC"), measured.items(), strict=True):
        colour = NETWORKS[name][2]
        shown = np.where(at >= reached, log10(units), np.nan)  # white: exactly zero, or not reached yet
        axes.imshow(shown, aspect="auto", cmap="magma", vmin=LOW, vmax=HIGH, extent=(0.5, DEPTH + 0.5, 0, UNITS))
        axes.set_yticks([])
        axes.set_xticks([1, 5, 10, 15, 20])
        style_axes(axes, "hidden layer, from the input" if name.startswith("explod") else "", "", name)
        axes.grid(False)
        panels["D"].plot(at[at >= reached], norms[at >= reached], "o-", ms=3.5, lw=1.4, color=colour, label=name)
    panels["D"].set_yscale("log")
    panels["D"].set_xlim(0.5, DEPTH + 0.5)
    panels["D"].set_ylim(10.0 ** (LOW - 1), 10.0 ** (HIGH + 1))
    panels["D"].legend(loc="lower right", fontsize=8, frameon=False)
    style_axes(panels["D"], "hidden layer, from the input", "‖δ‖₂", "its norm: ← backward")
    file = io.BytesIO()
    figure.savefig(file, dpi=90)
    return Image.open(file).convert("RGB")


def main() -> None:
    """Write the animation."""
    measured = {name: deltas(activation, initializer) for name, (activation, initializer, _) in NETWORKS.items()}
    frames = [frame(measured, reached) for reached in range(DEPTH, 0, -1)]
    shades = frames[-1].quantize(255, method=Image.Quantize.FASTOCTREE)
    small = [picture.quantize(palette=shades, dither=Image.Dither.NONE) for picture in frames]
    times = [FRAME] * (len(small) - 1) + [HOLD]
    small[0].save(OUTPUT, save_all=True, append_images=small[1:], duration=times, loop=0, optimize=True)
    print(f"{OUTPUT} {OUTPUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
