"""What the checks share: how they fail, and what every part must have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.parts import Part, describe, restore

DTYPES: tuple[DType, ...] = (np.dtype("float32"), np.dtype("float64"))
TOLERANCE = 1e-7  # of a derivative, absolute or relative


def expect(condition: object, message: str) -> None:
    """Raise AssertionError with ``message`` unless the condition holds, under python -O too."""
    if not condition:
        raise AssertionError(message)


def expect_named(kind: type, word: str = "name") -> str:
    """Return the name of a part's class; raise AssertionError unless it has a docstring and, at ``word``, a word."""
    expect(vars(kind).get("__doc__"), f"{kind.__name__} has no docstring")
    value = getattr(kind, word, None)
    expect(isinstance(value, str) and value, f"{kind.__name__}.{word} must be a word")
    return kind.__name__


def expect_described(kind: str, base: type, registry: Mapping[str, type], part: Part) -> None:
    """Raise AssertionError unless a saved model can hold a part and give it back."""
    name = type(part).__name__
    try:
        described = describe(part, registry)
        again: Part = restore(kind, base, registry, described, allow=(type(part).__module__,))
    except (ValueError, TypeError) as error:
        raise AssertionError(f"{name} cannot be saved and loaded: {error}") from error
    expect(describe(again, registry) == described, f"{name} changes its parameters when it is saved and loaded")


def expect_same_state(before: Mapping[str, Array], after: Mapping[str, Array], message: str) -> None:
    """Raise AssertionError unless two states have the same names and the same bits."""
    same = before.keys() == after.keys() and all(np.array_equal(before[k], after[k], equal_nan=True) for k in before)
    expect(same, message)
