"""The tensors in what a module takes and gives: nested tuples, lists, mappings and objects with fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn

Place = tuple[int, int, int]


def tensors(tree: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists, mappings and objects with fields, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, nn.utils.rnn.PackedSequence):
        yield tree.data
    elif isinstance(tree, Mapping) or hasattr(tree, "items"):
        for value in cast(Mapping[str, object], tree).values():
            yield from tensors(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from tensors(value)
    elif hasattr(tree, "__dataclass_fields__"):
        for name in tree.__dataclass_fields__:
            yield from tensors(getattr(tree, name))


def floating(tree: object) -> list[Tensor]:
    """Return the tensors of floating-point numbers in a tree."""
    return [t for t in tensors(tree) if t.is_floating_point()]


def place(t: Tensor) -> Place:
    """Return what tells two tensors with the same numbers in them: address, entries, how often they were changed."""
    if t.layout != torch.strided:
        return (id(t), t.numel(), 0)
    return (t.data_ptr(), t.numel(), 0 if t.is_inference() else t._version)


def has_memory(t: Tensor) -> bool:
    """Return whether a tensor has numbers of its own: inside of ``torch.func`` transforms it has none."""
    try:
        t.data_ptr()
    except RuntimeError:
        return bool(t.layout != torch.strided)
    return True


def with_graph(output: object) -> object:
    """Return a module's output, a tensor or a tuple, with its first tensor at the start of a graph."""
    first = floating(output)[0].requires_grad_()
    started = first.clone()  # what follows may work in place, which a leaf forbids
    return (started, *output[1:]) if isinstance(output, tuple) else started
