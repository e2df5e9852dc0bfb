"""What goes into a run and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from bpx.config import Plan
from bpx.data import Dataset
from bpx.engine.arrays import Values
from bpx.engine.network import Network
from bpx.records import Outcome, Records, read, read_metrics
from bpx.runs.resume import Resumed
from bpx.system.run_files import METRICS, RECORD


@final
@dataclass(frozen=True)
class Job:
    """What one run trains.

    Attributes
    ----------
    plan : Plan
        The configuration, decided for the data.
    data : Dataset
        What the network is trained on.
    net : Network
        Initialized and bound.
    rngs : dict of Generator
        The random streams by use.
    directory : Path
        The run's own, which exists.
    name : str
        The run's name without its id.
    overrides : sequence of str
        The words of the command line.
    resume_from : Resumed or None
        The run that goes on, in its own directory.
    flags : sequence of str
        What else was typed to say where configurations are looked for.
    """

    plan: Plan
    data: Dataset
    net: Network
    rngs: dict[str, np.random.Generator]
    directory: Path
    name: str
    overrides: Sequence[str]
    resume_from: Resumed | None = None
    flags: Sequence[str] = ()


@final
@dataclass(frozen=True)
class RunResult:
    """A run that is over.

    Attributes
    ----------
    outcome : Outcome
        How it ended.
    metrics : dict
        The last value of every metric.
    directory : Path
        Where its record is.
    verdict_final : str
        The state of its gradients after training.
    """

    outcome: Outcome
    metrics: dict[str, float]
    directory: Path
    verdict_final: str

    def history(self, name: str) -> tuple[NDArray[np.int64], Values]:
        """Return the steps and values of a metric."""
        return read_metrics(self.directory / METRICS)[name]

    def records(self) -> Records:
        """Return the tidy record of the layers."""
        return read(self.directory / RECORD)


@final
@dataclass
class RunState:
    """What a run that goes on has to know, beside the state of training.

    Attributes
    ----------
    latest : dict
        The last value of every metric that still exists.
    pruned : bool
        Whether the watcher has ended the run.
    stopped : str
        The rule of stop_when that has ended it.
    seconds : float
        Of training, in processes that have ended.
    """

    latest: dict[str, float] = field(default_factory=dict)
    pruned: bool = False
    stopped: str = ""
    seconds: float = 0.0


class Watcher(Protocol):
    """Who follows a run from outside: a sweep its trial."""

    @property
    def tags(self) -> dict[str, str]:
        """Further tags of the run."""

    def started(self, run_id: str | None, directory: Path, dataset: str) -> None:
        """Take note of where the run is kept."""

    def observed(self, metrics: dict[str, float]) -> bool:
        """Take note of what has just been logged; true ends the run as pruned."""
