"""Repeats of a trial: the network trained from several seeds; the trial's value is their mean or median."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from bpx.records import Outcome
from bpx.sweep.options import Options

COMBINE: dict[str, Callable[[Sequence[float]], np.floating]] = {"mean": np.mean, "median": np.median}


@final
@dataclass(frozen=True)
class Repeat:
    """One seed of a trial that has ended.

    Attributes
    ----------
    seed
        The run's seed.
    outcome, error
        How it ended, and why where it counts as diverged.
    metrics
        Its last metrics.
    verdict_final
        The state of its gradients after training.
    """

    seed: int
    outcome: Outcome
    error: str
    metrics: dict[str, float]
    verdict_final: str


@final
@dataclass
class Repeats:
    """The repeats of a trial so far.

    A mean is diverged where one seed is; for a median a diverged seed is worth least, and half of them make the trial
    diverged.
    """

    options: Options
    ended: list[Repeat] = field(default_factory=list)
    histories: list[list[float]] = field(default_factory=list)  # of the first objective, by seed

    def observe(self, value: float) -> float | None:
        """Add a value of the running seed; return the aggregate over the seeds so far at this evaluation.

        None where an earlier seed ended before it.
        """
        if len(self.histories) == len(self.ended):
            self.histories.append([])
        self.histories[-1].append(value)
        k = len(self.histories[-1])
        if any(len(values) < k for values in self.histories):
            return None
        return self._combined([values[k - 1] for values in self.histories])

    @property
    def over(self) -> bool:
        """Whether further seeds cannot change the outcome."""
        return len(self.ended) >= self.options.repeats or self.outcome in (Outcome.PRUNED, Outcome.DIVERGED)

    @property
    def outcome(self) -> Outcome:
        """Outcome of the trial, from the seeds that have ended."""
        outcomes = [repeat.outcome for repeat in self.ended]
        if Outcome.PRUNED in outcomes:
            return Outcome.PRUNED
        diverged = outcomes.count(Outcome.DIVERGED)
        most = 1 if self.options.aggregate == "mean" else math.ceil(self.options.repeats / 2)
        return Outcome.DIVERGED if diverged >= most else Outcome.FINISHED

    @property
    def metrics(self) -> dict[str, float]:
        """Mean or median of every metric that all seeds have that did not diverge."""
        whole = [repeat.metrics for repeat in self.ended if repeat.outcome != Outcome.DIVERGED]
        whole = whole or [repeat.metrics for repeat in self.ended]
        found = {name: [m[name] for m in whole] for name in whole[0] if all(name in m for m in whole)}
        n_diverged = len(self.ended) - len(whole)
        for name, direction in zip(self.options.objectives, self.options.directions, strict=True):
            if name in found:
                found[name] += [math.inf if direction == "minimize" else -math.inf] * n_diverged
        return {name: self._combined(values) for name, values in found.items()}

    @property
    def spread(self) -> dict[str, float]:
        """Standard deviation of each objective over the seeds, for objectives that two or more have."""
        values = {name: [r.metrics[name] for r in self.ended if name in r.metrics] for name in self.options.objectives}
        finite = {name: [v for v in found if math.isfinite(v)] for name, found in values.items()}
        return {name: float(np.std(found, ddof=1)) for name, found in finite.items() if len(found) > 1}

    @property
    def verdict_final(self) -> str:
        """Distinct states of the gradients after training of the seeds."""
        return "/".join(dict.fromkeys(repeat.verdict_final for repeat in self.ended if repeat.verdict_final))

    @property
    def error(self) -> str:
        """Why the trial is diverged, if a seed is."""
        return next((repeat.error for repeat in self.ended if repeat.error), "")

    def _combined(self, values: Sequence[float]) -> float:
        return float(COMBINE[self.options.aggregate](values)) if len(values) > 1 else values[0]
