"""A summary of how a file was read, printed before training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bpx.data.samples import Samples
from bpx.engine.arrays import Array
from bpx.engine.features import Column
from bpx.system.text import counted, first_few

MIN_ROWS = 10  # from which a feature is reported as a row number
TINY = 1e-30  # features of this size are said: little else in a network works at it


def sentence(name: str, samples: Samples, n_in: int, class_names: Sequence[str], y: Array) -> str:
    """Return a summary of a file in one line: rows, features, the label or target, the separator."""
    features = len(samples.names) or n_in
    if class_names:
        what = f"label {samples.key} ({len(class_names)} classes: {first_few(class_names, 1)})"
    else:
        each = y[0].size // (samples.y_steps or 1)
        several = f"{each} numbers of a {'step' if samples.y_steps else 'row'}, " if each > 1 else ""
        what = f"target {samples.key} (regression, {several}{y.min():.6g} to {y.max():.6g})"
    inputs = f"{counted(features, 'feature')}{_row_numbers(samples)}"
    if samples.image_shape and (samples.pixels or len(samples.shape) > 2):
        inputs = f"images of shape {' x '.join(map(str, samples.shape))}"
    elif samples.sequence_shape:
        steps, each = samples.sequence_shape
        inputs = f"{counted(steps, 'step')} of {counted(each, 'feature')}"
    rows = counted(len(y), "row")
    if samples.n_test is not None:
        rows = f"{counted(len(y) - samples.n_test, 'row')} to train on and {samples.n_test:,} to test on"
    parts = [rows, inputs, what]
    if samples.separator:
        parts.append(f"separator {samples.separator}")
    return f"{name}: {', '.join(parts)}"


def notes(columns: Sequence[Column], x: Array) -> tuple[str, ...]:
    """Return notes on the training rows ``x`` (rows, inputs): text columns, constant and tiny features."""
    found = []
    if words := [f"{c.name} ({len(c.categories)})" for c in columns if c.categories is not None]:
        found.append(f"one input for each word of {first_few(words)}")
    names = [c.name for c in columns if c.categories is None] if columns else [str(k) for k in range(x.shape[1])]
    if columns:
        x = x[:, [c.categories is None for c in columns for _ in range(c.width)]]
    constant = [names[k] for k in np.flatnonzero((x == x[0]).all(axis=0))]
    if constant and len(constant) == len(names) and not words:
        found.append("every feature is constant in the training part: the inputs carry nothing")
    elif constant:
        found.append(f"constant in the training part, so that they carry nothing: {first_few(constant)}")
    size = np.abs(x).max(axis=0, initial=0.0)
    if len(tiny := np.flatnonzero((size > 0) & (size < TINY))):
        more = f" (and {len(tiny) - 1} more)" if len(tiny) > 1 else ""
        found.append(f"feature {names[tiny[0]]} is tiny, at most {size[tiny[0]]:.3g}{more}: scaled in float64")
    return tuple(found)


def _row_numbers(samples: Samples) -> str:
    """Return a note on features that look like row numbers: distinct consecutive integers."""
    n = len(samples.y) - (samples.n_test or 0)
    if n < MIN_ROWS:
        return ""
    if isinstance(samples.x, dict):
        columns = {name: column[:n] for name, column in samples.x.items() if column.dtype.kind == "f"}
    else:
        spread = np.ptp(samples.x[:n], axis=0)
        columns = {str(k): samples.x[:n, k] for k in np.flatnonzero(spread == n - 1)}
    found = {name: np.sort(column) for name, column in columns.items()}
    found = {name: column for name, column in found.items() if column[0] % 1 == 0 and (np.diff(column) == 1).all()}
    if not found:
        return ""
    first, last = next((column[0], column[-1]) for column in found.values())
    verb = "numbers" if len(found) == 1 else "number"
    return f" ({first_few(list(found))} {verb} the rows, {first:g} to {last:.15g})"
