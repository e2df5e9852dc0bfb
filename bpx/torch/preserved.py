"""Leave a model as it was: buffers, gradients, training flags and random state are put back after a pass."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put back every buffer of ``model`` at the end: running statistics, what spectral normalization iterates."""
    buffers = [
        (module._buffers, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for held, name, buffer, value in buffers:
                held[name] = buffer
                if buffer is not None and not torch.equal(buffer, value):
                    buffer.copy_(value)


@contextmanager
def kept_gradients(cost: Tensor, model: nn.Module) -> Iterator[None]:
    """Put back the ``.grad`` of what ``cost`` depends on beside ``model``: inputs, other modules of a closure."""
    own = {id(p) for p in model.parameters()}
    held = [(t, t.grad) for t in _leaves(cost) if id(t) not in own]
    for t, _ in held:
        t.grad = None
    try:
        yield
    finally:
        for t, grad in held:
            t.grad = grad


def _leaves(cost: Tensor) -> Iterator[Tensor]:
    """Yield the tensors at the ends of a graph that get a ``.grad``."""
    nodes, seen = [cost.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            yield leaf
        nodes += [following for following, _ in node.next_functions]


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Put ``model`` into training mode and, at the end, put back what a pass forward and backward changes.

    That is every buffer (running statistics), every ``.grad``, every module's training flag, and the state of
    PyTorch's and Python's random numbers. Inside, no parameter has a ``.grad``.
    """
    modules = list(model.modules())
    flags = [module.training for module in modules]
    gradients = [(p, p.grad) for p in model.parameters()]
    state = random.getstate()
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), kept_buffers(model):
        try:
            for p, _ in gradients:
                p.grad = None
            model.train()
            yield
        finally:
            for module, flag in zip(modules, flags, strict=True):
                module.training = flag
            for p, grad in gradients:
                p.grad = grad
            random.setstate(state)
