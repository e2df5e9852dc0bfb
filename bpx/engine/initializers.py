"""Initializers: how weights are drawn before training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.engine.initializer import INITIALIZERS, Initializer, Scaled
from bpx.engine.mup import MuP
from bpx.engine.orthogonal import LSUV, DeltaOrthogonal, LooksLinear, Orthogonal
from bpx.engine.rectifiers import LeakyReLU

__all__ = ["INITIALIZERS", "Initializer", "Orthogonal", "recommended_gain"]

RECOMMENDED_GAIN = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,  # LeCun et al. 1998, section 4.4
    "relu": math.sqrt(2),  # He et al. 2015, section 2.2
    "selu": 1.0,  # Klambauer et al. 2017, section 3
}


def recommended_gain(function: ActivationFunction) -> float:
    """Return the gain that the literature gives for an activation; leaky ReLU's is sqrt(2 / (1 + slope**2)).

    Raises ValueError where the literature gives none.
    """
    if isinstance(function, LeakyReLU):
        return math.sqrt(2 / (1 + function.slope**2))
    if function.name not in RECOMMENDED_GAIN:
        known = ", ".join([*RECOMMENDED_GAIN, "leaky_relu"])
        raise ValueError(f"the literature gives no gain for {function.name}: give a number (known: {known})")
    return RECOMMENDED_GAIN[function.name]


@final
@dataclass(frozen=True, kw_only=True)
class Zeros(Initializer):
    """All weights zero: every unit of a layer stays the same as its neighbours."""

    name: ClassVar[str] = "zeros"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """W = 0."""
        W.fill(0)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return 0."""
        return 0.0


@final
@dataclass(frozen=True, kw_only=True)
class Constant(Initializer):
    """All weights equal."""

    name: ClassVar[str] = "constant"
    value: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("value", self.value)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """W = value."""
        W.fill(self.value)


class VarianceScaling(Scaled):
    """Independent entries of mean 0 and standard deviation gain * sqrt(scale / fan).

    ``mode`` is the fan: ``fan_in`` n_in, or ``fan_avg`` (n_in + n_out) / 2; ``distribution`` is ``normal`` or
    ``uniform``, U(-limit, limit) with limit = sqrt(3) std. ``sigma_w`` makes it sigma_w / sqrt(n_in).
    """

    scale: ClassVar[float] = 1.0
    mode: ClassVar[str] = "fan_in"
    distribution: ClassVar[str] = "normal"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw every entry from the distribution."""
        std = self.weight_std(*W.shape)
        if self.distribution == "normal":
            W[...] = rng.standard_normal(W.shape) * std
        else:
            W[...] = rng.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, W.shape)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return sigma_w / sqrt(n_in) where sigma_w is given, else gain * sqrt(scale / fan)."""
        if self.sigma_w is not None:
            return self.sigma_w / math.sqrt(n_in)
        fan = n_in if self.mode == "fan_in" else (n_in + n_out) / 2
        return self.effective_gain * math.sqrt(self.scale / fan)


@final
class LecunNormal(VarianceScaling):
    """Keep the variance of a linear layer's output: N(0, gain**2 / n_in) (LeCun et al. 1998, section 4.6)."""

    name = "lecun_normal"


@final
class LecunUniform(VarianceScaling):
    """Keep the variance of a linear layer's output, uniform entries (LeCun et al. 1998, section 4.6)."""

    name = "lecun_uniform"
    distribution = "uniform"


@final
class XavierNormal(VarianceScaling):
    """Compromise between both ways: N(0, gain**2 * 2 / (n_in + n_out)) (Glorot & Bengio 2010, section 4.2.1)."""

    name = "xavier_normal"
    mode = "fan_avg"


@final
class XavierUniform(VarianceScaling):
    """Glorot's normalized initialization: variance gain**2 * 2 / (n_in + n_out) (Glorot & Bengio 2010, eq. 16)."""

    name = "xavier_uniform"
    mode = "fan_avg"
    distribution = "uniform"


@final
class HeNormal(VarianceScaling):
    """Keep the second moment through ReLU: N(0, gain**2 / n_in), gain sqrt(2) (He et al. 2015, section 2.2)."""

    name = "he_normal"
    default_gain = math.sqrt(2)


@final
class HeUniform(VarianceScaling):
    """Keep the second moment through ReLU, uniform entries (He et al. 2015, section 2.2)."""

    name = "he_uniform"
    default_gain = math.sqrt(2)
    distribution = "uniform"


@final
class Uniform(VarianceScaling):
    """Draw from U(-gain / sqrt(n_in), gain / sqrt(n_in)), the "standard" of Glorot & Bengio 2010, eq. 1."""

    name = "uniform"
    scale = 1 / 3
    distribution = "uniform"


@final
@dataclass(frozen=True, kw_only=True)
class Normal(Initializer):
    """One standard deviation for every layer: N(0, std**2), or sigma_w / sqrt(n_in) where sigma_w is given.

    (Krizhevsky et al. 2012, section 5, with std 0.01.)

    Attributes
    ----------
    std : float, optional
        The standard deviation; 0.01 where neither is given.
    sigma_w : float, optional
        The standard deviation times sqrt(n_in).
    """

    name: ClassVar[str] = "normal"
    std: float | None = None
    sigma_w: float | None = None
    DEFAULT: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_scale(std=self.std, sigma_w=self.sigma_w)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw from N(0, std**2)."""
        W[...] = rng.standard_normal(W.shape) * self.weight_std(*W.shape)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return std, or sigma_w / sqrt(n_in)."""
        if self.sigma_w is not None:
            return self.sigma_w / math.sqrt(n_in)
        return self.DEFAULT if self.std is None else self.std


@final
@dataclass(frozen=True, kw_only=True)
class Identity(Initializer):
    """The identity map times gain, cut or padded with zeros where n_in and n_out differ (Le et al. 2015)."""

    name: ClassVar[str] = "identity"
    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("gain", self.gain)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """W = gain I."""
        W.fill(0)
        np.fill_diagonal(W, self.gain)


INITIALIZERS.update(
    {
        cls.name: cls
        for cls in (
            Zeros, Constant, Normal, Uniform, LecunNormal, LecunUniform, XavierNormal, XavierUniform, HeNormal,
            HeUniform, Orthogonal, DeltaOrthogonal, Identity, LSUV, MuP, LooksLinear,
        )
    }
)  # fmt: skip
