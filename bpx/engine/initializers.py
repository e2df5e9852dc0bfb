"""Initializers: how weights are drawn before training.

``sigma_w`` is the scale as signal-propagation theory counts it: the weights' standard deviation times the
square root of fan_in. ``gain`` multiplies an initializer's own scale. Fans come from W's shape (n_in, n_out).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from bpx.engine.activations import ActivationFunction, LeakyReLU
from bpx.engine.arrays import Array
from bpx.engine.numbers import require

MAX_SCALE = 1e30  # of every scale: its normal draws fit into float32, and its square into float64
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


@dataclass(frozen=True, kw_only=True)
class Initializer(ABC):
    """Fill a weight matrix in place; biases are drawn from N(0, bias_std**2).

    Where ``needs_data``, the weights are scaled on a batch once the network is built (``bpx.engine.lsuv``).
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool] = False
    bias_std: float = 0.0

    def __post_init__(self) -> None:
        self._check("bias_std", self.bias_std, least=0)

    @abstractmethod
    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Fill ``W`` (n_in, n_out)."""

    def weight_std(self, n_in: int, n_out: int) -> float | None:
        """Return the standard deviation of an entry of W (n_in, n_out); None, the default, where entries share none."""
        return None

    def _check(self, key: str, value: object, least: float = -MAX_SCALE) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= MAX_SCALE
        require(number, f"initializer.{key}", f"a number of at least {least:g} and at most {MAX_SCALE:g}", value)

    def _check_scale(self, **scales: float | None) -> None:
        """Raise ValueError where a scale is out of range, or both of two are given."""
        given = {key: value for key, value in scales.items() if value is not None}
        for key, value in given.items():
            self._check(key, value, least=0)
        if len(given) > 1:
            raise ValueError(f"give {' or '.join(f'initializer.{key}' for key in given)}, not both")


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


@dataclass(frozen=True, kw_only=True)
class Scaled(Initializer):
    """An initializer with a scale: its gain, or ``sigma_w``, the standard deviation times sqrt(n_in), in its place."""

    gain: float | None = None
    sigma_w: float | None = None
    default_gain: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_scale(gain=self.gain, sigma_w=self.sigma_w)

    @property
    def effective_gain(self) -> float:
        """The gain, or the initializer's default where none is given."""
        return self.default_gain if self.gain is None else self.gain


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
class Orthogonal(Scaled):
    """Draw W from the orthogonal matrices, times gain: every singular value is gain (Saxe et al. 2014, section 3).

    Where n_in and n_out differ, the rows or the columns are orthonormal, whichever are fewer.
    """

    name = "orthogonal"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Decompose a Gaussian matrix, W = gain Q; fixing the signs of R makes Q uniform (Mezzadri 2007)."""
        n_in, n_out = W.shape
        Q, R = np.linalg.qr(rng.standard_normal((max(n_in, n_out), min(n_in, n_out))))
        Q *= np.sign(np.diag(R))
        W[...] = (Q if n_in >= n_out else Q.T) * self.scale

    @property
    def scale(self) -> float:
        """The singular value of W: sigma_w or gain."""
        return self.effective_gain if self.sigma_w is None else self.sigma_w

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return the root mean square of an entry, scale / sqrt(max(n_in, n_out))."""
        return self.scale / math.sqrt(max(n_in, n_out))


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


@final
class LSUV(Scaled):
    """Layer-sequential unit variance: orthogonal, then every layer scaled until its output has variance 1 on data.

    (Mishkin & Matas 2016, algorithm 1; the scaling is ``bpx.engine.lsuv.scale_to_unit_variance``.)
    """

    name = "lsuv"
    needs_data = True

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw an orthogonal W."""
        Orthogonal(gain=self.gain, sigma_w=self.sigma_w)(rng, W)


INITIALIZERS: dict[str, type[Initializer]] = {
    cls.name: cls
    for cls in (
        Zeros, Constant, Normal, Uniform, LecunNormal, LecunUniform, XavierNormal, XavierUniform, HeNormal, HeUniform,
        Orthogonal, Identity, LSUV,
    )
}  # fmt: skip
