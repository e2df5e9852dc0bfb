"""Weights & Biases: the run as one of theirs, kept in its directory and sent when the user says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from bpx.records import Outcome
from bpx.system.text import masked
from bpx.tracking.beside import TrackerBeside

MODES = ("offline", "online")
FAILED = (Outcome.FAILED, Outcome.CRASHED)


@final
@dataclass
class WandB(TrackerBeside):
    """Keep metrics, pictures and tags in a run of Weights & Biases, whose id is the name of the run directory.

    Attributes
    ----------
    project, entity
        Where the run goes; ``entity`` null: the user's default.
    mode
        offline (``wandb sync RUN/wandb/offline-run-…`` sends it) or online.
    """

    package: ClassVar[str] = "wandb"

    project: str = "bpx"
    entity: str | None = None
    mode: str = "offline"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode not in MODES:
            raise ValueError(f"tracking.also.wandb.mode must be {' or '.join(MODES)}, got {self.mode!r}")

    def begin(self, directory: Path, name: str, params: Mapping[str, object]) -> None:
        """Open the run."""
        import wandb

        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode="online" if self.mode == "online" else "offline",
            dir=str(directory),
            id=directory.name,
            name=name or None,
            config={key: masked(str(v)) if isinstance(v, str) else v for key, v in params.items()} or None,
            resume="allow",
            reinit="create_new",  # trials of a search are open one after the other, studies beside their runs
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep metrics at a step."""
        self._run.log(dict(metrics), step=step)

    def tag(self, key: str, value: str) -> None:
        """Keep a word in the run's summary."""
        self._run.summary[key] = str(value)  # of an enum it would keep the name

    def image(self, path: Path, key: str, step: int) -> None:
        """Keep a picture, with its step beside it: one that is late belongs to a step that is over."""
        import wandb

        self._run.log({key: wandb.Image(str(path)), f"{key}/step": step}, commit=False)

    def end(self, outcome: Outcome | None) -> None:
        """Close the run."""
        self._run.finish(exit_code=int(outcome in FAILED))
