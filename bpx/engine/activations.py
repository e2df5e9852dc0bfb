"""Activation functions phi and their derivatives, elementwise, in place.

Each class holds its parameters and two functions of a pre-activation ``z`` of any shape:
``f(z, out)`` writes phi(z) into ``out``, ``df(z, a, out)`` writes phi'(z), given ``a = phi(z)`` as well.
At a kink the derivative is the one from the left. No finite ``z`` raises a floating-point warning.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import numpy as np
from scipy.special import ndtr

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Layer, Shape, flat
from bpx.engine.numbers import require, require_fraction, require_positive
from bpx.engine.parameters import Parameter, ParameterVector


class ActivationFunction(ABC):
    """An elementwise function phi and its derivative.

    Attributes
    ----------
    name : str
        Its name.
    kinks : tuple of float
        The points where phi' jumps.
    max_slope : float
        The largest absolute slope, max |phi'(z)|.
    monotone : bool
        Whether phi' >= 0 everywhere.
    """

    name: ClassVar[str]
    kinks: tuple[float, ...] = ()
    max_slope: float = 1.0
    monotone: bool = True

    @abstractmethod
    def f(self, z: Array, out: Array) -> None:
        """Write phi(z) into ``out``."""

    @abstractmethod
    def df(self, z: Array, a: Array, out: Array) -> None:
        """Write phi'(z) into ``out``; ``a`` is phi(z)."""

    def layer(self) -> Activation:
        """Return a layer of it, not yet built."""
        return Activation(self)


@lru_cache(maxsize=64)
def _zeros(n: int, dtype: DType) -> Array:
    # maximum(z, row of zeros) runs vectorised; maximum(z, 0) is five times slower
    return np.zeros(n, dtype)


def _sigmoid(z: Array, out: Array) -> None:
    with np.errstate(over="ignore"):  # exp(-z) = inf gives the right limit, 0
        np.negative(z, out=out)
        np.exp(out, out=out)
        out += 1
        np.reciprocal(out, out=out)


@final
@dataclass(frozen=True)
class Linear(ActivationFunction):
    """The identity: phi(z) = z."""

    name: ClassVar[str] = "linear"

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = z."""
        np.copyto(out, z)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1."""
        out.fill(1)


@final
@dataclass(frozen=True)
class Sigmoid(ActivationFunction):
    """The logistic function: phi(z) = 1 / (1 + exp(-z)), in (0, 1), phi' <= 1/4 (Rumelhart et al. 1986, eq. 2)."""

    name: ClassVar[str] = "sigmoid"
    max_slope = 0.25

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = 1 / (1 + exp(-z))."""
        _sigmoid(z, out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = a (1 - a)."""
        np.subtract(1, a, out=out)
        out *= a


@final
@dataclass(frozen=True)
class Tanh(ActivationFunction):
    """The hyperbolic tangent: phi(z) = tanh z, between -1 and 1 (LeCun et al. 1998, section 4.4)."""

    name: ClassVar[str] = "tanh"

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = tanh z."""
        np.tanh(z, out=out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 - a**2."""
        np.multiply(a, a, out=out)
        np.subtract(1, out, out=out)


@final
@dataclass(frozen=True)
class ReLU(ActivationFunction):
    """The rectified linear unit: phi(z) = max(z, 0) (Nair & Hinton 2010)."""

    name: ClassVar[str] = "relu"
    kinks = (0.0,)

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = max(z, 0)."""
        np.maximum(z, _zeros(z.shape[-1], z.dtype), out=out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 where z > 0, else 0."""
        np.greater(z, 0, out=out)


@final
@dataclass(frozen=True)
class LeakyReLU(ActivationFunction):
    """A rectifier that leaks: phi(z) = z where z > 0, else slope * z (Maas et al. 2013, section 2)."""

    name: ClassVar[str] = "leaky_relu"
    kinks = (0.0,)
    slope: float = 0.01

    def __post_init__(self) -> None:
        require_fraction("slope", self.slope)

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = max(z, slope * z)."""
        np.multiply(z, self.slope, out=out)
        np.maximum(z, out, out=out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 where z > 0, else slope."""
        np.greater(z, 0, out=out)
        out *= 1 - self.slope
        out += self.slope


@final
@dataclass(frozen=True)
class ELU(ActivationFunction):
    """The exponential linear unit: phi(z) = z where z > 0, else alpha (exp z - 1) (Clevert et al. 2016, section 3)."""

    name: ClassVar[str] = "elu"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        require_positive("alpha", self.alpha)
        object.__setattr__(self, "kinks", () if self.alpha == 1 else (0.0,))
        object.__setattr__(self, "max_slope", max(1.0, self.alpha))

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = max(z, 0) + alpha (exp(min(z, 0)) - 1)."""
        np.minimum(z, 0, out=out)
        np.expm1(out, out=out)
        out *= self.alpha
        out += np.maximum(z, 0)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 where z > 0, else a + alpha."""
        np.add(a, self.alpha, out=out)
        np.copyto(out, 1, where=z > 0)


