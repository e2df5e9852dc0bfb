"""Layer: the one interface of everything a network is made of."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.parameters import Parameter, ParameterVector

if TYPE_CHECKING:
    from bpx.engine.initializer import Initializer

Shape = tuple[int, ...]  # of a sample: its positions (steps, pixels, tokens), and last its features


class Layer(ABC):
    """One differentiable operation on samples: y = forward(x), dx = backward(dy).

    A sample is of shape (features,), or (*positions, features): arrays are (rows, *positions, features), C-contiguous.

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
    unpredicted : str
        What theory has no answer for where this layer stands between weight layers; empty where it has one.
    shape, out_shape : tuple of int
        Shapes of a sample of the input and of the output.
    n_in, n_out : int
        Widths of input and output: the last of these.
    y : ndarray (rows, *out_shape)
        The last output.
    dx : ndarray (rows, *shape)
        The gradient of the cost with respect to its input.
    branch : sequence of Layer
        The layers inside this one, in forward order.
    frozen : bool
        Whether what is random or accumulates in training (dropout's mask, running statistics) holds still.
    truncate : int or None
        The steps after which a layer through time stops the gradient; None for all others.
    needs_input_grad : bool
        False for the first layer, whose dx would be the gradient of the data.
    """

    kind: ClassVar[str]
    display_name: ClassVar[str] = ""
    part: ClassVar[str] = ""
    output_name: ClassVar[str] = "y"
    input_grad_name: ClassVar[str] = "dx"
    unpredicted: ClassVar[str] = ""
    name: str
    shape: Shape
    out_shape: Shape
    n_in: int
    n_out: int
    x: Array
    y: Array
    dx: Array
    branch: Sequence[Layer] = ()
    truncate: int | None = None

    def __init__(self) -> None:
        self.frozen = False
        self.needs_input_grad = True
        self._buffers: dict[str, Array] = {}

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare the parameters in ``parameters`` and return the output's shape; by default none, and ``shape``."""
        return self.place(name, shape, shape)

    def draw(self, initializer: Initializer, rng: np.random.Generator) -> None:
        """Draw the weights, which are zero until then; by default none."""
        return None

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Allocate the buffers for up to ``batch`` rows; by default y and dx."""
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape)

    @abstractmethod
    def forward(self, x: Array, train: bool) -> Array:
        """Return the output (batch, *out_shape) for the input ``x`` (batch, *shape)."""

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

    def sides(self) -> list[Array]:
        """Return on which side of each kink the units stood in the last forward; none where there is no kink."""
        return []

    def replica(self, parameters: ParameterVector) -> Self:
        """Return a frozen layer with the same parameters, statistics and name, and no buffers yet."""
        other = copy.copy(self)
        other.frozen = True
        other._buffers = {}
        for key, parameter in self.parameters().items():
            setattr(other, key, parameters[parameter.name])
        other.branch = [layer.replica(parameters) for layer in self.branch]
        return other

    def place(self, name: str, shape: Shape, out_shape: Shape) -> Shape:
        """Keep the name and the shapes, and return that of the output, as ``build`` does."""
        self.name, self.shape, self.out_shape = name, shape, out_shape
        self.n_in, self.n_out = shape[-1], out_shape[-1]
        return out_shape

    def allocate_buffers(self, batch: int, dtype: DType, **shapes: Shape) -> None:
        """Allocate one zeroed (batch, *shape) buffer per keyword, read and written as an attribute."""
        self._buffers = {key: zeros((batch, *shape), dtype) for key, shape in shapes.items()}
        self.set_batch_size(batch)


def rows(x: Array) -> Array:
    """Return ``x`` (batch, *positions, n) as (batch times positions, n), a view."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def flat(x: Array) -> Array:
    """Return ``x`` (batch, *positions, n) as (batch, positions times n), a view: elementwise loops are then long."""
    return x if x.ndim == 2 else x.reshape(len(x), -1)
