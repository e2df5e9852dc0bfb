"""``study.json``: the data and the finding of a study, from which it is drawn and worded without training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from bpx.engine.arrays import Values
from bpx.system.errors import UserError
from bpx.system.files import Json, replaced

Data = Json
FORMAT = 1  # of the file
DIGITS = 6  # significant digits of a saved number
BAND = (10, 50, 90)  # percentiles over the seeds


def percentiles(samples: ArrayLike) -> Values:
    """Return the 10th, 50th and 90th percentile over the seeds: (seeds, n) becomes (3, n); NaN is left out."""
    found: Values = np.nanpercentile(np.atleast_2d(np.asarray(samples, float)), BAND, axis=0)
    return found


@final
@dataclass(frozen=True)
class StudyResult:
    """The result of a study: its data, finding, metrics and figure.

    ``write`` saves everything but the picture as JSON, ``read`` returns it. The keys of the file are ``format`` (1)
    and the attributes below. Numbers have six significant digits; NaN and Infinity are written so, as Python's
    ``json`` does.

    Attributes
    ----------
    name : str
        The study: the name of its file in ``experiments/``.
    question : str
        The question.
    finding : str
        The answer; empty until it has been worded.
    seeds : int
        Number of repeats.
    quick : bool
        Whether it was made with ``--quick``.
    metrics : dict of str to float
        Metrics of the parent run.
    data : dict
        Data of the figure and the finding, by name: numbers, text, arrays (lists in the file) and dictionaries of
        these. An array of three rows that is drawn as a band holds the 10th, 50th and 90th percentile over seeds.
    figure : Path
        Path of the figure.
    """

    name: str
    question: str
    finding: str
    seeds: int
    quick: bool
    metrics: dict[str, float]
    data: Data
    figure: Path = field(compare=False)

    def write(self, path: Path) -> None:
        """Write the file, one line for each entry of the data."""
        head = {"format": FORMAT, "name": self.name, "question": self.question, "finding": self.finding,
                "seeds": self.seeds, "quick": self.quick, "metrics": _plain(self.metrics)}  # fmt: skip
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
        entries = (f"  {json.dumps(key, ensure_ascii=False)}: {_line(value)}" for key, value in self.data.items())
        with replaced(path) as file:
            file.write((text + ',\n "data": {\n' + ",\n".join(entries) + "\n }\n}\n").encode())

    @staticmethod
    def read(path: Path, figure: Path) -> StudyResult:
        """Return the result saved in ``path``, lists of numbers as arrays; raises UserError."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["format"] != FORMAT:
                raise UserError(f"{path}: format {kept['format']}, expected {FORMAT}")
            fields = {key: kept[key] for key in ("name", "question", "finding", "seeds", "quick", "metrics")}
            return StudyResult(
                **fields, data={key: _arrays(value) for key, value in kept["data"].items()}, figure=figure
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: no data of a study: {type(error).__name__}: {error}") from error


def _line(value: object) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _plain(value: object) -> object:
    """Return a value as JSON types, numbers rounded."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _arrays(value: object) -> object:
    """Return a value with its lists of numbers as arrays."""
    if isinstance(value, dict):
        return {key: _arrays(item) for key, item in value.items()}
    if isinstance(value, list) and not _has_text(value):
        return np.array(value)
    return value


def _has_text(value: object) -> bool:
    return any(map(_has_text, value)) if isinstance(value, list) else isinstance(value, str)