@final
@dataclass(frozen=True)
class SELU(ActivationFunction):
    """The self-normalizing unit: lambda times ELU; its length map has q* = 1 (Klambauer et al. 2017, eq. 2)."""

    name: ClassVar[str] = "selu"
    kinks = (0.0,)
    ALPHA: ClassVar[float] = 1.6732632423543772
    LAMBDA: ClassVar[float] = 1.0507009873554805
    max_slope = ALPHA * LAMBDA

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = lambda z where z > 0, else lambda alpha (exp z - 1)."""
        np.minimum(z, 0, out=out)
        np.expm1(out, out=out)
        out *= self.ALPHA * self.LAMBDA
        with np.errstate(over="ignore"):  # lambda z leaves the range only where z nearly does
            out += np.maximum(z, 0) * self.LAMBDA

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = lambda where z > 0, else a + lambda alpha."""
        np.add(a, self.ALPHA * self.LAMBDA, out=out)
        np.copyto(out, self.LAMBDA, where=z > 0)


@final
@dataclass(frozen=True)
class GELU(ActivationFunction):
    """The Gaussian error linear unit: phi(z) = z Phi(z), Phi the normal CDF (Hendrycks & Gimpel 2016, section 2)."""

    name: ClassVar[str] = "gelu"
    max_slope = 1.1289041451625  # at z = sqrt(2)
    monotone = False

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = z Phi(z)."""
        ndtr(z, out=out)
        out *= z

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = Phi(z) + z exp(-z**2 / 2) / sqrt(2 pi)."""
        near = np.clip(z, -40, 40)  # beyond, the density is 0 and z**2 may leave the range
        density = np.exp(-0.5 * near * near) * (1 / math.sqrt(2 * math.pi))
        ndtr(z, out=out)
        out += near * density


@final
@dataclass(frozen=True)
class SiLU(ActivationFunction):
    """The sigmoid linear unit: phi(z) = z sigmoid(z) (Elfwing et al. 2018, section 2)."""

    name: ClassVar[str] = "silu"
    max_slope = 1.0998393194  # at z = 2.3994
    monotone = False

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = z sigmoid(z)."""
        _sigmoid(z, out)
        out *= z

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = sigmoid(z) + a (1 - sigmoid(z))."""
        _sigmoid(z, out)
        out += a * (1 - out)


@final
@dataclass(frozen=True)
class Softplus(ActivationFunction):
    """A smooth rectifier: phi(z) = log(1 + exp z) (Dugas et al. 2001)."""

    name: ClassVar[str] = "softplus"

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = max(z, 0) + log(1 + exp(-abs(z)))."""
        np.abs(z, out=out)
        np.negative(out, out=out)
        np.exp(out, out=out)
        np.log1p(out, out=out)
        out += np.maximum(z, 0)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = sigmoid(z)."""
        _sigmoid(z, out)


@final
@dataclass(frozen=True)
class Softsign(ActivationFunction):
    """A slowly saturating sigmoid: phi(z) = z / (1 + abs(z)) (Bergstra et al. 2009)."""

    name: ClassVar[str] = "softsign"

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = z / (1 + abs(z))."""
        np.abs(z, out=out)
        out += 1
        np.divide(z, out, out=out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 / (1 + abs(z))**2."""
        np.abs(z, out=out)
        out += 1
        np.reciprocal(out, out=out)
        out *= out


@final
@dataclass(frozen=True)
class HardTanh(ActivationFunction):
    """A straight line cut off at both ends: phi(z) = min(max(z, -1), 1) (Collobert 2004)."""

    name: ClassVar[str] = "hard_tanh"
    kinks = (-1.0, 1.0)

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = min(max(z, -1), 1)."""
        np.clip(z, -1, 1, out=out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 where abs(z) < 1, else 0."""
        np.abs(z, out=out)
        np.less(out, 1, out=out)


@final
@dataclass(frozen=True)
class Sin(ActivationFunction):
    """The sine: phi(z) = sin z (Sitzmann et al. 2020). Theory resolves it up to a variance of z of 100."""

    name: ClassVar[str] = "sin"
    monotone = False

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = sin z."""
        np.sin(z, out=out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = cos z."""
        np.cos(z, out=out)


@final
@dataclass(frozen=True)
class Mish(ActivationFunction):
    """A smooth rectifier with a dip: phi(z) = z tanh(log(1 + exp z)) (Misra 2020)."""

    name: ClassVar[str] = "mish"
    max_slope = 1.0884981612516  # at z = 1.4906
    monotone = False

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = z n / (n + 2), n = exp(z) (exp(z) + 2)."""
        self._gate(z, out)
        out *= z

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = t + z (1 - t**2) sigmoid(z), t = tanh(log(1 + exp z))."""
        self._gate(z, out)
        near = np.clip(z, -40, 40)  # beyond, the second term is 0
        sigmoid = np.empty_like(near)
        _sigmoid(near, sigmoid)
        out += near * (1 - out * out) * sigmoid

    @staticmethod
    def _gate(z: Array, out: Array) -> None:
        e = np.exp(np.minimum(z, 20))  # from there on the gate is 1, to rounding
        np.multiply(e, e + 2, out=e)
        np.divide(e, e + 2, out=out)


