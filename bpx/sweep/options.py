"""The sweeper's options, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from bpx.config import UserError, check_call
from bpx.system.text import brief

MAX_HEARTBEAT = 86_400  # seconds
MAX_SEED = 2**32  # of the samplers' random numbers
AGGREGATES = ("mean", "median")  # of a trial's repeats


@dataclass(frozen=True)
class Options:
    """What stands under hydra.sweeper."""

    sampler: dict[str, Any]
    pruner: dict[str, Any]
    objective: str | list[str]
    direction: str | list[str]
    n_trials: int | None
    n_jobs: int
    timeout: float | None
    study_name: str | None
    storage: str | None
    max_failure_rate: float
    heartbeat: int
    params: dict[str, Any]
    repeats: int = 1
    aggregate: str = "mean"

    def __post_init__(self) -> None:
        for key, least in (("n_trials", 1), ("n_jobs", 1), ("heartbeat", 1), ("repeats", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"hydra.sweeper.{key} must be at least {least}, got {value}")
        if self.heartbeat > MAX_HEARTBEAT:
            raise ValueError(f"hydra.sweeper.heartbeat must be at most {MAX_HEARTBEAT}, got {self.heartbeat}")
        if self.aggregate not in AGGREGATES:
            raise ValueError(f"hydra.sweeper.aggregate must be {' or '.join(AGGREGATES)}, got {brief(self.aggregate)}")
        if self.storage is not None and "://" not in self.storage:
            path = Path(self.storage)
            if not self.storage or (path.exists() and not path.is_file()):
                raise ValueError(f"hydra.sweeper.storage must be a file or a database's URL, got {self.storage!r}")
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"hydra.sweeper.timeout must be positive, got {self.timeout:g}")
        if not 0 <= self.max_failure_rate <= 1:
            raise ValueError(f"hydra.sweeper.max_failure_rate must be in [0, 1], got {self.max_failure_rate:g}")
        if self.study_name is not None and (not self.study_name or set(self.study_name) & set("/\\\0")):
            raise ValueError(f"hydra.sweeper.study_name must be a name without slashes, got {self.study_name!r}")
        if not self.objectives or len(self.objectives) != len(self.directions):
            raise ValueError(
                f"hydra.sweeper.direction must be one for each objective, got {len(self.directions)} "
                f"for {len(self.objectives)}"
            )
        for direction in self.directions:
            if direction not in ("minimize", "maximize"):
                raise ValueError(f"hydra.sweeper.direction must be minimize or maximize, got {direction}")

    @property
    def is_grid(self) -> bool:
        """Whether every point of the space is tried, once."""
        return "BruteForce" in str(self.sampler.get("_target_"))

    def budget(self, size: int | None) -> float:
        """Return how many trials a study has, of ``size`` points or (None) endless ones; raises UserError."""
        if size is not None and self.is_grid:
            return min(size, self.n_trials or size)
        if self.n_trials is None and self.timeout is None:
            raise UserError(
                "hydra.sweeper.n_trials=null needs hydra.sweeper.timeout, or hydra/sweeper/sampler=grid and a space "
                "without intervals"
            )
        return self.n_trials or math.inf

    @property
    def objectives(self) -> list[str]:
        """The metrics that are searched for."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective)

    @property
    def directions(self) -> list[str]:
        """Minimize or maximize, one for each objective."""
        return [self.direction] if isinstance(self.direction, str) else list(self.direction)

    def seeded(self, seed: int) -> Options:
        """Return the options with the sampler's seed, which is ``seed`` unless it is given."""
        if self.sampler.get("seed", seed) is not None:
            return self  # given, or a sampler without a seed
        return replace(self, sampler=self.sampler | {"seed": seed % MAX_SEED})

    def sampler_of(self, number: int) -> Any:
        """Build the sampler of a trial, its random numbers a function of the seed and of the trial's number alone.

        So a study that goes on, or that several processes share, draws new points; raises UserError.
        """
        seed = self.sampler.get("seed")
        if seed is None:
            return self.make("sampler")
        drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        return replace(self, sampler=self.sampler | {"seed": drawn}).make("sampler")

    def try_out(self, distributions: Mapping[str, Any]) -> None:
        """Ask sampler and pruner once, in a study of no account; raises UserError where they cannot answer."""
        import optuna

        sampler, pruner = self.make("sampler"), self.make("pruner")
        directions = [optuna.study.StudyDirection[d.upper()] for d in self.directions]
        part = "sampler"
        try:
            study = optuna.create_study(sampler=sampler, pruner=pruner, directions=directions)
            trial = study.ask(dict(distributions))
            if len(directions) == 1:
                part = "pruner"
                for step in range(2):
                    trial.report(0.5, step)
                    trial.should_prune()
        except Exception as error:
            raise self._refused(part, error) from error

    def make(self, part: str) -> Any:
        """Build the ``sampler`` or the ``pruner``; raises UserError."""
        try:
            return instantiate(getattr(self, part))
        except Exception as error:
            cause: BaseException = error.__cause__ or error
            raise self._refused(part, cause) from error

    def _refused(self, part: str, error: BaseException) -> UserError:
        given = ", ".join(f"{k}={brief(v)}" for k, v in getattr(self, part).items() if not k.startswith("_"))
        text = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"hydra.sweeper.{part} ({given}): {text}")


def parse_options(node: Any) -> Options:
    """Return the options of a composed ``hydra.sweeper``; raises UserError."""
    plain = {
        str(key): OmegaConf.to_container(value, resolve=True) if isinstance(value, (DictConfig, ListConfig)) else value
        for key, value in node.items()
        if not str(key).startswith("_")
    }
    return check_call("hydra.sweeper", Options, plain)
