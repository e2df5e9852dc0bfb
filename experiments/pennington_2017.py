"""Saxe et al. 2014, Pennington et al. 2017: do orthogonal weights keep every singular value of the Jacobian at 1?

Published: in deep linear networks orthogonal weights make all singular values 1 at any depth, Gaussian ones spread
them, the largest square growing as (L + 1)^(L + 1) / L^L; orthogonal linear networks learn in a time that does not
grow with depth (Saxe 2014); tanh near criticality keeps the isometry, ReLU cannot (Pennington 2017).
"""

import sys

import numpy as np

from bpx.engine import Activation
from bpx.figures.canvas import BLUE, GREY, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.records import Outcome
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles

WIDTH, DEPTHS = 200, (1, 2, 4, 8, 16, 32, 64)
SETUP = (f"model.width={WIDTH}", "dataset=gaussian", f"dataset.n_in={WIDTH}", "batch_size=2", "dtype=float64",
         "loss=mean_squared_error")  # fmt: skip
WEIGHTS = {"orthogonal": ("initializer=orthogonal", BLUE), "Gaussian": ("initializer=lecun_normal", ORANGE)}
GAINS = {"linear": 1.0, "tanh": 1.0, "relu": 2**0.5}
SMALL = 0.1  # scale of the inputs: tanh at σw = 1 is critical where lengths are small
AT_8 = DEPTHS.index(8)
FORMULA = np.array([(L + 1.0) ** (L + 1) / float(L) ** L for L in DEPTHS])  # the largest s² of Gaussian weights
LEARNED = (5, 20, 40)  # layers of the networks that are trained
LEARN = ("dataset=digits", "model.width=64", "activation=linear", "optimizer.lr=0.01", "epochs=10")


def spectra(s: Study, depth: int, activation: str, weights: str, seeds: int) -> np.ndarray:
    """Return the singular values of ∂z^(depth + 1)/∂z^1 for each network, one sample, largest first."""
    name = "initializer.sigma_w" if weights.endswith("normal") else "initializer.gain"
    words = (*SETUP, f"model.depth={depth + 1}", f"activation={activation}", weights, f"{name}={GAINS[activation]}")
    found = []
    for net, x, _ in s.draws(*words, seeds=seeds):
        net.forward(SMALL * x, train=True)
        J, slope = np.eye(WIDTH), np.empty(WIDTH)
        hidden = [layer for layer in net.layers() if isinstance(layer, Activation)]
        for layer, dense in zip(hidden[:-1], net.dense[1:-1], strict=True):
            layer.function.df(layer.x[0], layer.y[0], slope)
            J = J @ (slope[:, None] * dense.W.value)
        found.append(np.linalg.svd(J, compute_uv=False))
    return np.array(found)


def measure(s: Study) -> Data:
    """Compute Jacobians of linear, tanh and ReLU networks, and train deep linear networks."""
    short = ("max_steps=20",) if s.quick else ()
    data: Data = {"largest": {}, "deep": {}, "learning": {}}
    for name, (weights, _) in WEIGHTS.items():
        largest = np.array([spectra(s, depth, "linear", weights, s.seeds)[:, 0] ** 2 for depth in DEPTHS]).T
        data["largest"][name] = percentiles(largest)
        if name == "orthogonal":
            data["off_one"] = np.abs(largest - 1).max()
            s.log(largest_orthogonal=largest.max())
        data["deep"][name] = {}
        for activation in GAINS:
            values = spectra(s, 32, activation, weights, 2)
            data["deep"][name][activation] = {"first": values[0], "range": [values.min(), values.max()],
                                              "zero": np.mean(values < 1e-6)}  # fmt: skip
        data["learning"][name] = {}
        for depth in LEARNED:
            runs = s.train(f"linear {name} {depth}", *LEARN, weights, f"model.depth={depth}", *short,
                           seeds=min(3, s.seeds))  # fmt: skip
            fine = [r for r in runs if r.outcome == Outcome.FINISHED]
            final = np.median([r.metrics["cost/test"] if r in fine else np.nan for r in runs])
            s.log(**{f"cost_test/{name}_{depth}": final})
            data["learning"][name][str(depth)] = {"final": final} | ({
                "step": fine[0].history("cost/train")[0],
                "cost": percentiles([r.history("cost/train")[1] for r in fine]),
            } if fine else {})  # fmt: skip
    s.log(off_the_formula_at_8=abs(data["largest"]["Gaussian"][1, AT_8] / FORMULA[AT_8] - 1),
          largest_tanh_orthogonal=data["deep"]["orthogonal"]["tanh"]["range"][1],
          zero_share_relu=data["deep"]["orthogonal"]["relu"]["zero"])  # fmt: skip
    return data


