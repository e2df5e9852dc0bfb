"""The phase diagram: where gradients vanish and where they explode, over sigma_w and sigma_b."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.figure import Figure

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.parts import restore
from bpx.figures.canvas import legend_below, new_figure, style_axes
from bpx.records import Records
from bpx.theory import PhaseDiagram, phase_diagram_around

_DECADES = 1.0  # of chi_1 to either side of 1; beyond, the colour stays


def phase(diagram: PhaseDiagram, name: str, title: str, points: Sequence[tuple[str, float, float]]) -> Figure:
    """Draw log10 chi_1 in colour, the edge of chaos, and ``points`` (label, sigma_w, sigma_b).

    The edge is solid where lengths settle on it, dashed where they flee.
    """
    figure = new_figure(name, title, 6.4, 4.6)
    axes = figure.subplots()
    w, b = diagram.sigma_w, diagram.sigma_b
    with np.errstate(divide="ignore"):
        colour = np.clip(np.log10(diagram.chi_1), -_DECADES, _DECADES)
    mesh = axes.pcolormesh(w, b, colour, cmap="RdBu_r", vmin=-_DECADES, vmax=_DECADES, shading="nearest")
    mesh.set_rasterized(True)
    bar = figure.colorbar(mesh, ax=axes, extend="both")
    bar.set_label("log10 χ₁: factor of ‖δ‖² per layer")
    for stable, style, text in ((True, "-", "edge of chaos, χ₁ = 1"), (False, "--", "χ₁ = 1, unstable")):
        line = np.where(diagram.stable == stable, diagram.edge, np.nan)
        if np.isfinite(line).any():
            axes.plot(*line, style, color="black", lw=1.6, label=text)
    for label, x, y in points:
        axes.plot(x, y, "o", ms=9, mfc="gold", mec="black", clip_on=False, zorder=5, label=label)
    for x, text in ((0.03, "vanishing"), (0.97, "exploding")):
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "boxstyle": "round"}
        side = "left" if x < 0.5 else "right"
        axes.text(x, 0.95, text, transform=axes.transAxes, ha=side, va="top", bbox=box)
    axes.set_xlim(w[0], w[-1])
    axes.set_ylim(b[0], b[-1])
    style_axes(axes, "σw", "σb")
    axes.grid(False)
    legend_below(axes, 3)
    return figure


def phase_of_run(records: Records, allow: Collection[str] = ()) -> Figure | None:
    """Draw a run's point in the plane of its activation; None where the plane does not speak of it.

    That is a network with normalization or shortcuts, with weights that are not drawn at random, or with fewer
    than two hidden layers. An activation of another module than bpx needs the module's name in ``allow``; without it
    the figure is left out with a warning.
    """
    about = records.about
    if about.get("sigma_w") is None or about["normalization"] != "none" or about["residual"]:
        return None
    try:
        activation = restore("activation", ActivationFunction, ACTIVATIONS, about["activation"], allow)
    except ValueError as error:
        warnings.warn(f"the figure phase is left out: {error}", stacklevel=2)
        return None
    name, sigma_w, sigma_b, keep = activation.name, about["sigma_w"], about["sigma_b"], about["keep"]
    dropout = f", dropout {1 - keep:g}" if keep < 1 else ""
    return phase(
        phase_diagram_around(activation, sigma_w, sigma_b, keep, points=90),
        f"dataset: {about['dataset']}",
        f"{name}{dropout}: where gradients vanish and explode",
        [(f"this run: σw = {sigma_w:.4g}, σb = {sigma_b:.4g}", sigma_w, sigma_b)],
    )
