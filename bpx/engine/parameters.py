"""ParameterVector: all parameters of a network in one flat vector theta, beside one flat gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bpx.engine.arrays import Array, Arrays, DType, zeros


class Parameter:
    """A named tensor: ``value`` and ``grad`` are views into the vector's theta and grad.

    Attributes
    ----------
    name : str
        Its name in the network.
    shape : tuple of int
        Of both views.
    is_weight : bool
        Whether it is a weight matrix, which decays.
    start : float
        What its entries are before they are initialized.
    part : slice
        Where its entries lie in theta, and in any vector laid out like it.
    """

    __slots__ = ("grad", "is_weight", "name", "part", "shape", "start", "value")

    value: Array
    grad: Array
    part: slice

    def __init__(self, name: str, shape: tuple[int, ...], is_weight: bool, start: float = 0.0) -> None:
        self.name, self.shape, self.is_weight, self.start = name, shape, is_weight, start

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return math.prod(self.shape)


class ParameterVector:
    """The parameters of a network as one vector, so that an optimizer is a few calls whatever the depth.

    The weight matrices come first, everything else (biases, scales, shifts) after them: ``theta[:n_weights]``
    is what weight decay acts on, and the sum over ``grad[n_weights:]`` is finite only if every delta is.
    """

    theta: Array
    grad: Array

    def __init__(self, max_size: int | None = None) -> None:
        self.tensors: list[Parameter] = []
        self.n_weights, self.max_size = 0, max_size

    def declare(self, name: str, shape: tuple[int, ...], *, weight: bool, start: float = 0.0) -> Parameter:
        """Add a parameter, all its entries ``start``; its views exist once ``allocate`` ran."""
        parameter = Parameter(name, shape, weight, start)
        self.tensors.append(parameter)
        return parameter

    def allocate(self, dtype: DType) -> None:
        """Create theta and grad, point every parameter's views into them, and set the values that they start with.

        Raises ValueError where there are more than ``max_size`` parameters.
        """
        self.tensors.sort(key=lambda p: not p.is_weight)  # stable: weights first, in network order
        size = sum(p.size for p in self.tensors)
        if self.max_size is not None and size > self.max_size:
            raise ValueError(f"the description asks for {size:,} parameters, {self.max_size:,} are there")
        self.n_weights = sum(p.size for p in self.tensors if p.is_weight)
        self.theta = zeros(size, dtype)
        self.grad = zeros(size, dtype)
        self._view()
        for p in self.tensors:
            p.value.fill(p.start)

    def replica(self) -> ParameterVector:
        """Return a vector that shares theta and has a gradient of its own."""
        other = ParameterVector()
        other.tensors = [Parameter(p.name, p.shape, p.is_weight, p.start) for p in self.tensors]
        other.n_weights = self.n_weights
        other.theta = self.theta
        other.grad = zeros(self.grad.size, self.grad.dtype)
        other._view()
        return other

    def detach(self) -> None:
        """Own theta: what is written into it from now on does not change the vector that it was shared with."""
        self.theta = self.theta.copy()
        self._view()

    def views(self, vector: Array) -> Arrays:
        """Return a vector laid out like theta (an update, a direction) as named tensors."""
        return {p.name: vector[p.part].reshape(p.shape) for p in self.tensors}

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, name: str) -> Parameter:
        return self._by_name[name]

    def _view(self) -> None:
        self._by_name = {p.name: p for p in self.tensors}
        start = 0
        for p in self.tensors:
            p.part = slice(start, start + p.size)
            p.value, p.grad = self.theta[p.part].reshape(p.shape), self.grad[p.part].reshape(p.shape)
            start = p.part.stop
