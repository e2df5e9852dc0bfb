"""Probe: the one interface of everything that is measured in a step, read-only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import ClassVar, Protocol

import numpy as np

from bpx.engine.activation import Activation
from bpx.engine.arrays import Array, Values
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.layer import Layer
from bpx.engine.memory import Stateful
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.engine.scale import Scale

Key = tuple[str, str, str, int]  # layer, operation, quantity, index


class Next(Protocol):
    """What follows a block in forward order, a block or the loss: its ``dx`` is the gradient at the block's output."""

    @property
    def dx(self) -> Array:
        """dJ/d(input), (rows, n_in)."""


@dataclass(frozen=True)
class WeightLayer:
    """A weight layer as probes see it.

    Attributes
    ----------
    name : str
        layer_01 and so on.
    dense : Dense
        Its affine map.
    next : Next
        What holds its delta: the layer after it, or the loss. Where it ends a residual branch, what follows the
        block: its delta is that of the sum which it adds to.
    following : Next
        What follows it: ``next``, or the scale at the end of its branch.
    activation : Activation or None
        Its activation, if any.
    on_main_path : bool
        Whether its output is that of a block, and not one inside a residual branch.
    """

    name: str
    dense: Dense
    next: Next
    following: Next
    activation: Activation | None
    on_main_path: bool

    @property
    def output(self) -> Layer:
        """The layer whose ``y`` is the output a (z where no activation follows)."""
        return self.activation or self.dense


def weight_layers(net: Network) -> list[WeightLayer]:
    """Return the weight layers from the input on; the first is layer_01.

    The gradient at a Dense's output is the ``dx`` of what follows it; for the last Dense of a residual branch, that of
    the block after the residual one, because the addition passes the gradient on unchanged.
    """
    layers = list(net.layers())
    index = {id(layer): k for k, layer in enumerate(layers)}
    found: list[WeightLayer] = []
    for dense, following, after, on_main_path in _dense_of(net.blocks, net.loss):
        rest = (layers[k] for k in range(index[id(dense)] + 1, len(layers)))
        own = takewhile(lambda layer: not isinstance(layer, Dense), rest)
        activation = next((layer for layer in own if isinstance(layer, Activation)), None)
        name = f"layer_{len(found) + 1:02d}"
        found.append(WeightLayer(name, dense, after, following, activation, on_main_path))
    return found


def main_path(layers: Sequence[WeightLayer]) -> Array:
    """Return the indices of the hidden layers that the line of gradient flow is drawn through: those on the main path.

    Without residual branches of several layers these are all.
    """
    return np.array([i for i, layer in enumerate(layers[:-1]) if layer.on_main_path], int)


def _dense_of(
    layers: Sequence[Layer], end: Next, after_block: Next | None = None
) -> Iterator[tuple[Dense, Next, Next, bool]]:
    """Yield every Dense, what follows it, what holds its delta, and whether it is on the main path."""
    holders: list[Next] = [*layers[1:], end]
    last = max((i for i, layer in enumerate(layers) if not isinstance(layer, Scale)), default=-1)
    for i, (layer, following) in enumerate(zip(layers, holders, strict=True)):
        if isinstance(layer, Dense):
            ends, in_branch = i == last, after_block is not None
            yield layer, following, after_block if after_block and ends else following, not in_branch or ends
        elif layer.branch:
            yield from _dense_of(layer.branch, following, following)


@dataclass(frozen=True)
class ProbeContext:
    """What probes look at.

    Attributes
    ----------
    net : Network
        The network.
    optimizer : Optimizer or None
        What trains it, if anything does.
    samples : ndarray (n, n_in)
        A fixed set of samples.
    targets : ndarray (n,) or (n, n_out), or None
        Their labels or targets, where they are known.
    """

    net: Network
    optimizer: Optimizer | None = None
    samples: Array = field(default_factory=lambda: np.empty((0, 0)))
    targets: Array | None = None

    def replica(self, rows: int, input_grad: bool = False) -> Network:
        """Return a replica for ``rows`` samples in training mode that keeps every unit: no dropout, statistics held.

        ``input_grad``: its backward computes the gradient of the data too.
        """
        replica = self.net.replica(rows)
        if input_grad:
            for layer in replica.layers():
                layer.needs_input_grad = True
            replica.bind(rows)
        for layer in replica.layers():
            if isinstance(layer, Dropout):
                layer.mask.fill(1)
        return replica


class Probe(Stateful, ABC):
    """A family of quantities, measured in two moments of a step.

    ``on_gradient`` runs when backward is done and the gradient is untouched; ``on_update`` when the optimizer has
    proposed its step and not made it.

    Attributes
    ----------
    name : str
        The family's key in the configuration.
    layer_quantities, other_quantities : tuple of str
        Those with one value in every layer, and the rest.
    lookback : int
        So many steps before it is due it runs too.
    left_out : str
        What is not measured because it would take too long.
    keys : tuple of (layer, operation, quantity, index)
        What the values are of.
    values : ndarray (len(keys),)
        What was measured, NaN until it is.
    """

    name: ClassVar[str]
    layer_quantities: ClassVar[tuple[str, ...]] = ()
    other_quantities: ClassVar[tuple[str, ...]] = ()
    lookback: ClassVar[int] = 0
    left_out: str = ""
    keys: tuple[Key, ...]
    values: Values
    table: Values

    def __init__(self, context: ProbeContext) -> None:
        """Find the weight ``layers``, and make a ``table`` of them by ``layer_quantities``, a view of the values."""
        self.layers = weight_layers(context.net)
        self.declare(per_layer([p.name for p in self.layers], self.layer_quantities))
        self.table = self.values.reshape(len(self.layers), len(self.layer_quantities))

    @abstractmethod
    def on_gradient(self, step: int) -> None:
        """Measure z, a, delta, the gradient and theta of a step."""

    def on_update(self, optimizer: Optimizer) -> None:
        """Measure the proposed update, factor * u."""
        return None

    def declare(self, keys: list[Key]) -> None:
        """Keep the keys, and make the values, NaN until they are measured."""
        self.keys = tuple(keys)
        self.values = np.full(len(keys), np.nan)


def per_layer(names: list[str], quantities: tuple[str, ...]) -> list[Key]:
    """Return a key for every quantity of every layer, layer by layer."""
    return [(name, "", quantity, 0) for name in names for quantity in quantities]
