"""Hooks on a model for one pass: every module that runs, in order, with what it takes, gives and gets back."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bpx.torch.calls import Arrival, Call, adds_up, in_place, sample_axis, slopes
from bpx.torch.modules import hooked
from bpx.torch.reductions import moments, norm, share
from bpx.torch.trees import floating, has_memory, place, tensors, with_graph


@final
class Capture:
    """Hook ``model`` while the context is open; the hooks are removed at its end, whatever is raised inside.

    ``calls`` are the executions in order, ``roots`` those of the model itself, ``layers`` those of weight layers.
    With ``blocks`` every module is hooked, else weight layers and activations alone; with ``units`` what units and
    samples do is kept, too. With ``latest`` a call of the model with gradients enabled begins anew: what is kept is
    the last one. ``n`` is the number of samples, where it is known.
    """

    n: int | None = None

    def __init__(self, model: nn.Module, *, blocks: bool = True, units: bool = True, latest: bool = False) -> None:
        self.model, self.blocks, self.units, self.latest = model, blocks, units, latest
        self.calls: list[Call] = []
        self.outputs: set[int] = set()
        self._handles: list[RemovableHandle] = []
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
            if not call.graph and not call.norms:
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
        return [call for call in self.layers if call.norms]

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
        def hook(module: nn.Module, args: object, kwargs: object) -> None:
            if self.latest and not self._open:
                if not torch.is_grad_enabled():
                    return
                if module is self.model:
                    self.begin()
                elif not self._recording:
                    return
            elif self._backward:
                return
            x = next(tensors((args, kwargs)), None)
            if x is not None and not has_memory(x):
                if self.latest:
                    return
                raise ValueError(f"{name} runs inside a transform of torch.func: expected a call of the model itself")
            times = self._times[id(module)] = self._times.get(id(module), 0) + 1
            call = Call(f"{name}#{times}" if times > 1 else name, module, kind)
            if x is not None:
                call.x, call.x_at = x.detach(), place(x)
            if kind == "activation" and x is not None and type(module) is not nn.ReLU:
                call.found |= slopes(module, x, units=self.units)
            if self._open:
                self._open[-1].children.append(call)
            self._open.append(call)
            self.calls.append(call)

        return hook

    def _after(self, module: nn.Module, args: object, kwargs: object, output: object) -> object:
        if self._backward or all(call.module is not module for call in self._open):
            self._recomputed(module, output)
            return None
        call = self._open.pop()
        while call.module is not module:  # one whose exception the user's code has caught
            self.calls.remove(call)
            call = self._open.pop()
        found = floating(output)
        if not found:
            if call.role == "weights" and not self.latest and any(t.is_complex() for t in tensors(output)):
                raise ValueError(f"{call.name} gives complex numbers: expected real ones")
            return None
        changed: object = None
        if call.role == "weights" and torch.is_grad_enabled() and not found[0].requires_grad:
            output = changed = with_graph(output)  # all before it is frozen
            found = floating(output)
        y = found[0]
        detached = y.detach()
        call.y, call.y_at, call.graph = detached, place(y), y.requires_grad
        if call.role in ("weights", "activation"):
            call.found |= moments(detached)
            if self.blocks and call.role == "weights" and call is self.layers[0]:
                call.value = detached.clone()
        if call.role == "activation":
            self._zeros(call, detached)
        if call.role == "block" and call.children and module is not self.model:
            call.residual = adds_up(call)
        if module is self.model:
            places = {place(t) for t in tensors(output)}
            self.outputs |= {id(c) for c in self.layers if c.y_at in places}
        for index, t in enumerate(found):
            if t.requires_grad:
                t.register_hook(self._gradients_of(call, index))
        return changed

    def _zeros(self, call: Call, y: Tensor) -> None:
        """Keep the share of zeros in what an activation gives; those of ReLU are where its slope is zero."""
        relu = type(call.module) is nn.ReLU
        if not (relu or self.units):
            return
        zeros = 1 - share(y)
        if relu:
            call.found["saturation"] = zeros
        if self.units:
            call.found |= {"zeros": zeros} | ({"moves": y != 0} if relu else {})

    def _gradients_of(self, call: Call, index: int) -> Callable[[Tensor], None]:
        def arrived(gradient: Tensor) -> None:
            before = call.arrivals.get(index)
            if before is not None and before.gradient is not None:  # of an earlier backward through the same graph
                gradient = gradient + before.gradient
            over_samples, kept = None, self.latest and call.role == "weights"
            if call.role == "weights" and (self.units or self.blocks):
                kept |= isinstance(call.module, nn.Linear)
                if (axis := sample_axis(call.module, gradient, self.n)) is not None:
                    over_samples = norm(gradient.sum(axis))
            call.arrivals[index] = Arrival(norm(gradient), gradient.numel(), over_samples, gradient if kept else None)
            self._recording = False

        return arrived

    def _recomputed(self, module: nn.Module, output: object) -> None:
        """Take the gradients of a module that reentrant checkpointing runs again, in backward, with a graph."""
        calls = [call for call in self.calls if call.module is module and not call.graph]
        if len(calls) > 1:
            raise ValueError(f"{calls[0].name} runs {len(calls)} times under checkpoint(use_reentrant=True): "
                             "use_reentrant=False is expected")  # fmt: skip
        for call in calls:
            for index, t in enumerate(floating(output)):
                if t.requires_grad:
                    call.graph = True
                    t.register_hook(self._gradients_of(call, index))

    def _overwritten(self) -> str:
        for call in self.calls:
            for side, t, at in (("output", call.y, call.y_at), ("input", call.x, call.x_at)):
                needed = call.role == "activation" if side == "output" else call.role != "block"
                if needed and t is not None and t._version != at[2] + (side == "input" and in_place(call)):
                    return f"{call.name}: its {side} is overwritten in place, and backward needs it"
        lost = [call.name for call in self.layers if not call.norms]
        where = f"after {lost[-1]}" if lost else f"in {type(self.model).__name__}"
        return f"{where} a tensor is overwritten in place, and backward needs it"
