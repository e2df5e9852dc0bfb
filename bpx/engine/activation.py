"""Activation: the elementwise layer, and the interface of the functions phi that it applies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from bpx.engine.arrays import Array
from bpx.engine.layer import Layer, flat


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
    periodic : bool
        Whether phi repeats with a period of about 2 pi or less.
    """

    name: ClassVar[str]
    kinks: tuple[float, ...] = ()
    max_slope: float = 1.0
    monotone: bool = True
    periodic: bool = False

    @abstractmethod
    def f(self, z: Array, out: Array) -> None:
        """Write phi(z) into ``out``."""

    @abstractmethod
    def df(self, z: Array, a: Array, out: Array) -> None:
        """Write phi'(z) into ``out``; ``a`` is phi(z)."""

    def layer(self) -> Activation:
        """Return a layer of it, not yet built."""
        return Activation(self)


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
