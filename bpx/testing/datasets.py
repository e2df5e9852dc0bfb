"""The check of a data source."""

from __future__ import annotations

import numpy as np

from bpx.data.dataset import Dataset, Source
from bpx.engine.arrays import Array, DType
from bpx.testing.expect import DTYPES, expect


def check_dataset(source: Source) -> None:
    """Check a data source.

    That it loads the same samples from the same seed, in float32 and float64; that features are finite numbers
    (rows, n_in) of that dtype, and labels integers from 0 to n_classes - 1, or targets numbers of that dtype; a name, a
    checksum, where the data come from, and a docstring.

    Parameters
    ----------
    source : Source
        With the parameters with which it is used.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = type(source).__name__
    expect(vars(type(source)).get("__doc__"), f"{name} has no docstring")
    loaded = [source.load(np.random.default_rng(3), dtype) for dtype in (*DTYPES, DTYPES[-1])]
    for data, dtype in zip(loaded, (*DTYPES, DTYPES[-1]), strict=True):
        _check_parts(name, data, dtype)
    single, first, again = loaded
    for part in ("train", "val", "test"):
        for key in (f"x_{part}", f"y_{part}"):
            a, b = getattr(first, key), getattr(again, key)
            same = (a is None and b is None) or np.array_equal(a, b)
            expect(same, f"{name} loads another {key} from the same seed")
    expect(
        single.sha256 == first.sha256 == again.sha256, f"{name}: sha256 must be that of the data, whatever the dtype"
    )


def _check_parts(name: str, data: Dataset, dtype: DType) -> None:
    for key in ("name", "source", "sha256"):
        expect(getattr(data, key), f"{name}: the dataset's {key} must be given")
    n_in = data.x_train.shape[1]
    expect(len(data.x_train) > 0, f"{name}: there are no training samples")
    expect(data.scaler.shift.shape == (n_in,), f"{name}: the scaler must be of {n_in} features")
    for part in ("train", "val", "test"):
        x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
        if x is None:
            continue
        expect(x.ndim == 2 and x.shape[1] == n_in, f"{name}: x_{part} must be (rows, {n_in}), got {x.shape}")
        expect(x.dtype == dtype, f"{name}: x_{part} must be {dtype}, got {x.dtype}")
        expect(np.isfinite(x).all(), f"{name}: x_{part} has numbers that are not finite")
        _check_targets(name, part, data, y, len(x), dtype)


def _check_targets(name: str, part: str, data: Dataset, y: Array, rows: int, dtype: DType) -> None:
    expect(len(y) == rows, f"{name}: y_{part} has {len(y)} rows, x_{part} {rows}")
    if data.n_classes is None:
        expect(y.ndim == 2 and y.dtype == dtype, f"{name}: y_{part} must be (rows, targets) of {dtype}, got {y.dtype}")
        expect(y.shape[1] % (data.target_steps or 1) == 0, f"{name}: target_steps must divide the {y.shape[1]} targets")
        expect(np.isfinite(y).all(), f"{name}: y_{part} has numbers that are not finite")
        return
    shapes = [(rows,), (rows, *data.sequence_shape[:1])] if data.sequence_shape else [(rows,)]
    whole = y.shape in shapes and y.dtype.kind in "iu"
    expect(whole, f"{name}: y_{part} must be integers (rows,) or (rows, steps), got {y.dtype} of shape {y.shape}")
    inside = not rows or (y.min() >= 0 and y.max() < data.n_classes)
    expect(inside, f"{name}: y_{part} must be from 0 to {data.n_classes - 1}")
    named = len(data.class_names) == data.n_classes
    expect(named, f"{name}: class_names must be {data.n_classes}, got {len(data.class_names)}")
