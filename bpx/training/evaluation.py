"""What the figures need of a trained network, as plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bpx.data import Dataset
from bpx.engine.network import Network
from bpx.system.files import replaced

GRID = 200
SAMPLES = 9
CONFUSABLE = 1000  # classes in a confusion matrix, at most


def evaluated(net: Network, data: Dataset) -> dict[str, float]:
    """Return cost and accuracy on the test part, and accuracy on the training part, by their metrics' names."""
    cost, accuracy = net.evaluate(data.x_test, data.y_test)
    if accuracy is None:
        return {"cost/test": cost}
    _, known = net.evaluate(data.x_train, data.y_train)
    assert known is not None
    return {"cost/test": cost, "accuracy/test": accuracy, "accuracy/train": known}


def save_evaluation(path: Path, net: Network, data: Dataset, test_accuracy: float | None) -> None:
    """Write the confusion matrix, nine predictions and, for two inputs, the decision regions to an npz file.

    Of more classes than a figure can show, there is no confusion matrix.
    """
    arrays: dict[str, Any] = {"name": data.name, "class_names": np.array(data.class_names, dtype=str)}
    probabilities = net.predict(data.x_test) if data.n_classes is not None else np.full(1, np.nan)
    if data.n_classes is not None and np.isfinite(probabilities).all():  # a diverged network decides nothing
        predicted = probabilities.argmax(axis=1)
        if data.n_classes <= CONFUSABLE:
            arrays["confusion"] = np.zeros((data.n_classes, data.n_classes), np.int64)
            np.add.at(arrays["confusion"], (data.y_test, predicted), 1)
        few = np.arange(min(SAMPLES, len(predicted)))
        arrays |= {
            "sample_x": raw(data, data.x_test[few]),
            "sample_image_shape": np.array(data.image_shape or (), np.int64),
            "sample_true": data.y_test[few],
            "sample_pred": predicted[few],
            "sample_prob": probabilities[few, predicted[few]],
            "test_accuracy": np.float64(np.nan if test_accuracy is None else test_accuracy),
        }
        if data.n_in == 2:
            arrays |= _regions(net, data)
    with replaced(path) as file:
        np.savez(file, **arrays)


def raw(data: Dataset, x: Any) -> Any:
    """Return scaled features in the units of the data."""
    return x * data.scaler.scale + data.scaler.shift


def _regions(net: Network, data: Dataset) -> dict[str, Any]:
    points = raw(data, data.x_test)
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
        "points_label": data.y_test,
    }
