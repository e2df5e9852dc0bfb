"""The sweeper's options, checked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from bpx.config.calls import check_call, check_type, target
from bpx.engine.numbers import require
from bpx.system.errors import UserError
from bpx.system.files import Json
from bpx.system.text import brief

MAX_HEARTBEAT = 86_400  # seconds
MAX_SEED = 2**32  # of the samplers' random numbers
ANNOTATIONS = {"int": int, "int | None": int | None, "float": float, "float | None": float | None, "bool": bool}
AGGREGATES = ("mean", "median")  # of a trial's repeats


@dataclass(frozen=True)
class Options:
    """The keys of hydra.sweeper.

    Attributes
    ----------
    sampler, pruner
        How Optuna's sampler and pruner are built.
    objective, direction
        A logged metric, or several, and minimize or maximize for each.
    n_trials
        The trials of the whole study; None is every point of a grid, or as many as ``timeout`` allows.
    n_jobs
        Trials launched at once.
    timeout
        Seconds after which this process begins no further trial.
    study_name, storage
        The study's name, and the file or database it is kept in.
    max_failure_rate
        The share of failed trials beyond which the search ends.
    heartbeat
        Seconds between two signs of life; after three without one a trial counts as lost.
    params
        The space that is searched, by key.
    repeats, aggregate
        The seeds of every trial, and whether their mean or median counts.
    enqueue
        Parameters of trials that come first.
    """

    sampler: Json
    pruner: Json
    objective: str | list[str]
    direction: str | list[str]
    n_trials: int | None
    n_jobs: int
    timeout: float | None
    study_name: str | None
    storage: str | None
    max_failure_rate: float
    heartbeat: int
    params: Mapping[str, object]
    repeats: int = 1
    aggregate: str = "mean"
    enqueue: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key in ("n_trials", "n_jobs", "heartbeat", "repeats"):
            value = getattr(self, key)
            _require(value is None or value >= 1, key, "at least 1", value)
        _require(self.heartbeat <= MAX_HEARTBEAT, "heartbeat", f"at most {MAX_HEARTBEAT}", self.heartbeat)
        _require(self.aggregate in AGGREGATES, "aggregate", " or ".join(AGGREGATES), brief(self.aggregate))
        path = Path(self.storage or "")
        file = self.storage is None or "://" in self.storage or (self.storage and (path.is_file() or not path.exists()))
        _require(bool(file), "storage", "a file or a database's URL", repr(self.storage))
        _require(self.timeout is None or self.timeout > 0, "timeout", "positive", self.timeout)
        _require(0 <= self.max_failure_rate <= 1, "max_failure_rate", "in [0, 1]", self.max_failure_rate)
        points = all(isinstance(point, dict) and point for point in self.enqueue)
        _require(points, "enqueue", "a list of keys with values, as in [{optimizer.lr: 0.1}]", brief(self.enqueue))
        name = self.study_name is None or (self.study_name and not set(self.study_name) & set("/\\\0"))
        _require(bool(name), "study_name", "a name without slashes", repr(self.study_name))
        n, counts = len(self.objectives), f"{len(self.directions)} for {len(self.objectives)}"
        _require(0 < n == len(self.directions), "direction", "one for each objective", counts)
        for direction in self.directions:
            _require(direction in ("minimize", "maximize"), "direction", "minimize or maximize", direction)

    @property
    def is_grid(self) -> bool:
        """Whether every point of the space is tried once."""
        return "BruteForce" in str(self.sampler.get("_target_"))

    @property
    def is_sequence(self) -> bool:
        """Whether points are from one quasi-random sequence, with one seed in all processes."""
        return "QMC" in str(self.sampler.get("_target_"))

    def budget(self, size: int | None) -> float:
        """Return the number of trials for a space of ``size`` points, None: unlimited; raises UserError."""
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
        """The metrics to optimize."""
        return [self.objective] if isinstance(self.objective, str) else list(self.objective)

    @property
    def directions(self) -> list[str]:
        """Minimize or maximize, per objective."""
        return [self.direction] if isinstance(self.direction, str) else list(self.direction)

    def seeded(self, seed: int) -> Options:
        """Return the options with the sampler's seed set to ``seed`` unless it is given."""
        if self.sampler.get("seed", seed) is not None:
            return self  # given, or a sampler without a seed
        return replace(self, sampler=self.sampler | {"seed": seed % MAX_SEED})

    def sampler_of(self, number: int) -> BaseSampler:
        """Return the sampler of a trial; its random numbers depend only on the seed and the number of the trial.

        A continued study, or one shared by several processes, then draws new points; raises UserError.
        """
        seed, options, more = self.sampler.get("seed"), self, {}
        if seed is not None:
            drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
            if self.is_sequence:
                more["independent_sampler"] = optuna.samplers.RandomSampler(seed=drawn)
            else:
                options = replace(self, sampler=self.sampler | {"seed": drawn})
        sampler: BaseSampler = options.make("sampler", **more)
        return sampler

    def try_out(self, distributions: Mapping[str, BaseDistribution]) -> None:
        """Ask sampler and pruner once, in a scratch study; raises UserError if either fails."""
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

    def make(self, part: str, **more: object) -> Any:
        """Build the ``sampler`` or the ``pruner``; raises UserError."""
        given = getattr(self, part)
        taken = inspect.signature(target(f"hydra.sweeper.{part}", given)).parameters
        for key in given.keys() & taken.keys():
            annotation = taken[key].annotation
            if hint := ANNOTATIONS.get(getattr(annotation, "__name__", str(annotation))):
                check_type(f"hydra.sweeper.{part}.{key}", given[key], hint)
        try:
            return instantiate(given, **more)
        except Exception as error:
            cause: BaseException = error.__cause__ or error
            raise self._refused(part, cause) from error

    def _refused(self, part: str, error: BaseException) -> UserError:
        given = ", ".join(f"{k}={brief(v)}" for k, v in getattr(self, part).items() if not k.startswith("_"))
        text = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"hydra.sweeper.{part} ({given}): {text}")


def parse_options(node: DictConfig) -> Options:
    """Return the options of a composed ``hydra.sweeper``; raises UserError."""
    plain = {
        str(key): OmegaConf.to_container(value, resolve=True) if isinstance(value, (DictConfig, ListConfig)) else value
        for key, value in node.items()
        if not str(key).startswith("_")
    }
    return check_call("hydra.sweeper", Options, plain)


def _require(allowed: bool, key: str, expected: str, value: object) -> None:
    require(allowed, f"hydra.sweeper.{key}", expected, value)
