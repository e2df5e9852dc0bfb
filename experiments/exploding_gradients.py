"""Do weights from N(0, 2²) make the same sigmoid network's gradients explode, as is often said?"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, RED, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.records import Outcome
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
from bpx.theory import slope_verdict
from experiments.signals import initial_profiles, metric_name
from experiments.vanishing_gradients import LAYERS, predicted, profiles

STDS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
HIDDEN = 20
DEEP = (
    "dataset=digits", f"model.depth={HIDDEN}", "model.width=100", "activation=relu", "initializer=he_normal",
    "optimizer.lr=0.02", "epochs=5",
)  # fmt: skip
TWICE = "initializer.gain=2"  # instead of √2: δ grows by √2 a layer
CURES = {
    "gain 2": (TWICE,),
    "gain 2, clipped to norm 1": (TWICE, "optimizer.clip_norm=1"),
    "gain 2, layer normalization": (TWICE, "normalization=layer"),
    "gain √2 (He)": (),
}


def factor(delta: np.ndarray) -> np.ndarray:
    """Return each network's factor of ‖δ‖ per layer over the hidden layers, going backward."""
    return np.asarray((delta[:, 0] / delta[:, -2]) ** (1 / (LAYERS - 2)))


def measure(s: Study) -> Data:
    """Measure the factor per layer for weights of every scale, then explode a network in earnest and cure it."""
    measured = [factor(profiles(s, std)["delta"]) for std in STDS]
    theory = np.array([predicted(std) for std in STDS])
    two = STDS.index(2.0)
    share = float(np.mean(measured[two] > 1))
    s.log(factor_at_2=np.median(measured[two]), predicted_factor_at_2=theory[two], share_growing_at_2=share)

    repeats = 2 if s.quick else 5
    runs = {name: s.train(name, *DEEP, *more, seeds=repeats) for name, more in CURES.items()}
    delta = {name: initial_profiles(s, *DEEP, *more, seeds=repeats) for name, more in CURES.items()}
    growth = {name: np.median(d[:, 0] / d[:, -1]) for name, d in delta.items()}
    accuracy = {name: np.array([r.metrics.get("accuracy/test", np.nan) for r in made]) for name, made in runs.items()}
    reached = {name: float(np.nanmedian(v)) for name, v in accuracy.items() if np.isfinite(v).any()}
    diverged = sum(r.outcome == Outcome.DIVERGED for r in runs["gain 2"])
    s.log(growth_gain_2=growth["gain 2"], growth_he=growth["gain √2 (He)"], diverged_gain_2=diverged / repeats)
    s.log(**{f"accuracy/{metric_name(name)}": value for name, value in reached.items()})
    costs = {}
    for name, made in runs.items():
        finished = [r.history("cost/train") for r in made if r.outcome == Outcome.FINISHED]
        if finished:
            costs[name] = {"step": finished[0][0], "cost": percentiles([cost for _, cost in finished])}
    return {"factor": percentiles(np.array(measured).T), "theory": theory, "share": share, "repeats": repeats,
            "delta": {name: percentiles(d) for name, d in delta.items()}, "growth": growth["gain 2"],
            "diverged": diverged, "accuracy": reached, "costs": costs}  # fmt: skip


def draw(data: Data) -> Picture:
    """Draw the factor by the weights' scale, δ of the networks that grow, and their training."""
    figure = new_figure("gaussian, 10×5 sigmoid; digits, 20×100 ReLU", "where δ explodes, and what cures it", 11.5, 4.4)
    left, middle, right = figure.subplots(1, 3)
    band(left, STDS, data["factor"], "measured", BLUE)
    left.plot(STDS, data["theory"], "--", color=GREY, label="theory")
    left.axhline(1, color="black", lw=0.8)
    left.axvline(2, color=RED, lw=0.8, ls=":", label="N(0, 2²)")
    left.set_xscale("log")
    left.set_yscale("log")
    style_axes(left, "std of the weights", "factor of ‖δ‖ per layer", "10 layers of 5 sigmoid units")
    for name, colour in zip(CURES, (RED, ORANGE, BLUE, GREEN), strict=True):
        delta = data["delta"][name]
        at = np.arange(1, delta.shape[1] + 1)
        band(middle, at, delta, name, colour, "--" if "clipped" in name else "-")
        if name in data["costs"]:
            band(right, data["costs"][name]["step"], data["costs"][name]["cost"], name, colour)
        else:
            right.plot([], [], color=colour, label=f"{name}: diverged")
    middle.set_yscale("log")
    style_axes(middle, "hidden layer", "‖δ‖ at initialization", "20 layers of 100 ReLU units")
    right.set_yscale("log")
    style_axes(right, "optimizer step", "training cost", "and in training")
    for axes in (left, middle, right):
        legend_below(axes, 1)
    return figure


def word(data: Data) -> str:
    """Say whether N(0, 2²) explodes, what does, and what cures it."""
    factors, two = data["factor"][1], STDS.index(2.0)
    highest = int(factors.argmax())
    outcome = slope_verdict(np.log10(data["growth"]) / (HIDDEN - 1), HIDDEN)
    best = {name: f"{100 * data['accuracy'][name]:.0f} %" if name in data["accuracy"]
            else "nothing, all runs diverge," for name in CURES}  # fmt: skip
    grows = factors[-1] / factors[two]
    vanishes = factors[two] < 1
    return f"""
    {"No" if vanishes else "Yes"}: with N(0, 2²) δ {"vanishes" if vanishes else "grows"}, by a factor of
    {factors[two]:.2f} per layer (theory for five units: {data["theory"][two]:.2f}; for wide layers 0.67); in
    {100 * data["share"]:.1f} % of {counted(data["seeds"], "network")} does it grow. Large weights saturate the
    sigmoid: from N(0, 2²) to N(0, {STDS[-1]:g}²) the weights grow {STDS[-1] / 2:g} times, and the factor
    {"grows" if grows > 1 else "falls"} to {grows:.2f} of what it was. {"No" if factors.max() < 1 else "Some"} scale
    tried makes these layers explode, the largest median factor is {factors[highest]:.2f}, at
    N(0, {STDS[highest]:g}²). A network that does grow: {HIDDEN} ReLU layers of 100 with gain 2, where δ is
    {data["growth"]:.0f} times larger at the first hidden layer than at the last ({outcome}; √2 per layer would make
    {2 ** ((HIDDEN - 1) / 2):.0f}); {data["diverged"]} of {data["repeats"]} runs diverge. Clipped to norm 1 it reaches
    {best["gain 2, clipped to norm 1"]} on the digits, with layer normalization {best["gain 2, layer normalization"]},
    with He's gain {best["gain √2 (He)"]}.
    """


run = StudyCommand(measure, draw, word, seeds=1000, quick=50)


if __name__ == "__main__":
    sys.exit(run.main())
