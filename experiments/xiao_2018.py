"""Xiao et al. 2018: how deep does a plain convolutional network train, with delta-orthogonal and with Gaussian kernels?

Published: on the edge of chaos tanh networks train to any depth; kernels that are orthogonal at their centre and zero
elsewhere keep all singular values of the Jacobian near 1 (dynamical isometry) and train 10,000 layers, where Gaussian
ones stop at some hundred (sections 2 and 3, figures 1 and 5). Off the edge a gradient changes as √χ₁ per layer. The
paper's images have no border; here zeros are around them, which take a share λ of what Gaussian kernels let through.
"""

import sys

import numpy as np

from bpx.engine import ACTIVATIONS, Activation, Network
from bpx.figures.canvas import Picture, colours, legend_below, new_figure, style_axes
from bpx.figures.study import band
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.text import counted
from bpx.theory import critical_sigma_w, mean_field

DEPTH, CHANNELS, SIDE, BIAS = 200, 16, 4, 0.0045  # of 4 x 4 pixels: the first convolution has stride 2
EDGE = critical_sigma_w(ACTIVATIONS["tanh"](), BIAS)
KERNELS = {"delta-orthogonal": ("delta_orthogonal", "gain"), "Gaussian": ("lecun_normal", "sigma_w")}
DRAWN = {"delta-orthogonal, σw = 0.9": 0.9, "delta-orthogonal, edge": EDGE, "delta-orthogonal, σw = 1.2": 1.2,
         "Gaussian, edge": EDGE}  # fmt: skip
JACOBIANS, TRAINED = (10, 50, 200), (20, 60, 200)
INSIDE = ((1 + 2 * np.cos(np.pi / (SIDE + 1))) / 3) ** 2  # λ: the largest eigenvalue of "the mean over 3 x 3 pixels"
SETUP = ("dataset=digits", "model=plain_conv", f"model.width={CHANNELS}", "model.stride=2", "activation=tanh",
         f"initializer.bias_std={BIAS}")  # fmt: skip
TRAINING = ("optimizer=adam", "optimizer.lr=0.0005", "epochs=5", "probes=none", "tracking.per_layer=[]")


def kernels(kind: str, sigma_w: float) -> tuple[str, str]:
    """Return the words that draw kernels of this kind."""
    name, scale = KERNELS[kind]
    return f"initializer={name}", f"initializer.{scale}={sigma_w}"


def theory(kind: str, sigma_w: float) -> float:
    """Return the factor per layer of ||delta||_2: Gaussian kernels send signals to 0 by λ, where χ is σw²."""
    return float(np.sqrt(mean_field(ACTIVATIONS["tanh"](), sigma_w, BIAS).chi_1 if kind != "Gaussian" else
                         sigma_w**2 * INSIDE))  # fmt: skip


def singular_values(net: Network, x: np.ndarray, depth: int) -> np.ndarray:
    """Return those of ∂a^depth/∂z¹ at one image, largest first."""
    hidden = [i for i, block in enumerate(net.blocks) if isinstance(block, Activation)]
    last, width = hidden[depth - 1], SIDE * SIDE * CHANNELS
    net.forward(x[:1].repeat(len(x), axis=0), train=True)
    J = np.zeros((width, width))
    for start in range(0, width, len(x)):
        dy = np.eye(width)[start : start + len(x)].reshape(len(x), SIDE, SIDE, CHANNELS)
        for block in reversed(net.blocks[hidden[0] : last + 1]):
            dy = block.backward(dy)
        J[start : start + len(x)] = dy.reshape(len(x), width)
    return np.linalg.svd(J, compute_uv=False)


