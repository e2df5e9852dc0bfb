"""Saxe et al. 2014, Pennington et al. 2017: do orthogonal weights keep every singular value of the Jacobian at 1?

Published: in deep linear networks orthogonal weights make all singular values 1 at any depth, Gaussian ones spread
them, the largest square growing as (L + 1)^(L + 1) / L^L; orthogonal linear networks learn in a time that does not
grow with depth (Saxe 2014); tanh near criticality keeps the isometry, ReLU cannot (Pennington 2017).
"""

import sys

import numpy as np

from bpx.engine import Activation
from bpx.figures.canvas import BLUE, GREY, ORANGE, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, study

WIDTH, DEPTHS = 200, (1, 2, 4, 8, 16, 32, 64)
SETUP = (f"model.width={WIDTH}", "dataset=gaussian", f"dataset.n_in={WIDTH}", "batch_size=2", "dtype=float64",
         "loss=mean_squared_error")  # fmt: skip
WEIGHTS = {"orthogonal": ("initializer=orthogonal", BLUE), "Gaussian": ("initializer=lecun_normal", ORANGE)}
GAINS = {"linear": 1.0, "tanh": 1.0, "relu": 2**0.5}
SMALL = 0.1  # scale of the inputs: tanh at σw = 1 is critical where lengths are small
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


@study(seeds=10, quick=2)
def run(s: Study) -> str:
    """Compute Jacobians of linear, tanh and ReLU networks, and train deep linear networks."""
    largest = {name: np.array([spectra(s, L, "linear", init, s.seeds)[:, 0] ** 2 for L in DEPTHS]).T
               for name, (init, _) in WEIGHTS.items()}  # fmt: skip
    formula = np.array([(L + 1.0) ** (L + 1) / float(L) ** L for L in DEPTHS])
    deep = {(a, name): spectra(s, 32, a, init, 2) for a in GAINS for name, (init, _) in WEIGHTS.items()}
    short = ("max_steps=20",) if s.quick else ()
    depths = (5, 20, 40)
    costs = {(name, L): s.train(f"linear {name} {L}", *LEARN, init, f"model.depth={L}", *short, seeds=min(3, s.seeds))
             for L in depths for name, (init, _) in WEIGHTS.items()}  # fmt: skip

    figure = new_figure(
        f"width {WIDTH}; right: digits, width 64", "the input-output Jacobian's singular values", 11.5, 4.4
    )
    left, middle, right = figure.subplots(1, 3)
    for name, (_, colour) in WEIGHTS.items():
        band(left, DEPTHS, largest[name], name, colour)
    left.plot(DEPTHS, formula, "--", color=GREY, label="(L + 1)^(L + 1) / L^L")
    left.set_xscale("log")
    left.set_yscale("log")
    style_axes(left, "linear layers, L", "largest s²", "linear")
    styles = {"linear": "-", "tanh": "--", "relu": ":"}
    for (a, name), values in deep.items():
        middle.plot(np.linspace(0, 100, WIDTH), np.maximum(values[0], 1e-8), styles[a], color=WEIGHTS[name][1],
                    lw=1.6, label=f"{a}, {name}")  # fmt: skip
    middle.set_yscale("log")
    style_axes(middle, "rank / %", "singular value", "32 layers at criticality")
    for (name, L), runs in costs.items():
        steps = runs[0].history("cost/train")[0]
        fine = [r.history("cost/train")[1] for r in runs if r.outcome == "finished"]
        if fine:
            style = {5: "-", 20: "--", 40: ":"}[L]
            band(right, steps, fine, f"{name}, {L} layers", WEIGHTS[name][1], style)
    right.set_yscale("log")
    style_axes(right, "optimizer step", "training cost", "deep linear networks learning")
    for axes in (left, middle, right):
        legend_below(axes, 2)
    s.draw(figure)
    median, at_8 = np.median(largest["Gaussian"], axis=0), DEPTHS.index(8)
    off = np.abs(median / formula - 1)
    dead = float(np.mean(deep["relu", "orthogonal"] < 1e-6))
    tanh = {name: (deep["tanh", name].max(), deep["tanh", name].min()) for name in WEIGHTS}
    final = {key: np.median([r.metrics["cost/test"] if r.outcome == "finished" else np.nan for r in runs])
             for key, runs in costs.items()}  # fmt: skip
    s.log(largest_orthogonal=largest["orthogonal"].max(), off_the_formula_at_8=off[at_8],
          largest_tanh_orthogonal=tanh["orthogonal"][0], zero_share_relu=dead)  # fmt: skip
    for (name, L), value in final.items():
        s.log(**{f"cost_test/{name}_{L}": value})
    return f"""
    Linear: orthogonal weights leave every s² at 1 to {abs(largest["orthogonal"] - 1).max():.0e} through {DEPTHS[-1]}
    layers. Gaussian ones make the largest {median[at_8]:.1f} through 8 layers, where the formula for infinite width
    says {formula[at_8]:.1f} ({100 * off[at_8]:.0f} % apart), and {median[-1]:.0f} through 64, where it says
    {formula[-1]:.0f}: the deeper the network, the wider it has to be. tanh through 32 layers, small inputs: singular
    values go from {tanh["orthogonal"][1]:.2f} to {tanh["orthogonal"][0]:.2f} with orthogonal weights, from
    {tanh["Gaussian"][1]:.0e} to {tanh["Gaussian"][0]:.1f} with Gaussian ones. ReLU loses the isometry with either:
    {100 * dead:.0f} % of its singular values are zero. Learning the digits, 5, 20 and 40 linear layers reach a test
    cost of {", ".join(f"{final['orthogonal', L]:.2f}" for L in depths)} when orthogonal and
    {", ".join(f"{final['Gaussian', L]:.2f}" for L in depths)} when Gaussian.
    """


if __name__ == "__main__":
    sys.exit(run.main())
