"""Layer: the one interface of everything a network is made of."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Self

import numpy as np

from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.parameters import Parameter, ParameterVector


class Layer(ABC):
    """One differentiable operation on rows: y = forward(x), dx = backward(dy).

    A layer writes only into buffers of its own, so that after a step every layer's can be read.

    Attributes
    ----------
    kind : str
        The operation's word in names of parameters and in records.
    display_name : str
        What sentences and figures call it; ``kind`` where it is empty.
    part : str
        What it is called as a cause where it can be taken out of a network, which leaves its ``branch``.
    output_name, input_grad_name : str
        What its formulas call y and dx.
    name : str
        Its own name in the network.
    n_in, n_out : int
        Widths of input and output.
    y : ndarray (rows, n_out)
        The last output.
    dx : ndarray (rows, n_in)
        The gradient of the cost with respect to its input.
    branch : sequence of Layer
        The layers inside this one, in forward order.
    frozen : bool
        Whether what is random or accumulates in training (dropout's mask, running statistics) holds still.
    needs_input_grad : bool
        False for the first layer, whose dx would be the gradient of the data.
    """

    kind: ClassVar[str]
    display_name: ClassVar[str] = ""
    part: ClassVar[str] = ""
    output_name: ClassVar[str] = "y"
    input_grad_name: ClassVar[str] = "dx"
    name: str
    n_in: int
    n_out: int
    x: Array
    y: Array
    dx: Array
    branch: Sequence[Layer] = ()

    def __init__(self) -> None:
        self.frozen = False
        self.needs_input_grad = True
        self._buffers: dict[str, Array] = {}

    def build(self, name: str, n_in: int, parameters: ParameterVector) -> int:
        """Declare the parameters in ``parameters`` and return n_out; by default there are none, and n_out is n_in."""
        return self.place(name, n_in, n_in)

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Allocate the buffers for up to ``batch`` rows; by default y and dx."""
        self.allocate_buffers(batch, dtype, y=self.n_out, dx=self.n_in)

    @abstractmethod
    def forward(self, x: Array, train: bool) -> Array:
        """Return the output (batch, n_out) for the input ``x`` (batch, n_in)."""

    @abstractmethod
    def backward(self, dy: Array) -> Array:
        """Return the gradient at the input, given ``dy`` at the output, and write the parameters' gradients."""

    def set_batch_size(self, n: int) -> None:
        """Use the first ``n`` rows of every buffer: a short batch needs no buffers of its own."""
        for key, buffer in self._buffers.items():
            setattr(self, key, buffer[:n])
        for layer in self.branch:
            layer.set_batch_size(n)

    def layers(self) -> Iterator[Layer]:
        """Yield this layer and those inside it, in forward order."""
        yield self
        for layer in self.branch:
            yield from layer.layers()

    def parameters(self) -> dict[str, Parameter]:
        """Return the layer's own parameters by the names that its formulas give them."""
        return {key: value for key, value in vars(self).items() if isinstance(value, Parameter)}

    def statistics(self) -> dict[str, Array]:
        """Return what training accumulates beside the parameters, by name; none for most layers."""
        return {}

    def replica(self, parameters: ParameterVector) -> Self:
        """Return a frozen layer with the same parameters, statistics and name, and no buffers yet."""
        other = copy.copy(self)
        other.frozen = True
        other._buffers = {}
        for key, parameter in self.parameters().items():
            setattr(other, key, parameters[parameter.name])
        other.branch = [layer.replica(parameters) for layer in self.branch]
        return other

    def place(self, name: str, n_in: int, n_out: int) -> int:
        """Keep the name and the widths, and return n_out, as ``build`` does."""
        self.name, self.n_in, self.n_out = name, n_in, n_out
        return n_out

    def allocate_buffers(self, batch: int, dtype: DType, **widths: int) -> None:
        """Allocate one zeroed (batch, width) buffer per keyword, read and written as an attribute."""
        self._buffers = {key: zeros((batch, n), dtype) for key, n in widths.items()}
        self.set_batch_size(batch)
