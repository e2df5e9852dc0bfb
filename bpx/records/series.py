"""The metrics of a run by step, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bpx.engine.arrays import Values
from bpx.system.text import brief

Series = dict[str, tuple[NDArray[np.int64], Values]]  # the steps and values of every metric


def aligned(runs: Sequence[tuple[NDArray[np.int64], Values]]) -> tuple[NDArray[np.int64], Values]:
    """Return the union of the steps (n,) of several series, and their values (runs, n), NaN where missing."""
    steps = np.unique(np.concatenate([at for at, _ in runs]))
    values = np.full((len(runs), len(steps)), np.nan)
    for row, (at, own) in zip(values, runs, strict=True):
        row[np.searchsorted(steps, at)] = own
    return steps, values


def read_metrics(path: Path) -> Series:
    """Return the steps and values of every metric in a run's ``metrics.jsonl``.

    Raises ValueError that names the first damaged line.
    """
    found: dict[str, tuple[list[int], list[float]]] = {}
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):  # the last may be half written
        try:
            record = json.loads(line)
            for name, value in record["metrics"].items():
                steps, values = found.setdefault(name, ([], []))
                steps.append(int(record["step"]))
                values.append(float(value))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number}: expected a step and its metrics, got {brief(line)}") from error
    return {name: (np.array(s, np.int64), np.array(v)) for name, (s, v) in found.items()}
