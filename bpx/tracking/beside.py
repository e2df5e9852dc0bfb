"""Additional trackers, ``tracking.also``: each receives the same metrics, tags and images as MLflow."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bpx.records import Outcome


class TrackerBeside(ABC):
    """Log a run with another tool.

    An exception while the run lasts ends this tracker, not the run.
    """

    package: ClassVar[str]  # what it needs, an extra of bpx of the same name

    def __post_init__(self) -> None:
        if importlib.util.find_spec(self.package) is None:
            raise ValueError(f"tracking={self.package} needs {self.package}: pip install 'bpx[{self.package}]'")

    @abstractmethod
    def begin(self, directory: Path, name: str, params: Mapping[str, object]) -> None:
        """Open a run; for a resumed one ``name`` and ``params`` are empty."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log finite metrics at a step."""

    @abstractmethod
    def tag(self, key: str, value: str) -> None:
        """Set a tag of the run."""

    @abstractmethod
    def image(self, path: Path, key: str, step: int) -> None:
        """Log a PNG image."""

    @abstractmethod
    def end(self, outcome: Outcome | None) -> None:
        """Close the run; ``outcome`` None: other processes still write to it."""
