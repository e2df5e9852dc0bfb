"""Initializers: how weights are drawn before training.

``sigma_w`` is the scale as signal-propagation theory counts it: the weights' standard deviation times the
square root of fan_in. ``gain`` multiplies an initializer's own scale. Fans come from W's shape (n_in, n_out).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from bpx.engine.activations import ActivationFunction, LeakyReLU
from bpx.engine.layer import Array

if TYPE_CHECKING:
    from bpx.engine.network import Network

MOST = 1e30  # of every scale: its normal draws fit into float32, and its square into float64
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
    """Fill a weight matrix in place; biases are drawn from N(0, bias_std**2)."""

    name: ClassVar[str]
    bias_std: float = 0.0

    def __post_init__(self) -> None:
        self._check("bias_std", self.bias_std, least=0)

    @abstractmethod
    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Fill ``W`` (n_in, n_out)."""

    @abstractmethod
    def weight_std(self, n_in: int, n_out: int) -> float | None:
        """Return the standard deviation of an entry of W (n_in, n_out), None where entries share none."""

    def tune(self, net: Network, x: Array) -> None:
        """Adjust the drawn weights to a batch ``x`` (batch, n_in); only LSUV does."""
        return None

    def _check(self, key: str, value: object, least: float | None = None) -> None:
        least = -MOST if least is None else least
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not least <= value <= MOST:  # type: ignore[operator]
            allowed = f"a number of at least {least:g} and at most {MOST:g}"
            raise ValueError(f"initializer.{key} must be {allowed}, got {value}")


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

    def weight_std(self, n_in: int, n_out: int) -> None:
        """Return None: the entries are not random."""


@dataclass(frozen=True, kw_only=True)
class Scaled(Initializer):
    """Independent entries of a standard deviation that depends on the shape: gain times the initializer's own.

    ``sigma_w`` replaces both: std = sigma_w / sqrt(n_in).
    """

    gain: float | None = None
    sigma_w: float | None = None
    default_gain: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gain is not None:
            self._check("gain", self.gain, least=0)
        if self.sigma_w is not None:
            self._check("sigma_w", self.sigma_w, least=0)
            if self.gain is not None:
                raise ValueError("give initializer.gain or initializer.sigma_w, not both")

    @abstractmethod
    def unit_std(self, n_in: int, n_out: int) -> float:
        """Return the standard deviation at gain 1."""

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return sigma_w / sqrt(n_in) where sigma_w is given, else gain times the initializer's own scale."""
        if self.sigma_w is not None:
            return self.sigma_w / math.sqrt(n_in)
        return (self.default_gain if self.gain is None else self.gain) * self.unit_std(n_in, n_out)


class _NormalEntries(Scaled):
    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw from N(0, std**2)."""
        W[...] = rng.standard_normal(W.shape) * self.weight_std(*W.shape)


class _UniformEntries(Scaled):
    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw from U(-limit, limit), limit = sqrt(3) std."""
        limit = math.sqrt(3) * self.weight_std(*W.shape)
        W[...] = rng.uniform(-limit, limit, W.shape)


class _Lecun(Scaled):
    def unit_std(self, n_in: int, n_out: int) -> float:
        """Return 1 / sqrt(n_in)."""
        return 1 / math.sqrt(n_in)


class _Xavier(Scaled):
    def unit_std(self, n_in: int, n_out: int) -> float:
        """Return sqrt(2 / (n_in + n_out))."""
        return math.sqrt(2 / (n_in + n_out))


class _He(_Lecun):
    default_gain = math.sqrt(2)


@final
class LecunNormal(_Lecun, _NormalEntries):
    """Keep the variance of a linear layer's output: N(0, gain**2 / n_in) (LeCun et al. 1998, section 4.6)."""

    name = "lecun_normal"


@final
class LecunUniform(_Lecun, _UniformEntries):
    """Keep the variance of a linear layer's output, uniform entries (LeCun et al. 1998, section 4.6)."""

    name = "lecun_uniform"


