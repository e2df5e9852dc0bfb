"""Activation functions with kinks: the rectifiers and what is made of pieces, in place.

At a kink the derivative is the one from the left. No finite ``z`` raises a floating-point warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, final

import numpy as np

from bpx.engine.activation import Activation, ActivationFunction
from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Shape
from bpx.engine.numbers import require, require_fraction, require_positive
from bpx.engine.parameters import Parameter, ParameterVector


@lru_cache(maxsize=64)
def _zeros(n: int, dtype: DType) -> Array:
    # maximum(z, row of zeros) runs vectorised; maximum(z, 0) is five times slower
    return np.zeros(n, dtype)


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