@final
@dataclass(frozen=True)
class HardSwish(ActivationFunction):
    """SiLU in straight lines: phi(z) = z min(max(z + 3, 0), 6) / 6 (Howard et al. 2019)."""

    name: ClassVar[str] = "hard_swish"
    kinks = (-3.0, 3.0)
    max_slope = 1.5  # at z = 3, from the left
    monotone = False

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = z min(max(z + 3, 0), 6) / 6."""
        np.add(z, 3, out=out)
        np.clip(out, 0, 6, out=out)
        out *= 1 / 6
        out *= z

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 0 where z <= -3, (2 z + 3) / 6 up to 3, then 1."""
        np.clip(z, -3, 3, out=out)
        out *= 1 / 3
        out += 0.5
        np.copyto(out, 0, where=z <= -3)
        np.copyto(out, 1, where=z > 3)


@final
@dataclass(frozen=True)
class ReLU6(ActivationFunction):
    """A rectifier cut off at 6: phi(z) = min(max(z, 0), 6) (Krizhevsky 2010)."""

    name: ClassVar[str] = "relu6"
    kinks = (0.0, 6.0)

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = min(max(z, 0), 6)."""
        np.clip(z, 0, 6, out=out)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 where 0 < z <= 6, else 0."""
        np.copyto(out, (z > 0) & (z <= 6))


@final
@dataclass(frozen=True)
class PReLU(ActivationFunction):
    """A rectifier that learns its leak: phi(z) = z where z > 0, else slope * z.

    ``slope`` is where it starts; every layer learns one of its own, which does not decay. (He et al. 2015, the
    channel-shared form.)
    """

    name: ClassVar[str] = "prelu"
    kinks = (0.0,)
    slope: float = 0.25

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_slope", max(1.0, abs(self.slope)))
        object.__setattr__(self, "monotone", not self.slope < 0)

    def f(self, z: Array, out: Array) -> None:
        """phi(z) = max(z, 0) + slope * min(z, 0)."""
        np.minimum(z, 0, out=out)
        out *= self.slope
        out += np.maximum(z, 0)

    def df(self, z: Array, a: Array, out: Array) -> None:
        """phi'(z) = 1 where z > 0, else slope."""
        np.greater(z, 0, out=out)
        out *= 1 - self.slope
        out += self.slope

    def layer(self) -> Activation:
        """Return the layer that learns the slope; raises ValueError where it starts beyond a finite number."""
        require(math.isfinite(self.slope), "activation.slope", "finite", self.slope)
        return LearnedSlope(self)


ACTIVATIONS: dict[str, type[ActivationFunction]] = {
    cls.name: cls
    for cls in (
        Linear, Sigmoid, Tanh, ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Softplus, Softsign, HardTanh, Sin, Mish,
        HardSwish, ReLU6, PReLU,
    )
}  # fmt: skip


class Activation(Layer):
    """Apply phi to every unit: a = phi(z), delta = da * phi'(z)."""

    kind = "activation"
    output_name, input_grad_name = "a", "delta"

    def __init__(self, function: ActivationFunction) -> None:
        super().__init__()
        self.function = function

    def set_batch_size(self, n: int) -> None:
        """Use the first rows of every buffer, whose flat views are made once."""
        super().set_batch_size(n)
        self._a, self._delta = flat(self.y), flat(self.dx)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute a = phi(z)."""
        self.x = x
        self._flat_z = z = x if x.ndim == 2 else flat(x)
        self.function.f(z, self._a)
        return self.y

    def sides(self) -> list[Array]:
        """Return whether z lies above each kink of phi."""
        return [self.x > kink for kink in self.function.kinks]

    def backward(self, dy: Array) -> Array:
        """Compute delta = da * phi'(z)."""
        self.function.df(self._flat_z, self._a, self._delta)
        self.dx *= dy
        return self.dx


@final
class LearnedSlope(Activation):
    """PReLU with its slope as a parameter: dslope = sum of dy * min(z, 0) (He et al. 2015, eq. 3)."""

    function: PReLU
    slope: Parameter

    def __init__(self, function: PReLU) -> None:
        super().__init__(function)
        self.start = function.slope

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare the slope, one number."""
        self.slope = parameters.declare(f"{name}.slope", (1,), weight=False, start=self.start)
        return self.place(name, shape, shape)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute a = phi(z) with the slope as it is now."""
        slope = float(self.slope.value[0])
        if slope != self.function.slope:
            self.function = PReLU(slope)
        return super().forward(x, train)

    def backward(self, dy: Array) -> Array:
        """Compute dslope and delta = da * phi'(z)."""
        np.minimum(self.x, 0, out=self.dx)
        self.slope.grad[0] = np.vdot(self.dx, dy)
        return super().backward(dy)
