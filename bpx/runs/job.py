"""The input of a run (``Job``), its result (``RunResult``), its resumable state, and who watches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from bpx.config.plan import Plan
from bpx.data import Dataset
from bpx.engine.arrays import Values
from bpx.engine.network import Network
from bpx.records import Outcome, Records, read, read_metrics
from bpx.runs.resume import Resumed
from bpx.system.run_files import METRICS, RECORD


@final
@dataclass(frozen=True)
class Job:
    """Everything that one run is executed with.

    Attributes
    ----------
    plan : Plan
        The configuration, completed for the data.
    data : Dataset
        The data.
    net : Network
        The initialized network.
    rngs : dict of Generator
        Random streams by use.
    directory : Path
        The run directory, which exists.
    name : str
        The run's name without its id.
    overrides : sequence of str
        Arguments of the command line, as typed.
    resume_from : Resumed or None
        The run to resume, in its own directory; None for a new run.
    flags : sequence of str
        Arguments that add or replace configuration directories and files.
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
    """The result of a run.

    Attributes
    ----------
    outcome : Outcome
        Finished, diverged or pruned.
    metrics : dict
        The last value of every metric.
    directory : Path
        The run directory.
    verdict_final : str
        State of the gradients after training.
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
    """State of a run that checkpoints store besides the state of training.

    Attributes
    ----------
    latest : dict
        The last value of every metric that is still defined.
    pruned : bool
        Whether the watcher has pruned the run.
    stopped : str
        The rule of ``stop_when`` that ended the run, else empty.
    seconds : float
        Training time of the processes before a resume.
    """

    latest: dict[str, float] = field(default_factory=dict)
    pruned: bool = False
    stopped: str = ""
    seconds: float = 0.0


class Watcher(Protocol):
    """An observer of a run; a sweep watches its trials."""

    @property
    def tags(self) -> dict[str, str]:
        """Additional tags of the run."""

    def started(self, run_id: str | None, directory: Path, dataset: str) -> None:
        """Note the tracker's id, the directory and the data of a run that was opened."""

    def observed(self, metrics: dict[str, float]) -> bool:
        """Note the metrics just logged; True ends the run as pruned."""
