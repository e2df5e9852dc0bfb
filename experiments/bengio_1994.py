"""Bengio et al. 1994, Pascanu et al. 2013: from which recurrent weights on do gradients vanish or explode through time?

Published: a gradient that flows back through t steps changes as ρ^t, ρ the spectral radius of the recurrent weights,
times the slopes of the activation: where the largest singular value is below 1 / max φ' it must vanish, and to explode
it has to be above (Bengio 1994, section 3; Pascanu 2013, section 2.1). Theory of wide networks says the factor itself:
√χ₁ of the recurrent map, with the inputs in the place of biases. The cliff that an explosion makes is in pascanu_2013.
"""

import sys

import numpy as np

from bpx.diagnosis.time_theory import predict_time
from bpx.figures.canvas import GREY, Picture, colours, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.probes.through_time import recurrent_layers, state_grad_l2
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

STEPS, WIDTH = 40, 200
RADII = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0)
PROFILED = (0.7, 1.4, 2.0)
KINDS = {
    "linear, orthogonal": ("activation=linear", "model.recurrent=orthogonal"),
    "tanh, orthogonal": ("activation=tanh", "model.recurrent=orthogonal"),
    "tanh, Gaussian": ("activation=tanh", "model.recurrent=same"),
}
GAUSSIAN, BOUNDED = "tanh, Gaussian", "tanh, orthogonal"
SETUP = (
    "dataset=adding", "dataset.n_samples=1000", f"dataset.steps={STEPS}", "model=rnn", "model.depth=1",
    f"model.width={WIDTH}", "initializer=lecun_normal", "batch_size=16", "dtype=float64",
)  # fmt: skip


def measure(s: Study) -> Data:
    """Follow a random delta of the last step back through networks of several spectral radii."""
    data: Data = {"norm": {}, "factor": {}, "theory": {}, "profile": {}}
    for kind, words in KINDS.items():
        factor, theory, largest = [], [], []
        for scale in RADII:
            found, predicted, sizes = [], [], []
            for net, _, _ in s.draws(*SETUP, *words, f"model.recurrent_scale={scale}", random_delta=True):
                (cell,) = recurrent_layers(net)
                found.append(np.log10(state_grad_l2(cell)))
                slope = predict_time(net, cell).slope
                predicted.append(np.nan if slope is None else 10**slope)
                sizes.append(np.linalg.norm(cell.W.value, 2))
            logs = np.array(found)
            factor.append(10 ** ((logs[:, 0] - logs[:, -1]) / (STEPS - 1)))
            theory.append(np.median(predicted))
            largest.append(np.median(sizes))
            if kind == GAUSSIAN and scale in PROFILED:
                data["profile"][str(scale)] = percentiles(logs - logs[:, -1:])
        data["factor"][kind], data["theory"][kind] = percentiles(np.array(factor).T), theory
        data["norm"][kind] = largest
        s.log(**{f"off_theory/{kind.replace(', ', '_')}": np.abs(data["factor"][kind][1] / theory - 1).max()})
    return data


def draw(data: Data) -> Picture:
    """Draw the factor per step over the spectral radius beside theory, and the gradient by step."""
    name = f"adding problem over {STEPS} steps, {WIDTH} units, {counted(data['seeds'], 'network')}"
    figure = new_figure(name, "gradients through time, over the spectral radius", 12, 4.8)
    left, right = figure.subplots(1, 2)
    for kind, colour in zip(KINDS, colours(len(KINDS)), strict=True):
        band(left, RADII, data["factor"][kind], kind, colour, "none" if kind == BOUNDED else "-")
    left.plot(RADII, data["theory"][GAUSSIAN], "--", color=GREY, lw=1.2, label="tanh: theory, √χ₁")
    left.axhline(1, color=GREY, lw=0.8)
    for (scale, profile), colour in zip(data["profile"].items(), colours(len(PROFILED)), strict=True):
        band(right, np.arange(1, STEPS + 1), profile, f"ρ = {scale}", colour)
        slope = np.log10(data["theory"][GAUSSIAN][RADII.index(float(scale))])
        right.plot([1, STEPS], [slope * (STEPS - 1), 0], "--", color=colour, lw=1.2)
    style_axes(left, "spectral radius ρ of the recurrent weights, as drawn", "factor of ‖∂J/∂h_t‖ per step back",
               "at initialization")  # fmt: skip
    style_axes(right, "step t", "log10 of ‖∂J/∂h_t‖ over that of the last", f"{GAUSSIAN}; dashed: theory")
    for axes in (left, right):
        legend_below(axes, 2)
    return figure


def edge(factor: np.ndarray) -> float:
    """Return the spectral radius at which ``factor``, by radius, passes through 1."""
    return float(np.interp(1.0, factor, RADII))


def word(data: Data) -> str:
    """Say the factors beside theory, and where the published conditions stand."""
    measured = {kind: np.asarray(found)[1] for kind, found in data["factor"].items()}
    away = {kind: 100 * np.abs(measured[kind] / data["theory"][kind] - 1).max() for kind in KINDS}
    radii, gaussian, theory = np.array(RADII), measured[GAUSSIAN], data["theory"][GAUSSIAN]
    vanishes = all((found[radii < 1] < 1).all() for found in measured.values())
    within = bool((measured[BOUNDED] <= 1.001 * radii).all())
    said = ", ".join(f"×{gaussian[i]:.3f} ({theory[i]:.3f})" for i in map(RADII.index, PROFILED))
    norm = data["norm"][GAUSSIAN][RADII.index(0.7)]
    return f"""
    {"As published" if vanishes and within else "Not as published"}: below ρ = 1 every gradient vanishes, and with
    orthogonal weights, whose singular values are all ρ, none grows by more than ρ a step. With Gaussian weights a step
    back changes ‖∂J/∂h_t‖ by {said} at ρ = {", ".join(map(str, PROFILED))} (in brackets theory, √χ₁). Neither condition
    is sharp: a largest singular value of {norm:.2f} at ρ = 0.7 does not make it explode, and tanh, driven by the
    inputs, goes from vanishing to exploding at ρ = {edge(gaussian):.2f} (theory {edge(theory):.2f}), a linear one at
    {edge(measured["linear, orthogonal"]):.2f}. Over all radii theory is at most {away["linear, orthogonal"]:.1f} %
    (linear), {away[BOUNDED]:.1f} % (tanh, orthogonal) and {away[GAUSSIAN]:.1f} % (tanh, Gaussian) a step away.
    """


run = StudyCommand(measure, draw, word, seeds=10, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
