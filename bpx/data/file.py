"""The user's own data: an npz file or delimited text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from bpx.data import columns, labels, summary
from bpx.data.dataset import (
    DataError,
    Dataset,
    Raw,
    Source,
    fitted,
    require,
    require_choice,
    require_random_state,
    require_size,
    split,
)
from bpx.data.samples import Samples, from_npz, from_text, joined
from bpx.data.text import is_text
from bpx.engine.arrays import Array, DType
from bpx.engine.features import Column, Scaler, matrix

MAX_CLASSES = 10**5


@dataclass(frozen=True, kw_only=True)
class File(Source):
    """Features and a label (classes) or target (numbers) from ``path``: npz, or csv, tsv and data, gzipped or not.

    An x of shape (n, steps, features) in an npz file holds sequences: each feature is scaled alike at every step, and
    labels of shape (n, steps), or numbers of shape (n, steps) or (n, steps, targets), are of the steps.

    The label is the column that ``label`` or ``target`` names, else the one called label, target, class or y. What
    was understood is the dataset's ``summary``; what is not certain is refused with the key that decides it.

    Attributes
    ----------
    path, test_path : str
        The file, and one of the same columns that is tested on.
    label, target : str or int
        The column or array of classes, or of numbers.
    task : str
        auto, classification or regression.
    header : str or bool
        Whether the first line of a text names its columns; "auto" refuses where it looks like data.
    categorical : str
        error or onehot: what becomes of features that are words.
    missing : str
        error, drop or fill: what becomes of missing cells.
    scale_target : str
        standard, unit or none: how the targets of a regression are scaled.
    test_size : int or float
        The share of the samples, or their number, that are tested on.
    x_key, y_key : str
        The arrays of an npz file.
    n_classes : int
        Labels are the integers below it.
    random_state : int
        The seed of the split.
    """

    name: ClassVar[str] = "file"
    path: str | None = None
    test_path: str | None = None
    label: str | int | None = None
    target: str | int | None = None
    task: str = "auto"
    header: str | bool = "auto"
    categorical: str = "error"
    missing: str = "error"
    scale_target: str = "standard"
    test_size: int | float = 0.2
    x_key: str | None = None
    y_key: str | None = None
    n_classes: int | None = None
    random_state: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label is not None and self.target is not None:
            raise DataError("give dataset.label or dataset.target, not both")
        require_choice("task", labels.TASKS, self.task)
        require(self.header in ("auto", True, False), "header", "one of auto, true, false", self.header)
        require_choice("categorical", columns.CATEGORICAL, self.categorical)
        require_choice("missing", columns.GAPS, self.missing)
        require_choice("scale_target", ("standard", "unit", "none"), self.scale_target)
        require_size("test_size", self.test_size)
        require_random_state(self.random_state)
        n = self.n_classes
        require(n is None or 2 <= n <= MAX_CLASSES, "n_classes", f"between 2 and {MAX_CLASSES:,}", n)

    def load(self, rng: np.random.Generator, dtype: DType) -> Dataset:
        """Return the file's samples; raises DataError naming the file and what is wrong in it."""
        if self.path is None:
            raise DataError("dataset.path must name an npz, csv, tsv or data file")
        path = _existing("path", self.path)
        samples = self._read(path)
        if self.test_path is not None:
            other = _existing("test_path", self.test_path)
            if samples.n_test is not None:
                raise DataError(f"{path} has a test part of its own: dataset.test_path must be null")
            tested = self._read(other, samples)
            samples = joined(replace(samples, notes=(*samples.notes, f"the test part is {other.name}")), tested, other)
        try:
            task, y, names = self._decide(samples)
        except ValueError as error:
            raise DataError(f"{path}, column {samples.key}: {error}") from error
        n = len(y)
        if samples.n_test is None:
            rows, test = split(n, self.test_size, self.random_state)
        else:
            rows, test = np.arange(n - samples.n_test), np.arange(n - samples.n_test, n)
        train, val = self.held_out(rows, 0)
        columns_, x = _inputs(samples, train, self.missing == "fill", path)
        target, target_scaler, steps = y, None, samples.y_steps or 1
        if task == "regression":
            width = y.shape[1] // steps
            of_a_step = fitted(y[train].reshape(-1, width), self.scale_target, [samples.key] * width)
            target_scaler = Scaler(np.tile(of_a_step.shift, steps), np.tile(of_a_step.scale, steps))
            with np.errstate(over="ignore"):
                y = target_scaler.transform(y).astype(dtype)
            if not np.isfinite(y).all():
                raise DataError(f"{path}, column {samples.key}: the target has values that {dtype} cannot hold")
        parts = self.scaled(Raw(x, y, train, val, test), dtype, columns=columns_, positions=samples.positions)
        return Dataset(
            name=path.name,
            n_classes=len(names) or None,
            class_names=names,
            image_shape=samples.image_shape,
            sequence_shape=samples.sequence_shape,
            target_steps=samples.y_steps if task == "regression" else None,
            sha256=_checksum(path, self.test_path),
            source=str(path),
            target_scaler=target_scaler,
            summary=summary.sentence(path.name, samples, x.shape[1], names, target),
            notes=(*samples.notes, *summary.notes(columns_, x[train])),
            **parts,
        )

    def _read(self, path: Path, like: Samples | None = None) -> Samples:
        """Return what a file holds; with ``like`` as the test part of those samples, in the same columns."""
        given = self.label if self.label is not None else self.target
        label = None if given is None else str(given)
        if path.suffix.lower() == ".npz":
            return from_npz(path, self.x_key, label if self.y_key is None else self.y_key)
        if is_text(path):
            return from_text(path, self.header, label, self.categorical, self.missing, like)
        raise DataError(f"dataset.path must name an npz, csv, tsv or data file, got {path}")

    def _decide(self, samples: Samples) -> tuple[str, Array, tuple[str, ...]]:
        """Return the task, the labels or targets, and the names of the classes; raises ValueError."""
        given = "label" if self.label is not None else "target" if self.target is not None else None
        y = samples.y[..., 0] if samples.y.ndim > 1 and samples.y.shape[-1] == 1 else samples.y
        wants_numbers = self.task == "regression" or (self.task == "auto" and given == "target")
        if y.ndim > 1:
            hot = None if wants_numbers else labels.one_hot(y.reshape(-1, y.shape[-1]))
            if hot is not None:
                return "classification", hot.reshape(y.shape[:-1]), tuple(str(k) for k in range(y.shape[-1]))
            if y.ndim == 2 and samples.y_steps and y.dtype.kind in "iu" and not wants_numbers:
                of_steps, names = labels.classes(labels.values(y.reshape(-1)), self.n_classes)
                return "classification", of_steps.reshape(y.shape), names
            if given == "label" or self.task == "classification":
                raise ValueError(f"labels must be one a sample, one a step or one-hot, their shape is {y.shape}")
            return "regression", labels.target_numbers(y), ()
        found = labels.values(y)
        task = labels.task(self.task, given, found, samples.key)
        if task == "regression":
            return task, labels.target_numbers(y), ()
        return (task, *labels.classes(found, self.n_classes))


def _existing(key: str, given: str) -> Path:
    path = Path(given).expanduser()
    if path.is_dir():
        raise DataError(f"dataset.{key}={path} is a folder: expected a file, npz or delimited text")
    if not path.is_file():
        raise DataError(f"dataset.{key}={path}: there is no such file")
    return path


def _inputs(samples: Samples, train: Array, fills: bool, path: Path) -> tuple[tuple[Column, ...], Array]:
    """Return how the features become inputs, and these as float64 (rows, inputs), not scaled yet."""
    if not isinstance(samples.x, dict):
        return (), samples.x
    found = columns.fit(samples.x, train, fills, str(path))
    return found, matrix(found, samples.x)


def _checksum(path: Path, test_path: str | None) -> str:
    digest = hashlib.sha256(path.read_bytes())
    if test_path is not None:
        digest.update(Path(test_path).expanduser().read_bytes())
    return digest.hexdigest()
