"""What does every number of one forward and one backward pass look like in a 2-2-1 sigmoid network?"""

import sys
from typing import Any

import numpy as np

from bpx.figures.canvas import BLUE, GREY, ORANGE, Picture, new_figure
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data
from experiments.signals import deltas

SETUP = (
    "model.hidden=[2]", "activation=sigmoid", "loss=mean_squared_error", "loss.output=sigmoid",
    "dataset=gaussian", "dataset.n_in=2", "dataset.n_out=1", "batch_size=1", "dtype=float64",
)  # fmt: skip
W1, B1 = np.array([[0.5, 0.3], [0.2, 0.8]]), np.array([0.1, 0.2])  # rows: units, as they are written by hand
W2, B2 = np.array([[0.4, 0.6]]), np.array([0.3])
X, TARGET = np.array([0.5, 0.3]), np.array([1.0])


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-z))."""
    return np.asarray(1 / (1 + np.exp(-z)))


def by_hand() -> dict[str, np.ndarray]:
    """Return every value of the two passes, each from its equation."""
    z1 = W1 @ X + B1
    a1 = sigmoid(z1)
    z2 = W2 @ a1 + B2
    a2 = sigmoid(z2)
    d2 = (a2 - TARGET) * a2 * (1 - a2)
    d1 = (W2.T @ d2) * a1 * (1 - a1)
    return {"z1": z1, "a1": a1, "z2": z2, "a2": a2, "δ2": d2, "δ1": d1,
            "dW2": np.outer(d2, a1), "db2": d2, "dW1": np.outer(d1, X), "db1": d1}  # fmt: skip


def by_engine(s: Study) -> dict[str, np.ndarray]:
    """Return the same values from the composed network, in the same layout."""
    net = s.plan(*SETUP).network(2, 1).bind(1)
    first, last = net.dense
    for dense, W, b in ((first, W1, B1), (last, W2, B2)):
        assert dense.b is not None
        dense.W.value[...], dense.b.value[...] = W.T, b
    net.cost(X[None], TARGET[None])
    a2 = net.loss.predict(last.y)[0]
    net.backward()
    d1, d2 = (d[0] for d in deltas(net))
    assert first.b is not None and last.b is not None
    return {"z1": first.y[0], "a1": last.x[0], "z2": last.y[0], "a2": a2, "δ2": d2, "δ1": d1,
            "dW2": last.W.grad.T, "db2": last.b.grad, "dW1": first.W.grad.T, "db1": first.b.grad}  # fmt: skip


def show(value: np.ndarray, digits: int = 4) -> str:
    """Return an array's numbers in brackets."""
    return np.array2string(np.asarray(value), precision=digits, separator=", ", suppress_small=True).replace("\n", "")


def draw_network(axes: Any, v: dict[str, np.ndarray]) -> None:
    """Draw units, weights, and at each unit what passed through it."""
    places: dict[str, list[tuple[float, float]]] = {
        "x": [(0, 1.0), (0, 0.0)],
        "h": [(1.3, 1.0), (1.3, 0.0)],
        "o": [(2.6, 0.5)],
    }
    for W, sources, targets in ((W1, "x", "h"), (W2, "h", "o")):
        for k, (x1, y1) in enumerate(places[targets]):
            for i, (x0, y0) in enumerate(places[sources]):
                axes.plot([x0, x1], [y0, y1], color=GREY, lw=0.8 + 3 * abs(W[k, i]), zorder=1)
                at = 0.3 if y0 != y1 else 0.5
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                axes.text(x0 + at * (x1 - x0), y0 + at * (y1 - y0), f"{W[k, i]:g}", ha="center", va="center", bbox=box)
    units = [(places["x"][i], f"x{i + 1}\n{X[i]:g}", "") for i in range(2)]
    units += [
        (places["h"][k], f"h{k + 1}", f"b {B1[k]:g}   z {v['z1'][k]:.4f}\na {v['a1'][k]:.4f}   δ {v['δ1'][k]:+.5f}")
        for k in range(2)
    ]
    units += [(places["o"][0], "out", f"b {B2[0]:g}   z {v['z2'][0]:.4f}\na {v['a2'][0]:.4f}   δ {v['δ2'][0]:+.5f}")]
    for (x, y), name, values in units:
        axes.plot(x, y, "o", ms=34, mfc="white", mec=BLUE if name[0] != "o" else ORANGE, mew=2, zorder=2)
        axes.text(x, y, name, ha="center", va="center", fontsize=9, zorder=3)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85 if values else 0}
        axes.text(x, y - 0.17, values, ha="center", va="top", fontsize=8.5, bbox=box)
    axes.set_xlim(-0.35, 3.1)
    axes.set_ylim(-0.5, 1.25)
    axes.set_axis_off()
    axes.set_title(f"x = (0.5, 0.3), target 1, J = ½(a − t)² = {0.5 * (v['a2'][0] - 1) ** 2:.5f}", fontsize=10)


def heat(figure: Picture, axes: Any, values: np.ndarray, title: str) -> None:
    """Draw a matrix with its numbers, the colours centred at zero."""
    values = np.atleast_2d(values)
    most = float(np.abs(values).max())
    image = axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, f"{value:.4g}", ha="center", va="center", fontsize=8.5,
                  color="white" if abs(value) > 0.6 * most else "black")  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.9).ax.tick_params(labelsize=7)


def measure(s: Study) -> Data:
    """Compute both passes by hand and by the engine, and print them side by side."""
    hand, engine = by_hand(), by_engine(s)
    off = max(float(np.abs(hand[key] - engine[key]).max()) for key in hand)
    for key in hand:
        print(f"{key:4s} {show(hand[key])}")
    print()
    s.log(largest_difference=off, cost=0.5 * (hand["a2"][0] - 1) ** 2)
    return {"hand": hand, "engine": engine, "difference": off}


def draw(data: Data) -> Picture:
    """Draw the network with its values, and weights and gradients as numbers."""
    engine = data["engine"]
    figure = new_figure("2-2-1, sigmoid", "one forward and one backward pass, every number", 11.5, 5.4)
    panels = figure.subplot_mosaic([["net", "net", "W1", "dW1"], ["net", "net", "b1", "db1"],
                                    ["net", "net", "W2", "dW2"], ["net", "net", "b2", "db2"]],
                                   height_ratios=(2, 1, 1, 1))  # fmt: skip
    draw_network(panels["net"], engine)
    for name, values in (("W1", W1), ("b1", B1), ("W2", W2), ("b2", B2)):
        heat(figure, panels[name], values, f"{name}" + (" (rows: units)" if name == "W1" else ""))
        heat(figure, panels[f"d{name}"], engine[f"d{name}"], f"∂J/∂{name}")
    return figure


def word(data: Data) -> str:
    """Say every value, and how near the engine is to the equations."""
    hand = data["hand"]
    first = float(np.linalg.norm(hand["δ1"]) / np.linalg.norm(hand["δ2"]))
    return f"""
    Forward z1 = {show(hand["z1"])}, a1 = {show(hand["a1"])}, z2 = {show(hand["z2"])}, a2 = {show(hand["a2"])};
    backward δ2 = {show(hand["δ2"], 5)}, δ1 = {show(hand["δ1"], 5)}. The engine agrees with the equations to
    {data["difference"]:.0e}. Every gradient is negative: more of any weight would bring the output nearer to 1. Even
    here δ shrinks on its way back, to {first:.2f} of its length.
    """


run = StudyCommand(measure, draw, word, seeds=1, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
