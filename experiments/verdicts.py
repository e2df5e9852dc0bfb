"""What do a healthy, a vanishing and an exploding network look like, and does theory know beforehand?"""

import math
import sys

import numpy as np

from bpx import diagnose
from bpx.diagnosis import predict_network
from bpx.figures.canvas import BLUE, GREY, ORANGE, RED, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.records import Outcome
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
from bpx.theory import slope_verdict
from experiments.signals import deltas, l2

AT = np.arange(1, 21)  # hidden layers
SETUP = ("dataset=digits", "model.depth=20", "model.width=100", "batch_size=128")
NETWORKS = {
    "healthy": (("activation=relu", "initializer=he_normal"), BLUE, "ReLU, He"),
    "vanishing": (("activation=sigmoid", "initializer=xavier_normal"), ORANGE, "sigmoid, Xavier"),
    "exploding": (("activation=relu", "initializer=he_normal", "initializer.gain=2"), RED, "ReLU, gain 2"),
}


def measure(s: Study) -> Data:
    """Draw three networks, measure δ by layer, predict it, and train them."""
    data: Data = {"epochs": 1 if s.quick else 10}
    for name, (setup, _, _) in NETWORKS.items():
        profiles, sentence = [], ""
        for net, x, y in s.draws(*SETUP, *setup):
            profiles.append([l2(d) for d in deltas(net)[:-1]])
            sentence = sentence or diagnose(net, x, y).sentence
        theory = predict_network(net)[2]  # of the last: it is the same but for the variance of its first z
        delta = np.array(profiles)
        slope = float(np.median(-np.polyfit(AT, np.log10(delta).T, 1)[0]))
        made = s.train(name, *SETUP, *setup, "optimizer.lr=0.05", f"epochs={data['epochs']}", seeds=min(3, s.seeds))
        ends = [r.metrics["accuracy/test"] for r in made if r.outcome == Outcome.FINISHED]
        s.log(**{f"factor/{name}": 10**slope, f"predicted/{name}": theory.factor or math.nan})
        data[name] = {
            "delta": percentiles(delta),
            "theory": np.median(delta[:, -1]) * 10.0 ** np.array([theory.low, theory.log10_delta, theory.high]),
            "slope": slope,
            "predicted_factor": theory.factor,
            "accuracy": np.median(ends) if ends else None,
            "sentence": sentence,
        }
    return data


def draw(data: Data) -> Picture:
    """Draw δ by layer, and theory's band beside it."""
    name = f"digits, 20 layers of 100, {counted(data['seeds'], 'seed')}"
    figure = new_figure(name, "three networks before their first step", 11.5, 4.2)
    panels = figure.subplots(1, 3, sharey=True)  # one scale: what vanishes lies far below what is healthy
    for axes, (name, (_, colour, label)) in zip(panels, NETWORKS.items(), strict=True):
        found = data[name]
        low, line, high = found["theory"]
        axes.fill_between(AT, low, high, color=GREY, alpha=0.2, lw=0, label="theory: 95 % of networks")
        factor = f"×{found['predicted_factor']:.3f} a layer"
        axes.plot(AT, line, "--", color="black", lw=1.3, zorder=4, label=f"theory: {factor}")
        band(axes, AT, found["delta"], f"measured: ×{10 ** found['slope']:.3f} a layer", colour)
        axes.set_yscale("log")
        style_axes(axes, "hidden layer, from the input", "" if name != "healthy" else "‖δ‖₂", f"{name}: {label}")
        legend_below(axes, 1)
    return figure


def word(data: Data) -> str:
    """Say the verdicts beside theory's factors, what training reaches, and the finding of the last network."""
    said, epochs = [], data["epochs"]
    for name, (_, _, label) in NETWORKS.items():
        found = data[name]
        then = "training diverges"
        if found["accuracy"] is not None:
            then = f"training reaches {100 * found['accuracy']:.0f} % in {counted(epochs, 'epoch')}"
        outcome, factor = slope_verdict(found["slope"], 20), 10 ** found["slope"]
        theory = f"where theory says ×{found['predicted_factor']:.3f}"
        said.append(f"{label}: {outcome}, ×{factor:.3f} per layer {theory}; {then}")
    return f"""
    {". ".join(said)}. The verdict needs no training: one backward pass on one batch tells. What bpx says of the last,
    seed 0: “{data["exploding"]["sentence"]}”
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
