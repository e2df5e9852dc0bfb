"""Evaluation of a trained network: final metrics, and the arrays of its figures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from bpx.data import Dataset
from bpx.data.image_source import as_images
from bpx.engine.arrays import Array, Arrays
from bpx.engine.network import Network
from bpx.system.files import replaced

GRID = 200
N_SAMPLES = 9  # drawn with their predictions
MAX_SCATTER, MAX_TARGETS = 2000, 4  # samples and targets of a regression whose predictions are kept, at most
MAX_CONFUSION_CLASSES = 1000  # classes in a confusion matrix, at most


def evaluated(net: Network, data: Dataset) -> dict[str, float]:
    """Return the metrics of a trained network by their names, on the test part (if there is one) and the training part.

    ``cost/test``; of classes ``accuracy/test`` and ``accuracy/train``; of numbers, in the units of the data,
    ``rmse/test``, ``r2/test``, ``rmse/train`` and ``r2/train``.
    """
    found: dict[str, float] = {}
    for part, x, y in (("test", data.x_test, data.y_test), ("train", data.x_train, data.y_train)):
        if not len(x):
            continue
        cost, accuracy = net.evaluate(x, y)
        if part == "test":
            found["cost/test"] = cost
        if accuracy is not None:
            found[f"accuracy/{part}"] = accuracy
        else:
            found |= {f"{name}/{part}": value for name, value in errors(net, data, x, y).items()}
    return found


def errors(net: Network, data: Dataset, x: Array, y: Array) -> dict[str, float]:
    """Return RMSE and R^2 of a regression, in the units of the data, each the mean over the targets.

    rmse = sqrt(mean_i (a_i - t_i)**2), r2 = 1 - sum_i (a_i - t_i)**2 / sum_i (t_i - mean t)**2, i over the samples, and
    over their steps where a network answers at every one; r2 is absent where a target is constant.
    """
    outputs, targets = (a.astype(np.float64).reshape(-1, net.n_out) for a in (net.predict(x), y))
    scale = np.ones(net.n_out) if data.target_scaler is None else data.target_scaler.scale[: net.n_out]
    squared = ((outputs - targets) ** 2).mean(axis=0)
    spread = targets.var(axis=0)
    found = {"rmse": float((np.sqrt(squared) * scale).mean())}
    return found | ({"r2": float((1 - squared / spread).mean())} if (spread > 0).all() else {})


def save_evaluation(path: Path, net: Network, data: Dataset, test_accuracy: float | None) -> None:
    """Write the confusion matrix, nine predictions and, for two inputs, the decision regions to an npz file.

    The nine are the worst: errors first, the least probability of the true class first; where every step has a label
    there are none, and the matrix is over all steps. Of more classes than a figure
    can show, there is no confusion matrix. Of numbers, predicted and true values are written, in the units of the data.
    They are of the test part, or of the training part where there is none.
    """
    arrays: Arrays = {"name": np.array(data.name), "class_names": np.array(data.class_names, dtype=str)}
    part, x, y = ("test", data.x_test, data.y_test) if len(data.x_test) else ("training", data.x_train, data.y_train)
    arrays["part"] = np.array(part)
    probabilities = net.predict(x) if data.n_classes is not None else np.full(1, np.nan)
    if data.n_classes is not None and np.isfinite(probabilities).all():  # a diverged network decides nothing
        predicted = probabilities.argmax(axis=-1)
        if data.n_classes <= MAX_CONFUSION_CLASSES:
            arrays["confusion"] = np.zeros((data.n_classes, data.n_classes), np.int64)
            np.add.at(arrays["confusion"], (y, predicted), 1)
        arrays["test_accuracy"] = np.array(np.nan if test_accuracy is None else test_accuracy)
        if y.ndim == 1:
            few = np.lexsort([probabilities[np.arange(len(y)), y], predicted == y])[:N_SAMPLES]
            shown = data.scaler.inverse(x[few])
            images = as_images(shown, data.image_shape or ())
            arrays |= {
                "sample_x": images.reshape(shown.shape),
                "sample_image_shape": np.array(images.shape[1:], np.int64),
                "sample_true": y[few],
                "sample_pred": predicted[few],
                "sample_prob": probabilities[few, predicted[few]],
            }
        if data.n_in == 2:
            arrays |= _regions(net, data, x, y)
    if data.n_classes is None:
        arrays |= _scatter(net, data, x, y)
    with replaced(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _scatter(net: Network, data: Dataset, x: Array, y: Array) -> Arrays:
    steps = math.prod(net.out_shape[:-1])
    few = np.unique(np.linspace(0, len(y) - 1, min(len(y), max(MAX_SCATTER // steps, 1))).astype(int))
    true, predicted = (a.reshape(len(few), -1).astype(np.float64) for a in (y[few], net.predict(x[few])))
    if not np.isfinite(predicted).all():  # a diverged network predicts nothing
        return {}
    if data.target_scaler is not None:
        true, predicted = data.target_scaler.inverse(true), data.target_scaler.inverse(predicted)
    k = min(net.n_out, MAX_TARGETS)
    names = ["value"] if net.n_out == 1 else [f"value {i}" for i in range(1, k + 1)]
    true, predicted = (a.reshape(-1, net.n_out)[:, :k] for a in (true, predicted))
    return {"target_true": true, "target_pred": predicted, "target_names": np.array(names), "steps": np.array(steps)}


def _regions(net: Network, data: Dataset, x: Array, y: Array) -> Arrays:
    points = data.scaler.inverse(x)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.1 * (high - low)
    axes = [np.linspace(a, b, GRID) for a, b in zip(low - margin, high + margin, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    labels = net.predict(data.scaler.transform(grid)).argmax(axis=1).reshape(GRID, GRID)
    return {
        "grid_x": axes[0],
        "grid_y": axes[1],
        "grid_class": labels,
        "points": points,
        "points_label": y,
    }