@final
class XavierNormal(_Xavier, _NormalEntries):
    """Compromise between forward and backward: N(0, gain**2 * 2 / (n_in + n_out)) (Glorot & Bengio 2010, 4.2.1)."""

    name = "xavier_normal"


@final
class XavierUniform(_Xavier, _UniformEntries):
    """Glorot's normalized initialization: variance gain**2 * 2 / (n_in + n_out) (Glorot & Bengio 2010, eq. 16)."""

    name = "xavier_uniform"


@final
class HeNormal(_He, _NormalEntries):
    """Keep the second moment through ReLU: N(0, gain**2 / n_in), gain sqrt(2) (He et al. 2015, section 2.2)."""

    name = "he_normal"


@final
class HeUniform(_He, _UniformEntries):
    """Keep the second moment through ReLU, uniform entries (He et al. 2015, section 2.2)."""

    name = "he_uniform"


@final
@dataclass(frozen=True, kw_only=True)
class Normal(Initializer):
    """One standard deviation for every layer: N(0, std**2), or sigma_w / sqrt(n_in) where sigma_w is given."""

    name: ClassVar[str] = "normal"
    std: float | None = None
    sigma_w: float | None = None
    DEFAULT: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std is not None:
            self._check("std", self.std, least=0)
        if self.sigma_w is not None:
            self._check("sigma_w", self.sigma_w, least=0)
            if self.std is not None:
                raise ValueError("give initializer.std or initializer.sigma_w, not both")

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw from N(0, std**2)."""
        W[...] = rng.standard_normal(W.shape) * self.weight_std(*W.shape)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return std, or sigma_w / sqrt(n_in)."""
        if self.sigma_w is not None:
            return self.sigma_w / math.sqrt(n_in)
        return self.DEFAULT if self.std is None else self.std


@final
class Uniform(_UniformEntries, _Lecun):
    """Draw from U(-gain / sqrt(n_in), gain / sqrt(n_in)), Glorot & Bengio's "standard" initialization (2010, eq. 1)."""

    name = "uniform"

    def unit_std(self, n_in: int, n_out: int) -> float:
        """Return 1 / sqrt(3 n_in)."""
        return 1 / math.sqrt(3 * n_in)


@final
class Orthogonal(_Lecun):
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
        if self.sigma_w is not None:
            return self.sigma_w
        return self.default_gain if self.gain is None else self.gain

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

    def weight_std(self, n_in: int, n_out: int) -> None:
        """Return None: the entries are not random."""


@final
class LSUV(_Lecun):
    """Layer-sequential unit variance: orthogonal, then every layer scaled until its output has variance 1 on data.

    (Mishkin & Matas 2016, algorithm 1.)
    """

    name = "lsuv"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw an orthogonal W."""
        Orthogonal(gain=self.gain, sigma_w=self.sigma_w)(rng, W)

    def weight_std(self, n_in: int, n_out: int) -> None:  # type: ignore[override]
        """Return None: the scale comes from the data."""

    def tune(self, net: Network, x: Array) -> None:
        """Scale each W, from the input on, until std(z) over the batch ``x`` is 1 within 1e-3."""
        probe = net.replica(len(x))
        for dense in probe.dense:
            for _ in range(10):
                with np.errstate(all="ignore"):  # layers behind, not scaled yet, may overflow
                    probe.forward(x, train=True)
                spread = float(dense.y.std(dtype=np.float64))
                if spread == 0 or abs(spread - 1) < 1e-3:
                    break
                dense.W.value /= spread


INITIALIZERS: dict[str, type[Initializer]] = {
    cls.name: cls
    for cls in (
        Zeros,
        Constant,
        Normal,
        Uniform,
        LecunNormal,
        LecunUniform,
        XavierNormal,
        XavierUniform,
        HeNormal,
        HeUniform,
        Orthogonal,
        Identity,
        LSUV,
    )
}
