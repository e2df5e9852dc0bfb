"""The operations of a pass: the executions of modules that follow one another, and what they are called."""

from __future__ import annotations

from bpx.torch.calls import Call
from bpx.torch.capture import Capture


def operations(capture: Capture) -> list[Call]:
    """Return the executions of modules that follow one another, each taking what the one before it gives.

    A module whose inside is such a chain is taken apart; one whose inside is not (a shortcut, a function between two
    modules) is one operation.
    """
    roots = capture.roots
    return _apart(roots[0]) if len(roots) == 1 else []


def inside(call: Call) -> list[Call]:
    """Return an execution and those of all modules in it, in order."""
    return [call, *(c for child in call.children for c in inside(child))]


def kind(op: Call) -> str:
    """Return what an operation is called: dense, activation, norm, dropout, residual, or its class."""
    names = {"weights": "dense", "activation": "activation", "norm": "norm", "dropout": "dropout"}
    return names.get(op.role, "residual" if op.residual else type(op.module).__name__)


def _apart(call: Call) -> list[Call]:
    inner = [child for child in call.children if child.y is not None]
    if call.role != "block" or not inner or not _chain(call, inner):
        return [call]
    return [op for child in inner for op in _apart(child)]


def _chain(call: Call, inner: list[Call]) -> bool:
    given = [call.x_at, *(c.y_at for c in inner)]
    taken = [*(c.x_at for c in inner), call.y_at]
    return all(a == b for a, b in zip(given, taken, strict=True))
