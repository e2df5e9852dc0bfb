"""Activation functions phi and their derivatives, elementwise, in place: the smooth ones, and the table of all.

Each class holds its parameters and two functions of a pre-activation ``z`` of any shape:
``f(z, out)`` writes phi(z) into ``out``, ``df(z, a, out)`` writes phi'(z), given ``a = phi(z)`` as well.
No finite ``z`` raises a floating-point warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from scipy.special import ndtr

from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.engine.rectifiers import ELU, SELU, HardSwish, HardTanh, LeakyReLU, PReLU, ReLU, ReLU6


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
class Sin(ActivationFunction):
    """The sine: phi(z) = sin z (Sitzmann et al. 2020)."""

    name: ClassVar[str] = "sin"
    monotone = False
    periodic = True

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


ACTIVATIONS: dict[str, type[ActivationFunction]] = {
    cls.name: cls
    for cls in (
        Linear, Sigmoid, Tanh, ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Softplus, Softsign, HardTanh, Sin, Mish,
        HardSwish, ReLU6, PReLU,
    )
}  # fmt: skip
