"""What do a healthy, a vanishing and an exploding network look like, and does theory know beforehand?"""

import sys

import numpy as np

from bpx import diagnose
from bpx.diagnosis import predict_network
from bpx.figures.canvas import BLUE, GREY, ORANGE, RED, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, study
from bpx.theory import slope_verdict
from experiments.signals import deltas, l2

SETUP = ("dataset=digits", "model.depth=20", "model.width=100", "batch_size=128")
NETWORKS = {
    "healthy": (("activation=relu", "initializer=he_normal"), BLUE, "ReLU, He"),
    "vanishing": (("activation=sigmoid", "initializer=xavier_normal"), ORANGE, "sigmoid, Xavier"),
    "exploding": (("activation=relu", "initializer=he_normal", "initializer.gain=2"), RED, "ReLU, gain 2"),
}


@study(seeds=20, quick=2)
def run(s: Study) -> str:
    """Draw three networks, measure δ by layer, and set theory's band beside it."""
    figure = new_figure(
        f"digits, 20 layers of 100, {s.seeds} seeds", "three networks before their first step", 11.5, 4.2
    )
    said, epochs = [], 1 if s.quick else 10
    panels = figure.subplots(1, 3, sharey=True)  # one scale: what vanishes lies far below what is healthy
    for axes, (name, (setup, colour, label)) in zip(panels, NETWORKS.items(), strict=True):
        profiles, first = [], None
        for net, x, y in s.draws(*SETUP, *setup):
            profiles.append([l2(d) for d in deltas(net)[:-1]])
            first = first or diagnose(net, x, y)
        theory = predict_network(net)[2]  # of the last: it is the same but for the variance of its first z
        delta, at = np.array(profiles), np.arange(1, 21)
        slope = float(np.median(-np.polyfit(at, np.log10(delta).T, 1)[0]))
        line, low, high = (np.median(delta[:, -1]) * 10 ** np.array(x)
                           for x in (theory.log10_delta, theory.low, theory.high))  # fmt: skip
        axes.fill_between(at, low, high, color=GREY, alpha=0.2, lw=0, label="theory: 95 % of networks")
        axes.plot(at, line, "--", color="black", lw=1.3, zorder=4, label=f"theory: ×{theory.factor:.3f} a layer")
        band(axes, at, delta, f"measured: ×{10**slope:.3f} a layer", colour)
        axes.set_yscale("log")
        style_axes(axes, "hidden layer, from the input", "" if name != "healthy" else "‖δ‖₂", f"{name}: {label}")
        legend_below(axes, 1)
        made = s.train(name, *SETUP, *setup, "optimizer.lr=0.05", f"epochs={epochs}",
                       seeds=min(3, s.seeds))  # fmt: skip
        ends = [r.metrics["accuracy/test"] for r in made if r.outcome == "finished"]
        then = (
            f"training reaches {100 * np.median(ends):.0f} % in {epochs} epoch{'s' if epochs > 1 else ''}"
            if ends
            else "training diverges"
        )
        s.log(**{f"factor/{name}": 10**slope, f"predicted/{name}": theory.factor})
        said.append(f"{label}: {slope_verdict(slope, 20)}, ×{10**slope:.3f} per layer where theory says "
                    f"×{theory.factor:.3f}; {then}")  # fmt: skip
    s.draw(figure)
    return f"""
    {". ".join(said)}. The verdict needs no training: one backward pass on one batch tells. What bpx says of the last,
    seed 0: “{first.sentence}”
    """


if __name__ == "__main__":
    sys.exit(run.main())
