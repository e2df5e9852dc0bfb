"""The first non-finite value of a step: which operation produced it, and which only passed it on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.layer import Layer
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer


@final
@dataclass(frozen=True)
class NonFinite:
    """Where NaN or infinity began.

    Attributes
    ----------
    step : int
        The step that made it.
    phase : str
        data, initialization, forward, backward or update.
    layer, operation, tensor : str
        What made it, and what it made.
    nan, inf, size : int
        Entries that are NaN, that are infinite, and all entries of the tensor.
    largest_before : float
        The largest magnitude among the finite values that went in.
    passed_on : tuple of str
        The tensors, in the order of computation, that had it from there.
    """

    step: int
    phase: str
    layer: str
    operation: str
    tensor: str
    nan: int
    inf: int
    size: int
    largest_before: float
    passed_on: tuple[str, ...]

    def __str__(self) -> str:
        where = " ".join(word for word in (self.layer, self.operation) if word)
        counts = " and ".join(f"{n:,} {word}" for n, word in ((self.nan, "NaN"), (self.inf, "Inf")) if n)
        text = f"step {self.step}, {self.phase}: {where} made {counts} among the {self.size:,} values of {self.tensor}"
        return text + f", from inputs of at most {self.largest_before:.3g}; {len(self.passed_on)} tensors passed it on"


class _Made(NamedTuple):
    """A tensor, what made it, and what went into that."""

    phase: str
    layer: str
    operation: str
    tensor: str
    value: Array
    inputs: tuple[Array, ...]


def trace(net: Network, optimizer: Optimizer | None, step: int, cost: float, *, backward: bool = False) -> NonFinite:
    """Return where the non-finite values of the last step began: its cost is one, or its gradient has some.

    The buffers of a step are walked in the order in which it fills them; the first that is not finite had finite
    inputs. A parameter that is not finite before the step was made so by the step before: by its gradient, if the
    optimizer left it to be seen, else by its update.

    Parameters
    ----------
    net : Network
        With the buffers of the step.
    optimizer : Optimizer or None
        That trains it, if any.
    step : int
        The step, for the answer.
    cost : float
        Its cost.
    backward : bool
        Whether the step came so far.
    """
    producer: _Made | None = None
    passed_on: list[str] = []
    for made in _computed(net, optimizer, step, cost, backward):
        if np.isfinite(made.value).all():
            continue
        if producer is None:
            producer = made
        else:
            passed_on.append(f"{made.phase} {made.layer} {made.operation} {made.tensor}".replace("  ", " "))
    assert producer is not None
    value = producer.value
    return NonFinite(
        step=step - 1 if producer.phase in ("update", "backward") and producer.inputs == () else step,
        phase=producer.phase,
        layer=producer.layer,
        operation=producer.operation,
        tensor=producer.tensor,
        nan=int(np.isnan(value).sum()),
        inf=int(np.isinf(value).sum()),
        size=value.size,
        largest_before=max((largest(x) for x in producer.inputs), default=largest(value)),
        passed_on=tuple(passed_on),
    )


def largest(x: Array) -> float:
    """Return the largest finite magnitude of ``x``, 0 where there is none."""
    v = np.abs(x[np.isfinite(x)])
    return float(v.max()) if v.size else 0.0


def _computed(net: Network, optimizer: Optimizer | None, step: int, cost: float, backward: bool) -> Iterator[_Made]:
    x: Array = net.dense[0].x if net.last_batch is None else net.last_batch[0]
    yield _Made("data", "", "batch", "x", x, ())
    for p in reversed(net.parameters.tensors):
        where, operation, tensor = p.name.rsplit(".", 2)
        if step == 0:
            yield _Made("initialization", where, operation, tensor, p.value, ())
        elif not backward and optimizer is not None and optimizer.rescales_only and not np.isfinite(p.grad).all():
            yield _Made("backward", where, operation, f"d{tensor}", p.grad, ())
        else:
            yield _Made("update", where, operation, tensor, p.value, ())
    inputs: dict[str, Array] = {}
    for block in net.blocks:
        entered = x
        for layer in block.layers():
            if layer is not block:
                inputs[layer.name] = x
                yield _made(layer, "forward", layer.output_name, layer.y, (x, *_values(layer)))
                x = layer.y
        inputs[block.name] = entered
        yield _made(block, "forward", block.output_name, block.y, (entered, x, *_values(block)))
        x = block.y
    yield _Made("forward", "", net.loss.name, "J", np.array([cost]), (x,))
    if not backward:
        return
    dy = net.loss.dx
    yield _Made("backward", "", net.loss.name, "delta", dy, (x,))
    for block in reversed(net.blocks):
        entered = dy
        for layer in [*reversed(list(block.layers())[1:]), block]:
            for key, p in layer.parameters().items():
                yield _made(layer, "backward", f"d{key}", p.grad, (dy, inputs[layer.name]))
            if layer.needs_input_grad:
                yield _made(layer, "backward", layer.input_grad_name, layer.dx, (dy, entered, *_values(layer)))
                dy = layer.dx


def _made(layer: Layer, phase: str, tensor: str, value: Array, inputs: tuple[Array, ...]) -> _Made:
    name, _, operation = layer.name.partition(".")
    return _Made(phase, name, operation, tensor, value, inputs)


def _values(layer: Layer) -> tuple[Array, ...]:
    return tuple(p.value for p in layer.parameters().values())
