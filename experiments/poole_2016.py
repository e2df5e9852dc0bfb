"""Poole et al. 2016: do lengths and correlations travel through a wide random network as the maps say?

Published: in a wide tanh network the length q and the correlation c of two inputs follow one-dimensional maps; with
σw small inputs converge (order), with σw large they part (chaos). (Sections 2 and 3, figures 1 and 2.)
"""

import sys

import numpy as np

from bpx.engine import ACTIVATIONS
from bpx.figures.canvas import GREY, Picture, legend_below, new_figure, shades, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
from bpx.theory import mean_field, phase_diagram
from bpx.theory.meanfield import Ensemble

WIDTH, DEPTH, SIGMA_B = 500, 25, 0.3
SIGMAS = (1.0, 1.3956, 2.5, 4.0)  # 1.3956: the edge of chaos at σb = 0.3
SETUP = (
    f"model.width={WIDTH}", f"model.depth={DEPTH}", "activation=tanh", "initializer=lecun_normal",
    f"initializer.bias_std={SIGMA_B}", "dataset=gaussian", f"dataset.n_in={WIDTH}", "batch_size=2",
    "loss=mean_squared_error",
)  # fmt: skip
START = 0.6  # the inputs' correlation


def measured(s: Study, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return length and correlation of two inputs by layer, (seeds, DEPTH)."""
    rng, q, c = np.random.default_rng(0), [], []
    for net, _, _ in s.draws(*SETUP, f"initializer.sigma_w={sigma}"):
        u, v = rng.standard_normal((2, WIDTH))
        x = np.array([u, START * u + np.sqrt(1 - START**2) * v], np.float32)
        net.forward(x, train=True)
        z = np.array([dense.y for dense in net.dense[:-1]], np.float64)  # (DEPTH, 2, WIDTH)
        product, length = np.mean(z[:, 0] * z[:, 1], axis=1), np.mean(z**2, axis=2)
        q.append(length.mean(axis=1))
        c.append(product / np.sqrt(length[:, 0] * length[:, 1]))
    return np.array(q), np.array(c)


def predicted(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the same from the maps."""
    net = Ensemble(ACTIVATIONS["tanh"](), sigma, SIGMA_B)
    q, c = [sigma**2 + SIGMA_B**2], [(sigma**2 * START + SIGMA_B**2) / (sigma**2 + SIGMA_B**2)]
    for _ in range(DEPTH - 1):
        c.append(net.correlation(c[-1], q[-1]))
        q.append(net.length(q[-1]))
    return np.array(q), np.array(c)


def measure(s: Study) -> Data:
    """Send two inputs through networks of four scales and compare with the maps."""
    data: Data = {"length": {}, "correlation": {}}
    off_q, off_c = 0.0, 0.0
    for sigma in SIGMAS:
        (q, c), (q_map, c_map) = measured(s, sigma), predicted(sigma)
        off_q = max(off_q, float(np.abs(np.median(q, axis=0) / q_map - 1).max()))
        off_c = max(off_c, float(np.abs(np.median(c, axis=0) - c_map).max()))
        data["length"][f"{sigma:g}"] = percentiles(q)
        data["correlation"][f"{sigma:g}"] = percentiles(c)
        c_star = mean_field(ACTIVATIONS["tanh"](), sigma, SIGMA_B).c_star or np.nan
        s.log(**{f"correlation_end/{sigma:g}": np.median(c[:, -1]), f"c_star/{sigma:g}": c_star})
    s.log(largest_error_q=off_q, largest_error_c=off_c)
    return data | {"error_q": off_q, "error_c": off_c}


def draw(data: Data) -> Picture:
    """Draw lengths, correlations, the correlation map, and the plane of both scales."""
    name = f"tanh, width {WIDTH}, σb = {SIGMA_B}, {counted(data['seeds'], 'network')}"
    figure = new_figure(name, "length and correlation maps", 15, 4.4)
    left, middle, right, plane = figure.subplots(1, 4)
    at, tanh = np.arange(1, DEPTH + 1), ACTIVATIONS["tanh"]()
    for sigma, colour in zip(SIGMAS, shades(len(SIGMAS)), strict=True):
        q_map, c_map = predicted(sigma)
        field, net = mean_field(tanh, sigma, SIGMA_B), Ensemble(tanh, sigma, SIGMA_B)
        c = data["correlation"][f"{sigma:g}"]
        band(left, at, data["length"][f"{sigma:g}"], f"σw = {sigma:.3g}", colour)
        band(middle, at, c, f"σw = {sigma:.3g}", colour)
        left.plot(at, q_map, "--", color=GREY, lw=1)
        middle.plot(at, c_map, "--", color=GREY, lw=1)
        grid = np.linspace(0, 1, 60)
        plane.plot(sigma, SIGMA_B, "o", ms=9, color=colour, mec="black", label=f"c → {c[1, -1]:.2f}")
        right.plot(grid, [net.correlation(float(g), field.q_star) for g in grid], color=colour,
                   label=f"σw = {sigma:.3g}, χ₁ = {field.chi_1:.2f}")  # fmt: skip
    right.plot([0, 1], [0, 1], color="black", lw=0.8)
    left.set_yscale("log")
    style_axes(left, "layer", "length q", "dashed: the map")
    style_axes(middle, "layer", "correlation c of two inputs", "dashed: the map")
    style_axes(right, "c in one layer", "c in the next", "the correlation map at q*")
    diagram = phase_diagram(tanh, np.linspace(0.5, 4.5, 100), np.linspace(0, 1, 60))
    chi = np.clip(np.log10(diagram.chi_1), -0.5, 0.5)
    mesh = plane.pcolormesh(diagram.sigma_w, diagram.sigma_b, chi, cmap="RdBu_r", shading="nearest", rasterized=True)
    plane.plot(*diagram.edge, color="black", lw=1.4, label="edge of chaos")
    plane.set_xlim(0.5, 4.5)
    plane.set_ylim(0, 1)
    figure.colorbar(mesh, ax=plane, label="log10 χ₁")
    style_axes(plane, "σw", "σb", "order (blue) and chaos (red)")
    plane.grid(False)
    for axes in (left, middle, right, plane):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say how near measurement and maps are, and where two inputs end."""
    ends = []
    for sigma in SIGMAS:
        c_star = mean_field(ACTIVATIONS["tanh"](), sigma, SIGMA_B).c_star
        ends.append(f"{data['correlation'][f'{sigma:g}'][1, -1]:.2f} at σw = {sigma:.3g} (c* = {c_star:.2f})")
    close = data["error_q"] < 0.1 and data["error_c"] < 0.1
    return f"""
    {"They do" if close else "Not closely"}: over {DEPTH} layers the median of {counted(data["seeds"], "network")}
    stays within {100 * data["error_q"]:.1f} % of the length map and within {data["error_c"]:.3f} of the correlation
    map. Two inputs that start with correlation {START} end at {"; ".join(ends)}. Theory: below the edge of chaos all
    inputs become one, above it they part whatever they were, and only at the edge is the way there long.
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=3)


if __name__ == "__main__":
    sys.exit(run.main())
