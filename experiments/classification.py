"""Does a small network from scratch tell three classes in the plane apart, and does its activation matter?"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREEN, ORANGE, Picture, legend_below, new_figure, style_axes
from bpx.figures.evaluation import draw_confusion, draw_regions
from bpx.figures.study import band
from bpx.runs.job import RunResult
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data, percentiles
from bpx.system.run_files import EVALUATION
from bpx.system.text import counted
from experiments.signals import initial_profiles

LEARNED = 80.0  # per cent
DECISIONS = ("class_names", "confusion", "grid_x", "grid_y", "grid_class", "points", "points_label")
SMALL = ("initializer=normal", "initializer.std=0.01")
SETUPS = {
    "ReLU, He": ("activation=relu", "initializer=he_normal"),
    "sigmoid, N(0, 0.01²)": ("activation=sigmoid", *SMALL),
    "tanh, N(0, 0.01²)": ("activation=tanh", *SMALL),
}


def evaluation(run: RunResult) -> dict[str, np.ndarray]:
    """Return what a run has kept of its decisions."""
    with np.load(run.directory / EVALUATION, allow_pickle=False) as file:
        return {key: file[key] for key in file}


def measure(s: Study) -> Data:
    """Train 2-10-10-3 with three activations."""
    epochs = ("epochs=40",) if s.quick else ()
    runs = {label: s.train(label, "+experiment=classification", *setup, *epochs) for label, setup in SETUPS.items()}
    accuracy = {label: 100 * np.array([r.metrics["accuracy/test"] for r in made]) for label, made in runs.items()}
    s.log(**{f"accuracy/{label.split(',')[0].lower()}": np.median(values) for label, values in accuracy.items()})
    costs = {label: np.array([r.history("cost/train")[1] for r in made]) for label, made in runs.items()}
    stuck = "sigmoid, N(0, 0.01²)"
    fell = np.median(1 - costs[stuck][:, -1] / costs[stuck][:, 0])
    delta = initial_profiles(s, "+experiment=classification", *SETUPS[stuck])
    flow = np.median(delta[:, 0] / delta[:, -1])
    s.log(cost_fall_sigmoid=fell, delta_ratio_sigmoid=flow)
    kept = evaluation(runs["ReLU, He"][0])
    return {
        "accuracy": accuracy,
        "step": runs[stuck][0].history("cost/train")[0],
        "costs": {label: percentiles(values) for label, values in costs.items()},
        "cost_fall": fell,
        "delta_ratio": flow,
        "evaluation": {key: kept[key] for key in DECISIONS},
    }


def draw(data: Data) -> Picture:
    """Draw training, decisions and confusion."""
    figure = new_figure("classification, 2-10-10-3", "three classes in the plane", 12, 4.3)
    curves, regions, confusion = figure.subplots(1, 3)
    for label, colour in zip(SETUPS, (BLUE, ORANGE, GREEN), strict=True):
        band(curves, data["step"], data["costs"][label], label, colour)
    curves.set_yscale("log")
    style_axes(curves, "optimizer step", "training cost", f"{counted(data['seeds'], 'seed')} each")
    legend_below(curves, 1)
    draw_regions(regions, data["evaluation"])
    regions.set_title("ReLU: decisions and test points", fontsize=10)
    draw_confusion(confusion, data["evaluation"])
    confusion.set_title("ReLU: test samples", fontsize=10)
    return figure


def word(data: Data) -> str:
    """Say which activation learns, and why the other does not."""
    accuracy = data["accuracy"]
    said = ", ".join(f"{label} {np.median(v):.1f} % ({v.min():.1f} to {v.max():.1f})" for label, v in accuracy.items())
    relu, sigmoid, tanh = (np.median(accuracy[label]) > LEARNED for label in SETUPS)
    alike = ": all samples look alike to the output," if not sigmoid else ""
    return f"""
    ReLU {"does" if relu else "does not in this time"}{
        "; the activation and its initialization decide" * bool(relu and not sigmoid)
    }. Test accuracy over {counted(data["seeds"], "seed")}: {said}. With sigmoid and weights of 0.01 the cost changes by
    {100 * abs(data["cost_fall"]):.2f} % in {data["step"][-1]:,} steps{alike} and δ at the first hidden layer is
    {1 / data["delta_ratio"]:.0f} times smaller than at the second. tanh, whose slope at zero is 1 and not ¼,
    {"leaves the same start in time" if tanh else "has not left the same start either"}.
    """


run = StudyCommand(measure, draw, word, seeds=10, quick=2)


if __name__ == "__main__":
    sys.exit(run.main())
