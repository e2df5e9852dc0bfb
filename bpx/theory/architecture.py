"""A network as theory sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import final

from bpx.engine.activation import ActivationFunction
from bpx.theory.borders import Overlap, shares_inside


@final
@dataclass(frozen=True)
class NormalizationRole:
    """What a normalization does, as theory sees it.

    Attributes
    ----------
    over_batch : bool
        Whether it divides by a unit's variance over the batch.
    holds_length : bool
        Whether it makes every sample of unit length, over its units.
    holds_mean : bool
        Whether it takes out the mean over a sample's units.
    has_shift : bool
        Whether a shift stands in for the biases.
    """

    over_batch: bool = False
    holds_length: bool = False
    holds_mean: bool = False
    has_shift: bool = False


NORMALIZATIONS = {  # those that theory has a factor for
    "none": NormalizationRole(),
    "batch": NormalizationRole(over_batch=True, has_shift=True),
    "layer": NormalizationRole(holds_length=True, holds_mean=True, has_shift=True),
    "rms": NormalizationRole(holds_length=True),
}


@final
@dataclass(frozen=True)
class Architecture:
    """A network as theory sees it.

    Attributes
    ----------
    activation : ActivationFunction
        phi of the hidden layers.
    fans : tuple of int
        n_in, the hidden widths, n_out.
    weight_std : tuple of float, or None
        Root mean square entry of every weight matrix, one fewer than fans; None where weights are not drawn at random.
    bias_std : float
        Standard deviation of the hidden layers' biases.
    keep_prob : float
        Share of units that dropout keeps.
    normalization : str
        none, batch, layer or rms; any other has no prediction.
    residual : bool
        Whether there are shortcuts around all hidden layers but the first.
    batch_size : int
        The samples that delta_l2 is measured over.
    orthogonal : bool
        Whether the hidden layers' weights are orthogonal.
    branch_scale : float
        What the branch beside each shortcut is multiplied by.
    fan_in : tuple of int
        Inputs of a unit of every weight matrix where they are not the fan before it, as those of a convolution:
        kernel**2 times the channels.
    overlaps : tuple of tuple of ndarray
        Which positions the weight matrices of the hidden layers join (``bpx.theory.borders``); empty without positions.
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
    branch_scale: float = 1.0
    fan_in: tuple[int, ...] = ()
    overlaps: tuple[Overlap, ...] = ()

    def __post_init__(self) -> None:
        if self.weight_std is not None and len(self.weight_std) != len(self.fans) - 1:
            raise ValueError(f"{len(self.fans)} fans need {len(self.fans) - 1} weight_std")

    @cached_property
    def inside(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Shares of E z**2 and E ||delta||**2 that zeros around an image leave, of all hidden layers but the first."""
        if not any(self.overlaps):
            every = (1.0,) * (len(self.hidden) - 1)
            return every, every
        return shares_inside(self.overlaps, self.branch_scale if self.residual else None, equal=self.role.holds_length)

    def inputs(self, layer: int) -> int:
        """Return the inputs of a unit of weight matrix ``layer``, from 0."""
        return self.fan_in[layer] if self.fan_in else self.fans[layer]

    @property
    def hidden(self) -> tuple[int, ...]:
        """The hidden widths."""
        return self.fans[1:-1]

    @property
    def sigma_w(self) -> float | None:
        """sigma_w of the hidden layers after the first: std times the root of fan_in, their root mean square."""
        if self.weight_std is None or len(self.hidden) < 2:
            return None
        squares = [self.inputs(i) * self.weight_std[i] ** 2 for i in range(1, len(self.weight_std) - 1)]
        return math.sqrt(sum(squares) / len(squares))

    @property
    def bias_variance(self) -> float:
        """Variance of a hidden layer's bias: 0 where the normalization's shift has taken its place."""
        return 0.0 if self.role.has_shift else self.bias_std * self.bias_std

    @property
    def role(self) -> NormalizationRole:
        """What the normalization does."""
        return NORMALIZATIONS.get(self.normalization, NormalizationRole())

    @property
    def normalizes(self) -> bool:
        """Whether there is a normalization."""
        return self.normalization != "none"

    def activation_variance(self, q: float) -> float:
        """Return the variance at the activation where a pre-activation has ``q``: 1 after a normalization."""
        return 1.0 if self.normalizes else q


def weight_stds(fans: Sequence[int], std: Callable[[int, int], float | None]) -> tuple[float, ...] | None:
    """Return every weight matrix's standard deviation, from an initializer's ``weight_std(n_in, n_out)``."""
    found = [std(a, b) for a, b in pairwise(fans)]
    known = [s for s in found if s is not None]
    return tuple(known) if len(known) == len(found) else None
