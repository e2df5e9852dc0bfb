"""The state of a training run between two steps: everything that the next step depends on.

``capture`` copies theta, the running statistics and the optimizer's vectors once; it is cheap enough to be taken
in memory every few dozen steps. ``restore`` puts a state back, from which training continues bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from bpx.data import Batches
from bpx.engine.arrays import Arrays
from bpx.engine.memory import Stateful, add_prefix, select_prefix
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.system.files import Json


@dataclass
class Progress(Stateful):
    """The loop's own counters: steps made, the costs since the last record, and what early stopping watches."""

    state_fields: ClassVar[tuple[str, ...]] = ("step", "evaluated", "best", "n_bad", "total", "count")

    step: int = 0
    evaluated: int = 0
    best: float = math.inf
    n_bad: int = 0
    total: float = 0.0
    count: int = 0

    def take(self) -> dict[str, float]:
        """Return the mean cost since the last call, if there was a step, and reset it."""
        mean = {"cost/train": self.total / self.count} if self.count else {}
        self.total, self.count = 0.0, 0
        return mean


class SupportsStateDict(Protocol):
    """An object with state_dict and load_state_dict, its state as arrays by name."""

    def state_dict(self) -> Arrays:
        """Return copies of the state."""

    def load_state_dict(self, state: Arrays) -> None:
        """Restore what ``state_dict`` returned; raises ValueError if a name, shape or dtype differs."""


@dataclass(frozen=True)
class State:
    """The state between two steps: arrays by name (``net/theta``, ``optimizer/0.Adam/m``), and facts that are JSON."""

    arrays: Arrays
    facts: Json


@dataclass(frozen=True)
class Training:
    """The parts of a run that change while it trains; ``others`` (probes) are added by name."""

    net: Network
    optimizer: Optimizer
    batches: Batches
    progress: Progress
    others: dict[str, SupportsStateDict] = field(default_factory=dict)

    def capture(self) -> State:
        """Return the state; to be called between two steps."""
        arrays: Arrays = {}
        for name, part in self._parts().items():
            arrays |= add_prefix(name, part.state_dict())
        generators = {name: rng.bit_generator.state for name, rng in self._generators().items()}
        return State(arrays, {"generators": generators})

    def restore(self, state: State) -> None:
        """Restore a state; raises ValueError if it does not fit this run, which is then partly restored."""
        for name, part in self._parts().items():
            part.load_state_dict(select_prefix(name, state.arrays))
        try:
            for name, rng in self._generators().items():
                rng.bit_generator.state = state.facts["generators"][name]
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"the state has no such random generators: {error}") from error

    def _parts(self) -> dict[str, SupportsStateDict]:
        own: dict[str, SupportsStateDict] = {
            "net": self.net,
            "optimizer": self.optimizer,
            "batches": self.batches,
            "progress": self.progress,
        }
        return own | self.others

    def _generators(self) -> dict[str, np.random.Generator]:
        return {"dropout": self.net.rng, "shuffle": self.batches.rng}
