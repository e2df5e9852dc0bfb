"""Hooks on a model for one pass: every module that runs, in order, with what it takes, gives and gets back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import nn

from bpx.probes.scales import SATURATION_THRESHOLD
from bpx.torch.modules import max_slope, role, slope

Tensor = Any


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
        Of a weight layer or an activation: the ``moments`` of y; of an activation also ``saturation`` and ``moves``,
        where phi'(x) is not zero.
    gradients : list of Tensor
        dJ/dy, one for each tensor that came out and through which a gradient came back.
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
    x_at: tuple[int, int, int] = (0, 0, 0)
    y_at: tuple[int, int, int] = (0, 0, 0)
    found: dict[str, Tensor] = field(default_factory=dict)
    gradients: list[Tensor] = field(default_factory=list)
    graph: bool = False
    residual: bool = False
    value: Tensor = None

    @property
    def gradient_norm(self) -> Tensor | None:
        """|dJ/dy|, a float64 scalar; None where no gradient came back."""
        if not self.gradients:
            return None
        norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in self.gradients]
        return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


@final
class Capture:
    """Hook ``model`` while the context is open; the hooks are removed at its end, whatever is raised inside.

    ``calls`` are the executions in order, ``roots`` those of the model itself, ``layers`` those of weight layers.
    With ``blocks`` every module is hooked, else weight layers and activations alone. With ``latest`` a call of the
    model with gradients enabled begins anew: what is kept is the last one.
    """

    def __init__(self, model: nn.Module, *, blocks: bool = True, latest: bool = False) -> None:
        self.model, self.blocks, self.latest = model, blocks, latest
        self.calls: list[Call] = []
        self.outputs: set[int] = set()
        self._handles: list[Any] = []
        self._open: list[Call] = []
        self._times: dict[int, int] = {}
        self._backward = False
        self._recording = False

    def __enter__(self) -> Capture:
        try:
            for name, module, kind in hooked(self.model):
                if self.blocks or kind in ("weights", "activation") or module is self.model:
                    self._handles.append(module.register_forward_pre_hook(self._before(name, kind), with_kwargs=True))
                    self._handles.append(module.register_forward_hook(self._after, with_kwargs=True))
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def begin(self) -> None:
        """Forget the calls so far, and keep those from now on until a gradient comes back."""
        self.calls, self.outputs, self._times, self._recording = [], set(), {}, True

    def backward(self, loss: Tensor) -> None:
        """Send the gradient of ``loss`` backward; raises ValueError, naming the module, where that fails."""
        self._backward, self._open = True, []
        try:
            loss.backward()
        except RuntimeError as error:
            if "modified by an inplace operation" in str(error):
                raise ValueError(self._overwritten()) from error
            raise
        for call in self.layers:
            if not call.graph and not call.gradients:
                raise ValueError(f"{call.name} runs under torch.no_grad: no gradient comes back to it")

    @property
    def roots(self) -> list[Call]:
        """The executions of the model itself."""
        return [call for call in self.calls if call.module is self.model]

    @property
    def layers(self) -> list[Call]:
        """The executions of weight layers, in order."""
        return [call for call in self.calls if call.role == "weights"]

    @property
    def hidden(self) -> list[Call]:
        """The executions of weight layers but the output layers: those whose y the model returns, and the last one."""
        reached = self.reached
        return [call for call in reached[:-1] if id(call) not in self.outputs]

    @property
    def reached(self) -> list[Call]:
        """The executions of weight layers that a gradient came back to, if only zeros, in order."""
        return [call for call in self.layers if call.gradients]

    def activation(self, layer: Call) -> Call | None:
        """Return the first activation after a weight layer and before the next one, None where there is none."""
        following = self.calls[self.calls.index(layer) + 1 :]
        for call in following:
            if call.role == "weights":
                return None
            if call.role == "activation":
                return call
        return None

    def _before(self, name: str, kind: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self.latest and not self._open:
                if not torch.is_grad_enabled():
                    return
                if module is self.model:
                    self.begin()
                elif not self._recording:
                    return
            elif self._backward:
                return
            times = self._times[id(module)] = self._times.get(id(module), 0) + 1
            call = Call(f"{name}#{times}" if times > 1 else name, module, kind)
            x = next(tensors((args, kwargs)), None)
            if x is not None:
                call.x, call.x_at = x.detach(), _place(x)
            if kind == "activation" and x is not None:
                call.found |= _slopes(module, x)
            if self._open:
                self._open[-1].children.append(call)
            self._open.append(call)
            self.calls.append(call)

        return hook

    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if self._backward or not self._open:
            self._recomputed(module, output)
            return None
        call = self._open.pop()
        while call.module is not module:  # one whose exception the user's code has caught
            self.calls.remove(call)
            call = self._open.pop()
        found = [t for t in tensors(output) if t.is_floating_point()]
        if not found:
            return None
        changed = None
        if call.role == "weights" and torch.is_grad_enabled() and not found[0].requires_grad:
            output = changed = _with_graph(output, found[0])  # all before it is frozen
            found = [t for t in tensors(output) if t.is_floating_point()]
        y = found[0]
        call.y, call.y_at, call.graph = y.detach(), _place(y), y.requires_grad
        if call.role in ("weights", "activation"):
            call.found |= moments(call.y)
            if self.blocks and call.role == "weights" and call is self.layers[0]:
                call.value = call.y.clone()
        if call.role == "activation":
            call.found["zeros"] = (call.y == 0).double().mean()
        if call.role == "block" and call.children and module is not self.model:
            call.residual = _adds_up(call)
        if module is self.model:
            places = {_place(t) for t in tensors(output)}
            self.outputs |= {id(c) for c in self.layers if c.y_at in places}
        for t in found:
            if t.requires_grad:
                t.register_hook(self._gradients_of(call))
        return changed

    def _gradients_of(self, call: Call) -> Callable[[Tensor], None]:
        def arrived(gradient: Tensor) -> None:
            call.gradients.append(gradient)
            self._recording = False

        return arrived

    def _recomputed(self, module: nn.Module, output: Any) -> None:
        """Take the gradients of a module that reentrant checkpointing runs again, in backward, with a graph."""
        calls = [call for call in self.calls if call.module is module and not call.graph]
        if len(calls) > 1:
            raise ValueError(f"{calls[0].name} runs {len(calls)} times under checkpoint(use_reentrant=True): "
                             "use_reentrant=False is expected")  # fmt: skip
        for call in calls:
            for t in tensors(output):
                if t.is_floating_point() and t.requires_grad:
                    call.graph = True
                    t.register_hook(self._gradients_of(call))

    def _overwritten(self) -> str:
        for call in self.calls:
            for side, t, at in (("output", call.y, call.y_at), ("input", call.x, call.x_at)):
                needed = call.role == "activation" if side == "output" else call.role != "block"
                if needed and t is not None and t._version != at[2] + (side == "input" and _in_place(call)):
                    return f"{call.name}: its {side} is overwritten in place, and backward needs it"
        return "a tensor that backward needs is overwritten in place"


def hooked(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield name, module and role of every module of ``model`` but those inside a weight layer."""
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        kind = role(module)
        if kind == "weights":
            inside |= {id(child) for child in module.modules() if child is not module}
        yield name.replace("_orig_mod.", "") or type(module).__name__, module, kind


def tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists, mappings and objects with fields, in order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, nn.utils.rnn.PackedSequence):
        yield tree.data
    elif isinstance(tree, dict) or hasattr(tree, "items"):
        for value in tree.values():
            yield from tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors(value)
    elif hasattr(tree, "__dataclass_fields__"):
        for name in tree.__dataclass_fields__:
            yield from tensors(getattr(tree, name))


def moments(x: Tensor) -> dict[str, Tensor]:
    """Return mean, abs_mean, std and rms of a tensor as float64 scalars."""
    f = torch.float64
    rms = torch.linalg.vector_norm(x, dtype=f) / math.sqrt(max(x.numel(), 1))
    return {
        "mean": x.mean(dtype=f),
        "abs_mean": x.abs().mean(dtype=f),
        "std": torch.std(x.to(f), correction=0),
        "rms": rms,
    }


def _slopes(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    with suppress(RuntimeError), torch.no_grad():  # of a dtype or a shape that has no derivative here
        s = slope(module, x).abs()
        under = (s < SATURATION_THRESHOLD * max_slope(module)).double().mean()
        return {"saturation": under, "moves": s != 0}
    return {}


def _place(t: Tensor) -> tuple[int, int, int]:
    """Return what tells two tensors with the same numbers in them: address, entries, how often they were changed."""
    return (t.data_ptr(), t.numel(), 0 if t.is_inference() else t._version)


def _with_graph(output: Any, first: Tensor) -> Any:
    """Return a module's output with its first tensor at the start of a graph."""
    first.requires_grad_()
    started = first.clone()  # what follows may work in place, which a leaf forbids
    return started if output is first else (started, *output[1:])


def _adds_up(call: Call) -> bool:
    last = call.children[-1]
    if call.x is None or last.y is None or not (call.x.shape == call.y.shape == last.y.shape):
        return False
    return bool(torch.equal(call.y, call.x + last.y))


def _in_place(call: Call) -> bool:
    return bool(getattr(call.module, "inplace", False))
