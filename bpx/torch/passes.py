"""One pass forward and backward through a model that stays as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from bpx.torch.capture import Capture
from bpx.torch.measure import REDUCTIONS, PassMeasurement
from bpx.torch.preserved import kept_gradients, preserved
from bpx.torch.trees import tensors


@final
@dataclass(frozen=True)
class Batch:
    """What is sent through a model, and how its loss is computed.

    Attributes
    ----------
    x, y
        Inputs and targets: a tensor, a tuple (positional arguments) or a mapping (keyword arguments); y may be None.
    loss : callable
        ``loss(output, y)``, a scalar; not used where there is a closure.
    reduction : str
        ``mean`` or ``sum``: how the loss combines the samples.
    closure : callable or None
        ``closure(model, x)`` or, with targets, ``closure(model, x, y)``, which returns the scalar loss.
    n : int
        Number of samples.
    """

    x: Any
    y: Any
    loss: Callable[[Any, Any], Tensor]
    reduction: str
    closure: Callable[..., Tensor] | None
    n: int

    def cost(self, model: nn.Module) -> object:
        """Return what the loss, or the closure, gives."""
        if self.closure is not None:
            return self.closure(model, self.x) if self.y is None else self.closure(model, self.x, self.y)
        if isinstance(self.x, dict) or hasattr(self.x, "items"):
            output = model(**self.x)
        else:
            output = model(*self.x) if isinstance(self.x, (tuple, list)) else model(self.x)
        if self.loss is nn.functional.cross_entropy:
            _check_classes(output)
        return self.loss(output, self.y)


def _check_classes(output: object) -> None:
    """Raise ValueError where an output has no cross-entropy, or one that is always zero."""
    if not isinstance(output, torch.Tensor):
        kind = type(output).__name__
        raise ValueError(f"loss: cross_entropy takes a tensor, but the model returns a {kind}; give loss or closure")
    if output.dim() > 1 and output.shape[1] == 1:
        raise ValueError(
            "loss: cross_entropy of a single output is always 0; give another, for instance "
            "nn.functional.mse_loss for numbers or binary_cross_entropy_with_logits for two classes"
        )


def scalar(cost: object, name: str) -> Tensor:
    """Return the loss of the model ``name`` as a scalar; raises ValueError where it is none with a graph."""
    if not isinstance(cost, torch.Tensor) or cost.numel() != 1:
        got = f"shape {tuple(cost.shape)}" if isinstance(cost, torch.Tensor) else type(cost).__name__
        raise ValueError(f"the loss of {name}: expected a scalar tensor, got {got}")
    if not cost.requires_grad:
        raise ValueError(f"the loss of {name}: expected a tensor with a graph, got one that is detached")
    return cost.reshape(())


def batch(
    x: object,
    y: object,
    loss: Callable[[Any, Any], Tensor],
    reduction: str,
    closure: Callable[..., Tensor] | None,
    n: int | None,
) -> Batch:
    """Return a Batch, ``n`` being the length of the first tensor in x where it is None; raises ValueError."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected {' or '.join(REDUCTIONS)}, got {reduction!r}")
    if closure is None and not callable(loss):
        raise ValueError(f"loss: expected a function of output and targets, got {loss!r}")
    if n is None:
        first = next((t for t in tensors(x) if t.dim() > 0), None)
        if first is None:
            kind = type(x).__name__
            raise ValueError(f"x: expected a tensor of samples, or several in a tuple or a mapping, got {kind}")
        n = len(first)
    if n < 1:
        raise ValueError(f"x: expected at least one sample, got {n}")
    if any(t.is_floating_point() and bool(t.isnan().any()) for t in tensors(x)):  # infinity may be a mask's
        raise ValueError("x: expected numbers, got NaN")
    return Batch(x, y, loss, reduction, closure, n)


@contextmanager
def measured_pass(model: nn.Module, given: Batch, *, blocks: bool = True) -> Iterator[PassMeasurement]:
    """Make a pass in training mode, and give what it shows while the gradients of the parameters are there.

    Raises ValueError where no weight layer of ``model`` runs, the loss is no scalar with a graph, or a layer runs
    without one.
    """
    with preserved(model), eager(model), torch.enable_grad(), Capture(model, blocks=blocks) as capture:
        capture.n = given.n
        cost = given.cost(model)
        if not capture.layers:
            raise ValueError(f"{type(model).__name__}: expected a model with weight layers that run, got none")
        loss = scalar(cost, type(model).__name__)
        with kept_gradients(loss, model):
            capture.backward(loss)
        capture.remove()
        yield PassMeasurement(capture, given.n, given.reduction)


def eager(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which what is compiled runs as it was written, so that hooks see it.

    Raises ValueError, naming the module, where this version of PyTorch (before 2.6) has no such context.
    """
    compiled = [name for name, module in model.named_modules() if is_compiled(module)]
    if not compiled and "torch._dynamo" not in sys.modules:  # else a closure may be compiled
        return nullcontext()
    if not hasattr(torch.compiler, "set_stance"):
        if not compiled:
            return nullcontext()
        raise ValueError(f"{compiled[0] or type(model).__name__} is compiled: expected torch 2.6 or the module itself")
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def is_compiled(module: nn.Module) -> bool:
    """Return whether a module is what ``torch.compile`` or ``module.compile`` made."""
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
