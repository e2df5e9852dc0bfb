"""How well does a plain network learn a thousand digits, and how do its gradients flow before and after?"""

import sys
from typing import Any

import numpy as np

from bpx.data import Dataset
from bpx.engine import Network
from bpx.engine.model_files import load_model
from bpx.figures.canvas import BLUE, GREEN, ORANGE, RED, Picture, legend_below, new_figure, style_axes
from bpx.figures.evaluation import draw_confusion
from bpx.figures.study import band
from bpx.runs.job import RunResult
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import BAND, Data, percentiles
from bpx.system.text import counted
from experiments.classification import evaluation

EXPERIMENT, FLOW_SAMPLES = "+experiment=mnist_1k", 100
SHOWN = (
    "name", "class_names", "confusion", "sample_x", "sample_true", "sample_pred", "sample_prob", "sample_image_shape",
)  # fmt: skip


def gradient_norms(net: Network, data: Dataset) -> tuple[list[Any], list[Any]]:
    """Return ‖∂J/∂W‖ and ‖∂J/∂b‖ by layer on the first training samples."""
    net.bind(FLOW_SAMPLES)
    net.cost(data.x_train[:FLOW_SAMPLES], data.y_train[:FLOW_SAMPLES])
    net.backward()
    return [np.linalg.norm(d.W.grad) for d in net.dense], [
        np.linalg.norm(d.b.grad) for d in net.dense if d.b is not None
    ]


def flow(s: Study, made: list[RunResult]) -> dict[str, np.ndarray]:
    """Return the gradient norms at initialization and after training, (seeds, layers) for weights and biases."""
    plan = s.plan(EXPERIMENT)
    data = s.data(plan)
    before = [gradient_norms(net, data) for net, _, _ in s.draws(EXPERIMENT)]
    after = [gradient_norms(load_model(r.directory).net, data) for r in made]
    return {"before": np.array(before).swapaxes(0, 1), "after": np.array(after).swapaxes(0, 1)}


def measure(s: Study) -> Data:
    """Train 784-128-64-10 on the first 1,000 images."""
    made = s.train("mnist_1k", EXPERIMENT, *(("epochs=10",) if s.quick else ()))
    accuracy = 100 * np.array([r.metrics["accuracy/test"] for r in made])
    fitted = 100 * np.array([r.metrics["accuracy/train"] for r in made])
    norms = flow(s, made)
    weights, _ = norms["before"]
    ratio = np.median(weights[:, 0] / weights[:, -1])
    fall = np.median(weights / norms["after"][0], axis=0)
    s.log(accuracy_test=np.median(accuracy), accuracy_train=np.median(fitted), first_over_last=ratio)
    s.log(**{f"fall/layer_{i:02d}": f for i, f in enumerate(fall, 1)})
    for when, (w, b) in norms.items():
        for i in range(w.shape[1]):
            sizes = f"weights {np.median(w[:, i]):.2e}   biases {np.median(b[:, i]):.2e}"
            print(f"layer {i + 1}, {when:6s} training   {sizes}")
    kept = evaluation(made[0])
    return {
        "accuracy": np.percentile(accuracy, BAND),
        "accuracy_train": np.median(fitted),
        "ratio": ratio,
        "fall": fall,
        "step": made[0].history("cost/train")[0],
        "cost": percentiles([r.history("cost/train")[1] for r in made]),
        "norms": {when: {"weights": percentiles(w), "biases": percentiles(b)} for when, (w, b) in norms.items()},
        "evaluation": {key: kept[key] for key in SHOWN},
    }


def draw(data: Data) -> Picture:
    """Draw training, confusion, the gradients' norms, and nine images with their predictions."""
    kept = data["evaluation"]
    figure = new_figure(
        f"{kept['name']}, 784-128-64-10, {counted(data['seeds'], 'seed')}", "a thousand digits", 12, 6.4
    )
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.2, 1))
    top, bottom = parts
    curves, confusion, norm_axes = top.subplots(1, 3)
    band(curves, data["step"], data["cost"], "training", BLUE)
    curves.set_yscale("log")
    style_axes(curves, "optimizer step", "cost", f"test accuracy {data['accuracy'][1]:.1f} %")
    draw_confusion(confusion, kept)
    confusion.set_title("the first seed's test samples", fontsize=10)
    at = np.arange(1, 4)
    for (when, norms), colour in zip(data["norms"].items(), (BLUE, ORANGE), strict=True):
        band(norm_axes, at, norms["weights"], f"weights, {when}", colour)
        band(norm_axes, at, norms["biases"], f"biases, {when}", colour, ":")
    norm_axes.set_yscale("log")
    norm_axes.set_xticks(at)
    style_axes(norm_axes, "layer, from the input", "L2 norm of the gradient", f"on {FLOW_SAMPLES} training samples")
    legend_below(norm_axes, 2)
    for axes, x, true, guess, p in zip(bottom.subplots(1, 9), kept["sample_x"], kept["sample_true"],
                                       kept["sample_pred"], kept["sample_prob"], strict=True):  # fmt: skip
        axes.imshow(x.reshape(tuple(kept["sample_image_shape"])), cmap="gray_r")
        axes.set_title(f"{guess} ({p:.2f})\ntrue {true}", fontsize=9, color=GREEN if guess == true else RED)
        axes.set_axis_off()
    return figure


def word(data: Data) -> str:
    """Say how well it learns, and how its gradients flow before and after."""
    low, accuracy, high = data["accuracy"]
    fitted, fall, ratio = data["accuracy_train"], data["fall"], data["ratio"]
    spread = f"80 % of {counted(data['seeds'], 'seed')}: {low:.1f} to {high:.1f}" if data["seeds"] > 1 else "one seed"
    by_heart = ": it has learned them by heart" if fitted > 99.5 else ""
    alike = fall.min() > 1 and fall.max() < 2 * fall.min()
    at_end = ": alike, because the cost is at its end, not because δ is lost on its way" if alike else ""
    return f"""
    {accuracy:.1f} % of the 200 test images ({spread}), with {fitted:.1f} % of the 800 training images{by_heart}. At
    initialization ∂J/∂W is {ratio:.1f} times as large in the first layer as in the
    last{": nothing vanishes in three layers" if ratio > 0.1 else ""}. After training the gradients are
    {fall.min():.3g} to {fall.max():.3g} times smaller, by layer{at_end}.
    """


run = StudyCommand(measure, draw, word, seeds=10, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
