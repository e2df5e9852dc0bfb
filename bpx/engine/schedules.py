"""Schedules: the learning rate at a step as a multiple of the base rate; steps count from 0."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

from bpx.engine.memory import Stateful
from bpx.engine.numbers import power, require, require_positive


@dataclass(kw_only=True)
class LRSchedule(Stateful, ABC):
    """A multiplier by step: a linear warm-up to 1 (Goyal et al. 2017, section 2.2), then the schedule proper.

    At step t of W warm-up steps it is (t + 1) / W where t < W - 1, then ``at`` of the steps since (as
    ``warmup_cosine_decay_schedule`` of optax: the warm-up precedes the decay, so that the base rate is reached).

    Attributes
    ----------
    warmup_steps : int
        Steps of the warm-up, the last of them at the base rate.
    total_steps : int
        Steps of the whole run, the warm-up among them.
    needs_total_steps : bool
        Whether it is laid out over all steps.
    follows_cost : bool
        Whether it acts on evaluations.
    """

    name: ClassVar[str]
    needs_total_steps: ClassVar[bool] = False
    follows_cost: ClassVar[bool] = False
    warmup_steps: int = 0
    total_steps: int = 1

    def __post_init__(self) -> None:
        require(self.warmup_steps >= 0, "schedule.warmup_steps", "at least 0", self.warmup_steps)

    def __call__(self, step: int) -> float:
        """Return the multiplier of ``step``."""
        warmup = max(self.warmup_steps - 1, 0)
        return (step + 1) / self.warmup_steps if step < warmup else self.at(step - warmup)

    @property
    def decay_steps(self) -> int:
        """The number of steps from the first at the base rate on, at least 1."""
        return max(self.total_steps - max(self.warmup_steps - 1, 0), 1)

    @abstractmethod
    def at(self, step: int) -> float:
        """Return the multiplier ``step`` steps after the warm-up."""

    def on_evaluation(self, cost: float) -> None:
        """Take note of an evaluation's cost; only plateau acts on it."""
        return None


@final
@dataclass(kw_only=True)
class Constant(LRSchedule):
    """The base rate throughout: 1."""

    name: ClassVar[str] = "constant"

    def at(self, step: int) -> float:
        """Return 1."""
        return 1.0


@final
@dataclass(kw_only=True)
class Step(LRSchedule):
    """Times ``gamma`` after every ``step_size`` steps: gamma**(step // step_size) (He et al. 2016, section 4.2).

    Attributes
    ----------
    step_size : int
        Steps between two changes.
    gamma : float
        The factor of each.
    """

    name: ClassVar[str] = "step"
    step_size: int = 1000
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("schedule.step_size", self.step_size)
        require_positive("schedule.gamma", self.gamma)

    def at(self, step: int) -> float:
        """Return gamma**(step // step_size)."""
        return power(self.gamma, step // self.step_size)


@final
@dataclass(kw_only=True)
class Exponential(LRSchedule):
    """Times ``factor`` at every step: factor**step (Senior et al. 2013)."""

    name: ClassVar[str] = "exponential"
    factor: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("schedule.factor", self.factor)

    def at(self, step: int) -> float:
        """Return factor**step."""
        return power(self.factor, step)


def _cosine(start: float, end: float, part: float) -> float:
    """Return the value at a part of the way from ``start`` to ``end`` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


@final
@dataclass(kw_only=True)
class Cosine(LRSchedule):
    """Half a cosine from 1 to ``final``: final + (1 - final) (1 + cos(pi step / decay_steps)) / 2.

    (Loshchilov & Hutter 2017, eq. 5, without restarts.)
    """

    name: ClassVar[str] = "cosine"
    needs_total_steps: ClassVar[bool] = True
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.final <= 1, "schedule.final", "in [0, 1]", self.final)

    def at(self, step: int) -> float:
        """Return the cosine's value."""
        return _cosine(1.0, self.final, min(step / self.decay_steps, 1.0))


@final
@dataclass(kw_only=True)
class OneCycle(LRSchedule):
    """Up and down along cosines: from 1 / div_factor to 1, then to almost 0.

    The last multiplier is 1 / (div_factor * final_div_factor) (Smith & Topin 2018; PyTorch's two-phase form).

    Attributes
    ----------
    pct_start : float
        The share of the steps that go up.
    div_factor, final_div_factor : float
        How far below 1 the first multiplier is, and the last below the first.
    """

    name: ClassVar[str] = "one_cycle"
    needs_total_steps: ClassVar[bool] = True
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("schedule.div_factor", self.div_factor)
        require_positive("schedule.final_div_factor", self.final_div_factor)
        require(0 < self.pct_start < 1, "schedule.pct_start", "in (0, 1)", self.pct_start)

    def at(self, step: int) -> float:
        """Return the cycle's value."""
        low, last = 1 / self.div_factor, 1 / (self.div_factor * self.final_div_factor)
        top = self.pct_start * self.decay_steps - 1
        if step <= top:
            return _cosine(low, 1.0, step / top if top > 0 else 1.0)
        return _cosine(1.0, last, min((step - top) / (self.decay_steps - 1 - top), 1.0))


@final
@dataclass(kw_only=True)
class Plateau(LRSchedule):
    """Times ``factor`` whenever the evaluated cost has not fallen for more than ``patience`` evaluations.

    (He et al. 2016, section 3.4.)

    A cost counts as lower when cost < (1 - threshold) * best, best being the lowest so far.

    Attributes
    ----------
    factor : float
        Of each change.
    patience : int
        Evaluations without a lower cost that are waited for.
    threshold : float
        The relative gain that counts.
    """

    name: ClassVar[str] = "plateau"
    follows_cost: ClassVar[bool] = True
    state_fields: ClassVar[tuple[str, ...]] = ("multiplier", "best", "n_bad")
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("schedule.factor", self.factor)
        require(self.patience >= 0, "schedule.patience", "at least 0", self.patience)
        self.multiplier, self.best, self.n_bad = 1.0, math.inf, 0

    def at(self, step: int) -> float:
        """Return the multiplier reached so far."""
        return self.multiplier

    def on_evaluation(self, cost: float) -> None:
        """Count evaluations without a lower cost, and lower the rate when there were too many."""
        if cost < self.best * (1 - self.threshold):
            self.best, self.n_bad = cost, 0
        else:
            self.n_bad += 1
        if self.n_bad > self.patience:
            self.multiplier *= self.factor
            self.n_bad = 0


SCHEDULES: dict[str, type[LRSchedule]] = {
    cls.name: cls for cls in (Constant, Step, Exponential, Cosine, OneCycle, Plateau)
}
