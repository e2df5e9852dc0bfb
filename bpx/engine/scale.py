"""Scale: multiply everything by one number, fixed or learned; it stands at the end of a residual branch."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.layer import Layer, Shape
from bpx.engine.numbers import require
from bpx.engine.parameters import Parameter, ParameterVector


@final
class Scale(Layer):
    """Multiply by one number: y = alpha x, dx = alpha dy.

    A fixed alpha is ``factor``; a learned one is a parameter that starts at zero, dalpha = sum of dy x, so that a
    residual block starts as the identity. (De & Smith 2020, SkipInit.)
    """

    kind, display_name = "scale", "branch scales"
    alpha: Parameter

    def __init__(self, factor: float | None = None) -> None:
        super().__init__()
        require(factor is None or math.isfinite(factor), "a scale", "a finite number", factor)
        self.factor = factor

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare alpha where it is learned."""
        if self.factor is None:
            self.alpha = parameters.declare(f"{name}.alpha", (1,), weight=False)
        return self.place(name, shape, shape)

    @property
    def value(self) -> float:
        """The number that everything is multiplied by."""
        return float(self.alpha.value[0]) if self.factor is None else self.factor

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y = alpha x."""
        self.x = x
        return np.multiply(x, self.value, out=self.y)

    def backward(self, dy: Array) -> Array:
        """Compute dx = alpha dy, and dalpha."""
        if self.factor is None:
            self.alpha.grad[0] = np.vdot(self.x, dy)
        return np.multiply(dy, self.value, out=self.dx)
