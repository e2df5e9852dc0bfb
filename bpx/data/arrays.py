"""The arrays of an npz file: which are the features, the labels, and the test part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bpx.data import npz
from bpx.data.dataset import DataError
from bpx.engine.arrays import Array

FEATURES = ("x", "x_train", "data", "features", "train_images", "images")  # in any case
TARGETS = ("y", "y_train", "target", "targets", "label", "labels", "train_labels")
TEST_FEATURES, TEST_TARGETS = ("x_test", "test_images"), ("y_test", "test_labels")


@dataclass(frozen=True)
class FileArrays:
    """Arrays of a file: x and y, and those of the test part if it has one.

    ``key`` and ``key_test`` are the names of y and y_test, ``unused`` those of the other arrays.
    """

    x: Array
    y: Array
    key: str
    x_test: Array | None
    y_test: Array | None
    key_test: str = ""
    unused: tuple[str, ...] = ()


def read(path: Path, x_key: str | None, y_key: str | None) -> FileArrays:
    """Return the arrays, by their keys or by the spellings of NumPy's, Keras's and scikit-learn's users.

    Raises DataError where an array is lacking, or could be one of several.
    """
    held = npz.names(path)
    x, y = _key(path, held, x_key, FEATURES, "x_key"), _key(path, held, y_key, TARGETS, "y_key")
    spellings = (TEST_FEATURES, TEST_TARGETS)
    x_test, y_test = (next((key for key in held if key.lower() in known), None) for known in spellings)
    if (x_test is None) != (y_test is None) or x_test == x or y_test == y:
        x_test = y_test = None
    wanted = [key for key in (x, y, x_test, y_test) if key is not None]
    arrays = npz.read(path, tuple(wanted))
    unused = tuple(key for key in held if key not in wanted)
    if x_test is None or y_test is None:
        return FileArrays(arrays[x], arrays[y], y, None, None, unused=unused)
    return FileArrays(arrays[x], arrays[y], y, arrays[x_test], arrays[y_test], y_test, unused)


def _key(path: Path, held: tuple[str, ...], given: str | None, known: tuple[str, ...], setting: str) -> str:
    if given is not None:
        if given not in held:
            raise DataError(f"{path} lacks the array {given!r}; it has {', '.join(held)}")
        return given
    found = [key for key in held if key.lower() in known]
    if not found:
        raise DataError(f"{path} lacks the array {known[0]!r}; it has {', '.join(held)}: give dataset.{setting}")
    if len(found) > 1:
        raise DataError(f"{path} has {' and '.join(found)}: give dataset.{setting}")
    return found[0]
