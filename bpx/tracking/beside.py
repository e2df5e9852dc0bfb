"""Trackers beside the local record and MLflow, ``tracking.also``: each is told the same as these."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bpx.records import Outcome


class TrackerBeside(ABC):
    """Keep what a run tells of itself in the way of another tool.

    What it raises while a run lasts ends it, not the run.
    """

    package: ClassVar[str]  # what it needs, an extra of bpx of the same name

    def __post_init__(self) -> None:
        if importlib.util.find_spec(self.package) is None:
            raise ValueError(f"tracking={self.package} needs {self.package}: pip install 'bpx[{self.package}]'")

    @abstractmethod
    def begin(self, directory: Path, name: str, params: Mapping[str, object]) -> None:
        """Open a run, or go on with it: then ``name`` and ``params`` are empty."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep finite metrics at a step."""

    @abstractmethod
    def tag(self, key: str, value: str) -> None:
        """Attach a word to the run, in place of an earlier one."""

    @abstractmethod
    def image(self, path: Path, key: str, step: int) -> None:
        """Keep a picture, a png."""

    @abstractmethod
    def end(self, outcome: Outcome | None) -> None:
        """Close the run; None where others go on with it."""
