"""Network: layers in a row, their parameters in one vector, and a loss at the end."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.dense import Dense
from bpx.engine.initializers import Initializer
from bpx.engine.layer import Layer, Shape, rows
from bpx.engine.losses import Loss, accuracy
from bpx.engine.memory import check_state
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector
from bpx.engine.spec import NetworkSpec

EVALUATION_ROWS = 1000


class Network:
    """A chain of layers for inputs (batch, *shape) and the loss of its outputs (batch, *out_shape).

    Where the last layer leaves positions (steps), there is a loss at each of them; ``n_out`` is the width of the last
    axis.

    ``dense`` holds the weight layers from the input on: ``dense[0]`` is layer_01. ``last_batch`` is what ``cost`` was
    given last.

    Parameters
    ----------
    n_in : int or tuple of int
        The width of the input, or the shape of a sample: (*positions, features). Inputs may be given as rows of all
        values of a sample, too.
    blocks : sequence of Layer
        The layers in forward order, not yet built.
    loss : Loss
        Of the last layer's output.
    dtype : str
        ``float32`` or ``float64``.
    max_size : int, optional
        The most parameters that it may have: no memory is taken for more.

    Raises
    ------
    ValueError
        The dtype is another, a layer does not fit after the one before it, or there are more parameters.
    """

    def __init__(
        self,
        n_in: int | Shape,
        blocks: Sequence[Layer],
        loss: Loss,
        dtype: str = "float32",
        max_size: int | None = None,
    ) -> None:
        require(dtype in ("float32", "float64"), "dtype", "float32 or float64", dtype)
        self.shape: Shape = (n_in,) if isinstance(n_in, int) else tuple(n_in)
        self.n_in = math.prod(self.shape)  # all values of a sample
        self.blocks, self.loss = list(blocks), loss
        self.dtype: DType = np.dtype(dtype)
        self.parameters = ParameterVector(max_size)
        self.spec: NetworkSpec | None = None  # set where the network was built from one
        shape, weights = self.shape, 0
        for block in self.blocks:
            inside = sum(isinstance(layer, Dense) for layer in block.layers())
            number = max(weights + (inside > 0), 1)  # that of the block's first Dense, or of the Dense before it
            shape = block.build(f"layer_{number:02d}.{block.kind}", shape, self.parameters)
            weights += inside
        self.out_shape, self.n_out = shape, shape[-1]
        self.dense = self._find_dense()
        for block in self.blocks:  # up to the first parameters nothing needs the gradient of the data
            block.needs_input_grad = False
            if any(layer.parameters() for layer in block.layers()):
                break
        self.parameters.allocate(self.dtype)
        self._rows = 0
        self.last_batch: tuple[Array, Array] | None = None
        self._evaluator: Network | None = None

    def _find_dense(self) -> list[Dense]:
        return [layer for layer in self.layers() if isinstance(layer, Dense)]

    def layers(self) -> Iterator[Layer]:
        """Yield every layer in forward order, those inside residual blocks too."""
        for block in self.blocks:
            yield from block.layers()

    def initialize(self, initializer: Initializer, rng: np.random.Generator) -> None:
        """Draw all weights and biases, layer by layer from the input on; raises ValueError where they do not fit."""
        weights, number = len(self.dense), 0
        for layer in self.layers():
            number += isinstance(layer, Dense)
            layer.draw(initializer.of_layer(max(number - 1, 0), weights), rng)
        initializer.assign(self.tensors())

    def tensors(self) -> dict[str, Array]:
        """Return the parameters and the running statistics, not copied, by name: ``layer_01.dense.W``, ..."""
        return {p.name: p.value for p in self.parameters} | self.statistics()

    def statistics(self) -> dict[str, Array]:
        """Return the running statistics of all layers, not copied, by name."""
        return {key: value for layer in self.layers() for key, value in layer.statistics().items()}

    def bind(self, batch: int, rng: np.random.Generator | None = None) -> Network:
        """Allocate the buffers for up to ``batch`` rows; ``rng`` draws dropout's masks."""
        require(batch >= 1, "batch_size", "at least 1", batch)
        self.rng = rng = np.random.default_rng(0) if rng is None else rng
        for block in self.blocks:
            block.bind(batch, self.dtype, rng)
        self.loss.bind(batch, self.n_out, self.dtype, self.out_shape[:-1])
        self.batch = self._rows = batch
        return self

    def forward(self, x: Array, train: bool) -> Array:
        """Return the last pre-activation (rows, *out_shape) for ``x`` (rows, *shape), in training or evaluation mode.

        Raises ValueError where ``x`` has another width or dtype than the network, or more rows than it is bound for.
        """
        if x.shape[1:] != self.shape:
            x = self.shaped(x)
        if x.dtype != self.dtype:
            raise ValueError(f"x must be (rows, {self.n_in}) of {self.dtype}, got {x.shape} of {x.dtype}")
        if len(x) != self._rows:
            self._use(len(x))
        for block in self.blocks:
            x = block.forward(x, train)
        return x

    def shaped(self, x: Array) -> Array:
        """Return rows of all values of a sample as samples, a view; raises ValueError where they do not fit."""
        if x.shape[1:] not in (self.shape, (self.n_in,)):
            raise ValueError(f"x must be (rows, {self.n_in}) of {self.dtype}, got {x.shape} of {x.dtype}")
        return x.reshape(len(x), *self.shape)

    def cost(self, x: Array, y: Array, train: bool = True) -> float:
        """Return the mean cost J of a batch."""
        self.last_batch = x, y
        return self.loss.cost(self.forward(x, train), y)

    def backward(self) -> None:
        """Write dJ/dtheta of the last ``cost`` into ``parameters.grad``."""
        self.loss.backward()
        self.backward_from(self.loss.dx)

    def backward_from(self, dy: Array) -> None:
        """Send ``dy`` (rows, *out_shape), a gradient at the last pre-activation, backward through every layer."""
        for block in reversed(self.blocks):
            dy = block.backward(dy)

    def predict(self, x: Array) -> Array:
        """Return probabilities (or the outputs of a regression), (n, *out_shape), for any number of samples."""
        x = np.ascontiguousarray(x, self.dtype)
        if x.ndim < 2 or x.shape[1:] not in (self.shape, (self.n_in,)):
            raise ValueError(f"x must be (samples, {self.n_in}), got {x.shape}")
        net = self._evaluation()
        parts = [net.loss.predict(rows(net.forward(piece, train=False))) for piece in _pieces(x)]
        return np.concatenate(parts).reshape(-1, *self.out_shape) if parts else np.zeros((0, *self.out_shape), x.dtype)

    def evaluate(self, x: Array, y: Array) -> tuple[float, float | None]:
        """Return the mean cost and the accuracy (None where targets are no classes) in evaluation mode."""
        net, total, correct = self._evaluation(), 0.0, 0.0
        classes = y.shape[1:] == self.out_shape[:-1] and self.n_out > 1
        for piece, targets in zip(_pieces(x), _pieces(y), strict=True):
            z = net.forward(piece, train=False)
            total += net.loss.cost(z, targets) * len(piece)
            if classes:
                correct += accuracy(z, targets) * len(piece)
        return total / len(x), correct / len(x) if classes else None

    def replica(self, batch: int) -> Network:
        """Return a frozen network that shares theta and running statistics and owns its buffers and gradient."""
        other = copy.copy(self)
        other.parameters = self.parameters.replica()
        other.blocks = [block.replica(other.parameters) for block in self.blocks]
        other.dense = other._find_dense()
        other.loss = self.loss.replica()
        other._evaluator = None
        return other.bind(batch)

    def state_dict(self) -> dict[str, Array]:
        """Return copies of theta and of the running statistics, by name."""
        return {key: value.copy() for key, value in self._held().items()}

    def load_state_dict(self, state: dict[str, Array]) -> None:
        """Take theta and running statistics from ``state``; raises ValueError where a name, shape or dtype differs."""
        held = self._held()
        for key, value in check_state(held, state).items():
            held[key][...] = value

    def _held(self) -> dict[str, Array]:
        return {"theta": self.parameters.theta} | self.statistics()

    def _evaluation(self) -> Network:
        if self._evaluator is None:
            self._evaluator = self.replica(EVALUATION_ROWS)
        return self._evaluator

    def _use(self, n: int) -> None:
        if n > self.batch:
            raise ValueError(f"{n} rows do not fit into buffers bound for {self.batch}")
        for block in self.blocks:
            block.set_batch_size(n)
        self.loss.set_batch_size(n)
        self._rows = n


def _pieces(x: Array) -> Iterator[Array]:
    for start in range(0, len(x), EVALUATION_ROWS):
        yield x[start : start + EVALUATION_ROWS]
