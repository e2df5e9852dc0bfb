"""muP: initial weights and learning rates that are right at every width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.initializer import Initializer, Scaled
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector


@final
@dataclass(frozen=True, kw_only=True)
class MuP(Scaled):
    """Maximal update parametrization: the best learning rate stays where it is at ``base_width``, whatever the width.

    Normal weights of variance gain**2 / n_in, the last layer's times base_width / n_in. Learning rates are multiplied:

    - SGD: the first matrix and all biases by n_out / base_width, the last matrix by base_width / n_in
    - Adam, RMSprop: every matrix but the first by base_width / n_in

    so that at ``base_width`` it is the usual parametrization. (Yang et al. 2021, table 3.)

    Attributes
    ----------
    base_width : int
        The width of hidden layers at which learning rates are as they are given.
    """

    name: ClassVar[str] = "mup"
    default_gain: ClassVar[float] = math.sqrt(2)
    base_width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.base_width >= 1, "initializer.base_width", "at least 1", self.base_width)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw every entry of a matrix that is not the last one."""
        W[...] = rng.standard_normal(W.shape) * self.weight_std(*W.shape)

    def of_layer(self, i: int, n: int) -> Initializer:
        """Return itself, for the last of several matrices one of 1 / n_in in place of 1 / sqrt(n_in)."""
        if not 0 < i == n - 1:
            return self
        return self.variant(_MuPOutput, gain=self.effective_gain)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return sigma_w / sqrt(n_in), or gain / sqrt(n_in)."""
        return (self.effective_gain if self.sigma_w is None else self.sigma_w) / math.sqrt(n_in)

    def rates(self, parameters: ParameterVector, adaptive: bool) -> dict[str, float]:
        """Return the factors of the table above."""
        weights = [p for p in parameters if p.is_weight]
        if len(weights) < 2:
            return {}
        last, base = weights[-1].name.partition(".")[0], self.base_width
        factors = {}
        for p in parameters:
            n_in, n_out = (1, p.size) if len(p.shape) < 2 else p.shape
            if p is weights[-1]:
                factors[p.name] = base / n_in
            elif p.is_weight and p is not weights[0]:
                factors[p.name] = base / n_in if adaptive else n_out / n_in
            elif not adaptive and n_out > 1 and not p.name.startswith(f"{last}."):
                factors[p.name] = n_out / base
        return factors


@dataclass(frozen=True, kw_only=True)
class _MuPOutput(Initializer):
    """The last matrix: standard deviation gain sqrt(base_width) / n_in."""

    name: ClassVar[str] = "mup"
    gain: float
    base_width: int

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        W[...] = rng.standard_normal(W.shape) * (self.gain * math.sqrt(self.base_width) / len(W))