def measure(s: Study) -> Data:
    """Follow gradients through 200 layers, compute Jacobians, and train networks of several depths."""
    data: Data = {"profile": {}, "factor": {}, "spectrum": {}, "accuracy": {}}
    for label, sigma_w in DRAWN.items():
        kind, logs = label.partition(",")[0], []
        words = (*SETUP, *kernels(kind, sigma_w), f"model.depth={DEPTH}", "batch_size=64", "dtype=float64")
        for drawn in s.draws(*words, random_delta=True):
            net, x = drawn[:2]
            hidden = [block for block in net.blocks if isinstance(block, Activation)]
            logs.append([np.log10(np.linalg.norm(block.dx)) for block in hidden])
        profile = np.array(logs)
        data["profile"][label] = percentiles(profile - profile[:, -1:])
        middle = np.median(profile[:, DEPTH // 4] - profile[:, -DEPTH // 4]) / (DEPTH // 2)
        data["factor"][label] = [10**middle, theory(kind, sigma_w)]
        s.log(**{f"factor/{label}": 10**middle})
        if sigma_w == EDGE:
            data["spectrum"][kind] = {str(depth): singular_values(net, x, depth) for depth in JACOBIANS}
    depths = TRAINED[:1] if s.quick else TRAINED
    for kind in KERNELS:
        trained = (*SETUP, *kernels(kind, EDGE), *TRAINING)
        runs = [s.train(f"{kind}, {depth}", *trained, f"model.depth={depth}", seeds=1)[0] for depth in depths]
        data["accuracy"][kind] = [run.metrics.get("accuracy/test", 0.0) for run in runs]
        s.log(**{f"accuracy/{kind}": data["accuracy"][kind][-1]})
    return data


def draw(data: Data) -> Picture:
    """Draw the gradient by layer, the singular values by depth, and the accuracy by depth."""
    name = f"digits, 4 × 4 pixels, {CHANNELS} channels, tanh, {counted(data['seeds'], 'network')}"
    figure = new_figure(name, "plain convolutional networks at initialization, and trained", 13, 5)
    left, middle, right = figure.subplots(1, 3)
    layer = np.arange(1, DEPTH + 1)
    for (label, (measured, predicted)), colour in zip(data["factor"].items(), colours(len(DRAWN)), strict=True):
        band(left, layer, data["profile"][label], f"{label}: ×{measured:.3f}", colour)
        left.plot(layer, np.log10(predicted) * (DEPTH - layer), "--", color=colour, lw=1.2)
    for kind, colour in zip(KERNELS, colours(2), strict=True):
        for (depth, values), style in zip(data["spectrum"][kind].items(), (":", "--", "-"), strict=True):
            share = np.linspace(0, 100, len(values))
            middle.plot(share, np.maximum(values, 1e-16), style, color=colour, label=f"{kind}, {depth} layers")
        found = data["accuracy"][kind]
        right.plot(TRAINED[: len(found)], [100 * a for a in found], "o-", color=colour, label=kind)
    middle.set_yscale("log")
    right.set_xscale("log")
    right.set_xticks(TRAINED, [str(depth) for depth in TRAINED])
    right.minorticks_off()
    right.set_ylim(0, 100)
    style_axes(left, "layer", "log10 of ‖δ‖ over that of the last", "dashed: theory")
    style_axes(middle, "rank / %", "singular value of ∂a/∂z¹", f"on the edge, σw = {EDGE:.3f}, one network")
    style_axes(right, "layers", "test accuracy / %", "on the edge, 5 epochs of Adam, one seed")
    legend_below(left, 1)
    legend_below(middle, 2)
    legend_below(right, 1)
    return figure


def word(data: Data) -> str:
    """Say the factors beside theory, the singular values, and the depths that train."""
    said = ", ".join(f"×{m:.3f} ({t:.3f}) with {label}" for label, (m, t) in data["factor"].items())
    spread = {
        kind: [(values[str(depth)][0], np.median(values[str(depth)])) for depth in JACOBIANS]
        for kind, values in data["spectrum"].items()
    }
    high, above = (spread[kind][-1][0] for kind in KERNELS)
    share, small = (max(median / largest, 1e-15) for largest, median in (spread[kind][-1] for kind in KERNELS))
    trained = {kind: ", ".join(f"{100 * a:.0f}" for a in found) for kind, found in data["accuracy"].items()}
    orthogonal, gaussian = data["accuracy"].values()
    isometric = share > 0.1 > 1000 * small
    deeper = orthogonal[-1] > gaussian[-1]
    depths = TRAINED[: len(orthogonal)]
    return f"""
    {"As published" if isometric and deeper else "In part"}: through {DEPTH} layers going back one layer changes ‖δ‖ by
    {said} (in brackets theory: √χ₁, with Gaussian kernels σw √λ, for zeros around 4 × 4 pixels leave λ = {INSIDE:.3f}
    of the variance). On the edge the Jacobian's largest singular value through {DEPTH} layers
    is {high:.2f} with delta-orthogonal kernels, and the median {share:.2f} of it; with Gaussian ones {above:.0e}, and
    {small:.0e} of it or less. Test
    accuracy after 5 epochs through {", ".join(map(str, depths))} layers: {trained["delta-orthogonal"]} %
    delta-orthogonal, {trained["Gaussian"]} % Gaussian. Made smaller than published: digits, {CHANNELS} channels,
    {depths[-1]} layers, not 10,000.
    """


run = StudyCommand(measure, draw, word, seeds=5, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
