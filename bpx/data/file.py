"""The user's own data: an npz or a csv file."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bpx.data import npz
from bpx.data.dataset import Array, DataError, Dataset, Raw, Source, split_80_20
from bpx.data.npz import LARGEST

MOST_CLASSES = 10**5


@dataclass(frozen=True, kw_only=True)
class File(Source):
    """Features and a label (classes) or target (numbers) from ``path``, split 80/20.

    npz: the arrays ``x`` and ``y`` (or those that ``label`` or ``target`` names for y). csv, with a header: the
    column that ``label`` or ``target`` names, else one called label or target, else the last; the other columns
    are features. Labels may be words or whole numbers; with ``n_classes`` they must be 0 to n_classes - 1.
    """

    name: ClassVar[str] = "file"
    path: str | None = None
    label: str | None = None
    target: str | None = None
    n_classes: int | None = None
    random_state: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label is not None and self.target is not None:
            raise DataError("give dataset.label or dataset.target, not both")
        if not 0 <= self.random_state < 2**32:
            raise DataError(f"dataset.random_state must be at least 0 and below 2**32, got {self.random_state}")
        if self.n_classes is not None and not 2 <= self.n_classes <= MOST_CLASSES:
            raise DataError(f"dataset.n_classes must be between 2 and {MOST_CLASSES:,}, got {self.n_classes}")

    def load(self, rng: np.random.Generator, dtype: np.dtype[Any]) -> Dataset:
        """Return the file's samples; raises DataError naming the file and what is wrong in it."""
        if self.path is None:
            raise DataError("dataset.path must name an npz or csv file")
        path = Path(self.path)
        if path.suffix not in (".npz", ".csv"):
            raise DataError(f"dataset.path must name an npz or csv file, got {path}")
        if not path.is_file():
            raise DataError(f"dataset.path={path}: there is no such file")
        x, y, regression = self._npz(path) if path.suffix == ".npz" else self._csv(path)
        if len(x) != len(y) or not len(x) or x.ndim != 2:
            raise DataError(f"{path}: x is {x.shape} and y is {y.shape}; needed are (n, features) and n rows of y")
        if not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0]
            raise DataError(f"{path}: x has NaN or Inf, first in sample {row}, feature {column}")
        names: tuple[str, ...] = ()
        if regression:
            with np.errstate(over="ignore"):
                y = y.reshape(len(y), -1).astype(dtype)
            if not np.isfinite(y).all():
                raise DataError(
                    f"{path}: the target has NaN or Inf, first in sample {np.argwhere(~np.isfinite(y))[0][0]}"
                )
        else:
            y, names = self._classes(path, y)
        rows, test = split_80_20(len(x), seed=self.random_state)
        train, val = self.held_out(rows, 0)
        return Dataset(
            name=path.name,
            n_classes=len(names) or None,
            class_names=names,
            image_shape=None,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            source=str(path),
            **self.scaled(Raw(x, y, train, val, test), dtype),
        )

    def _npz(self, path: Path) -> tuple[Array, Array, bool]:
        key = self.label or self.target or "y"
        arrays = npz.read(path, ("x", key))
        x, y = arrays["x"], arrays[key]
        if x.dtype.kind not in "fiub":
            raise DataError(f"{path}: x must hold numbers, its type is {x.dtype}")
        if x.ndim < 2 or y.ndim not in (1, 2) or not x.size or len(x) != len(y):
            raise DataError(f"{path}: x is {x.shape} and y is {y.shape}; needed are (n, features) and n rows of y")
        if y.dtype.kind not in ("fiub" if self.target is not None else "fiubUS"):
            raise DataError(f"{path}: y holds {y.dtype}, which is neither numbers nor labels")
        regression = self.target is not None or (self.label is None and (y.ndim > 1 or y.dtype.kind == "f"))
        return x.reshape(len(x), -1).astype(np.float64), y, regression

    def _csv(self, path: Path) -> tuple[Array, Array, bool]:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} holds {path.stat().st_size:,} bytes; a csv may hold {LARGEST:,}")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = [line for line in csv.reader(file) if line]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        if len(lines) < 2 or len(lines[0]) < 2:
            raise DataError(f"{path} needs a header, a feature and a label column, and samples")
        header = [cell.strip() for cell in lines[0]]
        key = self.label or self.target or next((k for k in ("label", "target") if k in header), header[-1])
        if key not in header:
            raise DataError(f"{path} has no column {key!r}; it has {', '.join(header)}")
        at = header.index(key)
        x = np.empty((len(lines) - 1, len(header) - 1))
        for i, line in enumerate(lines[1:]):
            if len(line) != len(header):
                raise DataError(f"{path}, line {i + 2}: {len(line)} cells, the header has {len(header)}")
            try:
                x[i] = [float(cell) for k, cell in enumerate(line) if k != at]
            except ValueError as error:
                raise DataError(f"{path}, line {i + 2}: {error}") from error
        column = [line[at].strip() for line in lines[1:]]
        if "" in column:
            raise DataError(f"{path}, line {column.index('') + 2}: the column {key} is empty")
        if self.target is not None or (self.label is None and key == "target"):
            try:
                return x, np.array([float(cell) for cell in column]), True
            except ValueError as error:
                raise DataError(f"{path}, column {key}: {error}") from error
        return x, np.array(column), False

    def _classes(self, path: Path, y: Array) -> tuple[Array, tuple[str, ...]]:
        y = y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim != 1:
            raise DataError(f"{path}: labels must be one a sample, their shape is {y.shape}")
        try:
            numbers = y.astype(np.float64)
        except ValueError:
            numbers = None
        if numbers is not None:
            whole = np.isfinite(numbers) & (numbers == np.round(np.where(np.isfinite(numbers), numbers, 0.5)))
            if not whole.all():
                i = int(np.argmin(whole))
                raise DataError(f"{path}: the label {y[i]} of sample {i} is no class; give dataset.target for numbers")
            y = numbers.astype(np.int64)
        if self.n_classes is not None:
            outside = numbers is None or bool((y < 0).any() or (y >= self.n_classes).any())
            if outside:
                bad = y[0] if numbers is None else y[(y < 0) | (y >= self.n_classes)][0]
                raise DataError(f"{path}: the label {bad} is outside the classes 0 to {self.n_classes - 1}")
            return y, tuple(str(k) for k in range(self.n_classes))
        found, labels = np.unique(y, return_inverse=True)
        if len(found) < 2:
            raise DataError(f"{path}: all labels are {found[0]}; at least two classes are needed")
        return labels.astype(np.int64), tuple(str(k) for k in found)
