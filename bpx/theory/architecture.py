"""A network as theory sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from bpx.engine.activations import ActivationFunction

NORMALIZATIONS = ("none", "batch", "layer", "rms")  # those that theory has a factor for


@final
@dataclass(frozen=True)
class Architecture:
    """A network as theory sees it.

    ``fans`` (n_in, hidden widths ..., n_out); ``weight_std``: root mean square entry of every weight matrix,
    one fewer than fans, None where weights are not drawn at random; ``keep_prob``: share of units that dropout
    keeps; ``normalization``: none, batch, layer or rms, for any other theory has no answer; ``residual``: shortcuts
    around all hidden layers but the first; ``batch_size``: the samples that delta_l2 is measured over.
    """

    activation: ActivationFunction
    fans: tuple[int, ...]
    weight_std: tuple[float, ...] | None
    bias_std: float = 0.0
    keep_prob: float = 1.0
    normalization: str = "none"
    residual: bool = False
    batch_size: int = 32
    orthogonal: bool = False

    def __post_init__(self) -> None:
        if self.weight_std is not None and len(self.weight_std) != len(self.fans) - 1:
            raise ValueError(f"{len(self.fans)} fans need {len(self.fans) - 1} weight_std")

    @property
    def hidden(self) -> tuple[int, ...]:
        """The hidden widths."""
        return self.fans[1:-1]

    @property
    def sigma_w(self) -> float | None:
        """sigma_w of the hidden layers behind the first: std times the root of fan_in, their root mean square."""
        if self.weight_std is None or len(self.hidden) < 2:
            return None
        squares = [n * s * s for n, s in zip(self.fans[1:-2], self.weight_std[1:-1], strict=True)]
        return math.sqrt(sum(squares) / len(squares))

    @property
    def bias_variance(self) -> float:
        """Variance of a hidden layer's bias: 0 where the normalization's shift has taken its place."""
        return 0.0 if self.normalization in ("batch", "layer") else self.bias_std * self.bias_std


def weight_stds(fans: Sequence[int], std: Callable[[int, int], float | None]) -> tuple[float, ...] | None:
    """Return every weight matrix's standard deviation, from an initializer's ``weight_std(n_in, n_out)``."""
    found = [std(a, b) for a, b in pairwise(fans)]
    known = [s for s in found if s is not None]
    return tuple(known) if len(known) == len(found) else None
