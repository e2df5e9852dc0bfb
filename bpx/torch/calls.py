"""One execution of a module in a pass, and what is kept of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn

from bpx.probes.scales import SATURATION_THRESHOLD
from bpx.torch.modules import max_slope, slope
from bpx.torch.reductions import mean
from bpx.torch.trees import Place


@final
@dataclass(frozen=True)
class Arrival:
    """What came back to one tensor that a module gave.

    Attributes
    ----------
    norm : Tensor
        |dJ/dy|.
    size : int
        How many numbers dJ/dy has.
    over_samples : Tensor or None
        The norm of the sum of dJ/dy over the samples, where it was asked for.
    gradient : Tensor or None
        dJ/dy itself, where it is kept.
    """

    norm: Tensor
    size: int
    over_samples: Tensor = None
    gradient: Tensor = None


@final
@dataclass(eq=False)
class Call:
    """One execution of a module in a pass.

    Attributes
    ----------
    name : str
        The module's name in the model; from the second execution on with ``#2``, ``#3``, ...
    module : Module
        The module.
    role : str
        weights, activation, norm, dropout or block.
    children : list of Call
        The modules that ran inside of it, in order; none inside a weight layer.
    x, y : Tensor
        The first tensor that went in and the first that came out, without their graph.
    found : dict of str to Tensor
        Of a weight layer or an activation: the ``moments`` of y; of an activation also ``saturation``, and for units
        ``zeros``, the share of zeros in y, and ``moves``, where phi'(x) is not zero.
    arrivals : dict of int to Arrival
        What came back, by the place of the tensor among those that came out.
    residual : bool
        Whether y = x + (what the last module inside gave).
    value : Tensor
        Of the first weight layer: a copy of y, which an activation may overwrite.
    """

    name: str
    module: nn.Module
    role: str
    children: list[Call] = field(default_factory=list)
    x: Tensor = None
    y: Tensor = None
    x_at: Place = (0, 0, 0)
    y_at: Place = (0, 0, 0)
    found: dict[str, Tensor] = field(default_factory=dict)
    arrivals: dict[int, Arrival] = field(default_factory=dict)
    graph: bool = False
    residual: bool = False
    value: Tensor = None

    @property
    def norms(self) -> list[Tensor]:
        """The norms of dJ/dy, one for each tensor that a gradient came back to."""
        return [arrival.norm for arrival in self.arrivals.values()]

    @property
    def sums(self) -> list[Tensor]:
        """The norms of the sums of dJ/dy over the samples, where they were asked for."""
        return [a.over_samples for a in self.arrivals.values() if a.over_samples is not None]

    @property
    def gradients(self) -> list[Tensor]:
        """The dJ/dy that are kept."""
        return [a.gradient for a in self.arrivals.values() if a.gradient is not None]

    @property
    def size(self) -> int:
        """How many numbers the dJ/dy have."""
        return sum(arrival.size for arrival in self.arrivals.values())

    @property
    def gradient_norm(self) -> Tensor | None:
        """|dJ/dy|, a float64 scalar; None where no gradient came back."""
        norms = self.norms
        if len(norms) < 2:
            return norms[0] if norms else None
        return torch.linalg.vector_norm(torch.stack(norms))


def sample_axis(module: nn.Module, t: Tensor, n: int | None) -> int | None:
    """Return the axis of a tensor of a layer along which the ``n`` samples lie; None where there is none."""
    first = 0 if getattr(module, "batch_first", True) else 1
    for axis in dict.fromkeys((first, 0, 1)):
        if t.dim() > axis and t.shape[axis] == n:
            return axis
    return None


def slopes(module: nn.Module, x: Tensor, *, units: bool) -> dict[str, Tensor]:
    """Return what the slopes of an activation show: saturation and, for ``units``, where they are not zero."""
    with suppress(RuntimeError), torch.no_grad():  # of a dtype or a shape that has no derivative here
        s = slope(module, x).abs()
        moves = {"moves": s != 0} if units else {}
        return {"saturation": mean(s.lt_(SATURATION_THRESHOLD * max_slope(module)))} | moves
    return {}


def adds_up(call: Call) -> bool:
    """Return whether what a module gives is what it takes plus what the last module inside gives."""
    last = call.children[-1]
    if call.x is None or call.y is None or last.y is None or not (call.x.shape == call.y.shape == last.y.shape):
        return False
    return bool(torch.equal(call.y, call.x + last.y))


def in_place(call: Call) -> bool:
    """Return whether an activation writes over what it takes."""
    return bool(getattr(call.module, "inplace", False))
