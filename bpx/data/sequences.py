"""Made-up sequences on which memory over many steps is measured: the adding problem, and copying."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bpx.data.dataset import require
from bpx.data.synthetic import Made
from bpx.engine.arrays import Array

MAX_STEPS = 10**5


@dataclass(frozen=True, kw_only=True)
class Adding(Made):
    """The adding problem: the sum of two marked numbers of a sequence.

    A step is a number from U(0, 1) and a mark, 0 or 1; two steps are marked, one in each half. The target is the sum
    of their numbers: its variance 1/6 is the mean squared error of the constant answer 1. (Hochreiter & Schmidhuber
    1997, section 5.4, with the marks of Arjovsky et al. 2016, section 5.2.)

    Attributes
    ----------
    steps : int
        Steps of a sequence.
    """

    name = "adding"
    n_samples: int = 10_000
    scaling: str = "none"
    steps: int = 100

    def __post_init__(self) -> None:
        _require_steps("steps", self.steps, 2)
        super().__post_init__()

    @property
    def columns(self) -> int:
        """The numbers in a sample, and its target."""
        return 2 * self.steps + 1

    @property
    def sequence_shape(self) -> tuple[int, int]:
        """Steps of two features."""
        return self.steps, 2

    @property
    def told(self) -> tuple[str, ...]:
        """What the constant answer reaches."""
        return ("the constant answer 1 has a mean squared error of 1/6 = 0.167: rmse 0.408, cost 0.083",)

    def make(self) -> tuple[Array, Array]:
        """Return sequences (n, steps * 2) and sums (n, 1)."""
        rng, n, half = np.random.default_rng(self.random_state), self.n_samples, self.steps // 2
        x = np.zeros((n, self.steps, 2))
        x[:, :, 0] = rng.random((n, self.steps))
        for low, high in ((0, half), (half, self.steps)):
            x[np.arange(n), rng.integers(low, high, n), 1] = 1
        return x.reshape(n, -1), x.prod(axis=2).sum(axis=1, keepdims=True)


@dataclass(frozen=True, kw_only=True)
class Copying(Made):
    """Copying memory: ``length`` symbols are read, kept over ``delay`` blank steps, and written.

    A sample is the symbols, delay - 1 blanks, a sign to write, and length blanks, each one-hot; the label of a step is
    blank, of the last ``length`` steps a symbol. Without memory the best cost is length ln(symbols) / steps: blanks,
    then each symbol alike. (Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016, section 5.1.)

    Attributes
    ----------
    delay : int
        Steps from the last symbol that is read to the first that is written.
    length : int
        Symbols of a sample.
    symbols : int
        How many differ.
    """

    name = "copying"
    n_samples: int = 5000
    scaling: str = "none"
    delay: int = 100
    length: int = 10
    symbols: int = 8

    def __post_init__(self) -> None:
        _require_steps("delay", self.delay, 1)
        _require_steps("length", self.length, 1)
        require(2 <= self.symbols <= 1000, "symbols", "between 2 and 1,000", f"{self.symbols:,}")
        super().__post_init__()

    @property
    def steps(self) -> int:
        """Steps of a sample."""
        return self.delay + 2 * self.length

    @property
    def columns(self) -> int:
        """The numbers in a sample, and its labels."""
        return self.steps * (self.symbols + 3)

    @property
    def sequence_shape(self) -> tuple[int, int]:
        """Steps; a feature for each symbol, the blank, and the sign to write."""
        return self.steps, self.symbols + 2

    @property
    def told(self) -> tuple[str, ...]:
        """What is reached without memory."""
        share = (self.delay + self.length + self.length / self.symbols) / self.steps
        cost = self.length * math.log(self.symbols) / self.steps
        return (f"without memory the cost is {cost:.4f} at best, the accuracy over all steps {100 * share:.1f} %",)

    def make(self) -> tuple[Array, Array]:
        """Return one-hot sequences (n, steps * features) and labels (n, steps): symbols from 0, then the blank."""
        rng, n, blank = np.random.default_rng(self.random_state), self.n_samples, self.symbols
        read, y = (np.full((n, self.steps), blank) for _ in range(2))
        read[:, : self.length] = y[:, -self.length :] = rng.integers(0, self.symbols, (n, self.length))
        read[:, -self.length - 1] = blank + 1
        x = np.zeros((n, self.steps, self.symbols + 2))
        np.put_along_axis(x, read[:, :, None], 1, axis=2)
        return x.reshape(n, -1), y


def _require_steps(key: str, value: int, least: int) -> None:
    require(least <= value <= MAX_STEPS, key, f"between {least} and {MAX_STEPS:,}", f"{value:,}")
