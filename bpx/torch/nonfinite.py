"""Where NaN or infinity began in the training of a PyTorch model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bpx.probes.nonfinite import NonFinite
from bpx.torch.modules import hooked
from bpx.torch.preserved import preserved
from bpx.torch.trees import floating

Inputs = tuple[tuple[object, ...], dict[str, object]]  # positional and keyword arguments of a module


def gradients_are_finite(parameters: list[Tensor]) -> bool:
    """Return whether the gradients of ``parameters`` are finite, from their sums."""
    sums = [p.grad.sum() for p in parameters if p.grad is not None and not p.grad.is_sparse]
    return not sums or bool(torch.isfinite(torch.stack([s.double() for s in sums]).sum()))


def watched(model: nn.Module) -> list[Tensor]:
    """Return the parameters whose gradients show every delta that is not finite: biases, scales and shifts."""
    small = [p for p in model.parameters() if p.dim() < 2 and p.requires_grad]
    return small or [p for p in model.parameters() if p.requires_grad]


def trace(model: nn.Module, inputs: Inputs | None, step: int) -> NonFinite:
    """Return where the non-finite values of a step began: the model is run once more on ``inputs`` (args, kwargs).

    The first module in order of execution whose output is not finite; where all are, the first one going backward
    whose gradient is not. Without inputs the modules are taken in their order in the model.
    """
    for t in floating(inputs or ()):
        if not _finite(t):
            return _event(step, "data", "", "batch", "x", t, 0.0, 0)
    for name, p in model.named_parameters():
        if not _finite(p):
            return _event(step, "update", name.rpartition(".")[0], "", name, p, math.nan, 0)
    found: list[tuple[str, nn.Module, Tensor, float]] = []
    order: list[tuple[str, nn.Module]] = []

    def hook(name: str, kind: str) -> Callable[..., None]:
        def after(module: nn.Module, args: object, kwargs: object, output: object) -> None:
            if kind != "block":
                order.append((name, module))
            y = next((t for t in floating(output) if not _finite(t)), None)
            if y is not None:
                before = max((_largest(t) for t in floating((args, kwargs))), default=0.0)
                found.append((name, module, y, before))

        return after

    if inputs is None:
        return _backward(model, [(name, m) for name, m, kind in hooked(model) if kind != "block"], step)
    handles = [m.register_forward_hook(hook(name, kind), with_kwargs=True) for name, m, kind in hooked(model)]
    try:
        with preserved(model), torch.no_grad():
            model(*inputs[0], **inputs[1])
    finally:
        for handle in handles:
            handle.remove()
    if found:
        name, module, y, before = found[0]
        return _event(step, "forward", name, type(module).__name__, "output", y, before, len(found) - 1)
    return _backward(model, order, step)


def _backward(model: nn.Module, order: list[tuple[str, nn.Module]], step: int) -> NonFinite:
    bad = [(n, p.grad) for n, m in order for p in m.parameters() if p.grad is not None and not _finite(p.grad)]
    bad = bad or [(n, p.grad) for n, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    name, grad = bad[-1]
    return _event(step, "backward", name, "", "dW", grad, math.nan, len(bad) - 1)


def _event(
    step: int, phase: str, name: str, operation: str, tensor: str, t: Tensor, before: float, passed: int
) -> NonFinite:
    return NonFinite(
        step=step,
        phase=phase,
        layer=name,
        operation=operation,
        tensor=tensor,
        nan=int(torch.isnan(t).sum()),
        inf=int(torch.isinf(t).sum()),
        size=t.numel(),
        largest_before=_largest(t) if math.isnan(before) else before,
        passed_on=("",) * passed,
    )


def _finite(t: Tensor) -> bool:
    return bool(torch.isfinite(t).all())


def _largest(t: Tensor) -> float:
    finite = t.detach()[torch.isfinite(t)]
    return float(finite.abs().max()) if finite.numel() else 0.0