def draw(data: Data) -> Picture:
    """Draw the largest singular value by depth, all of them at 32 layers, and the training of linear networks."""
    title = "the input-output Jacobian's singular values"
    figure = new_figure(f"width {WIDTH}; right: digits, width 64", title, 11.5, 4.4)
    left, middle, right = figure.subplots(1, 3)
    for name, (_, colour) in WEIGHTS.items():
        band(left, DEPTHS, data["largest"][name], name, colour)
    left.plot(DEPTHS, FORMULA, "--", color=GREY, label="(L + 1)^(L + 1) / L^L")
    left.set_xscale("log")
    left.set_yscale("log")
    style_axes(left, "linear layers, L", "largest s²", "linear")
    styles = {"linear": "-", "tanh": "--", "relu": ":"}
    for activation, style in styles.items():
        for name, (_, colour) in WEIGHTS.items():
            values = np.maximum(data["deep"][name][activation]["first"], 1e-8)
            label = f"{activation}, {name}"
            middle.plot(np.linspace(0, 100, WIDTH), values, style, color=colour, lw=1.6, label=label)
    middle.set_yscale("log")
    style_axes(middle, "rank / %", "singular value", "32 layers at criticality")
    for depth, style in zip(LEARNED, ("-", "--", ":"), strict=True):
        for name, (_, colour) in WEIGHTS.items():
            found = data["learning"][name][str(depth)]
            if "cost" in found:
                band(right, found["step"], found["cost"], f"{name}, {depth} layers", colour, style)
    right.set_yscale("log")
    style_axes(right, "optimizer step", "training cost", "deep linear networks learning")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    return figure


def word(data: Data) -> str:
    """Say what orthogonal and Gaussian weights make of the singular values, and of learning."""
    median = data["largest"]["Gaussian"][1]
    dead = data["deep"]["orthogonal"]["relu"]["zero"]
    (low, high), (lowest, highest) = (data["deep"][name]["tanh"]["range"] for name in WEIGHTS)
    orthogonal, gaussian = (
        ", ".join(f"{data['learning'][name][str(depth)]['final']:.2f}" for depth in LEARNED) for name in WEIGHTS
    )
    return f"""
    Linear: orthogonal weights leave every s² at 1 to {data["off_one"]:.0e} through {DEPTHS[-1]} layers. Gaussian ones
    make the largest {median[AT_8]:.1f} through 8 layers, where the formula for infinite width says {FORMULA[AT_8]:.1f}
    ({100 * abs(median[AT_8] / FORMULA[AT_8] - 1):.0f} % apart), and {median[-1]:.0f} through 64, where it says
    {FORMULA[-1]:.0f}: the deeper the network, the wider it has to be. tanh through 32 layers, small inputs: singular
    values go from {low:.2f} to {high:.2f} with orthogonal weights, from {lowest:.0e} to {highest:.1f} with Gaussian
    ones. ReLU loses the isometry with either: {100 * dead:.0f} % of its singular values are zero. Learning the digits,
    5, 20 and 40 linear layers reach a test cost of {orthogonal} when orthogonal and {gaussian} when Gaussian.
    """


run = StudyCommand(measure, draw, word, seeds=10, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
