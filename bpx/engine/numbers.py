"""Python floats: their range checked, and arithmetic that ends in inf where Python raises, as NumPy's does."""

from __future__ import annotations

import math


def power(base: float, exponent: float) -> float:
    """Return base**exponent for a positive base, inf beyond the range of float64."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf


def require(allowed: bool, key: str, expected: str, value: object) -> None:
    """Raise ValueError, "key must be expected, got value", unless the value is ``allowed``."""
    if not allowed:
        raise ValueError(f"{key} must be {expected}, got {value}")


def require_positive(key: str, value: float) -> None:
    """Raise ValueError unless a value is positive and finite."""
    require(value > 0 and math.isfinite(value), key, "positive and finite", value)


def require_fraction(key: str, value: float) -> None:
    """Raise ValueError unless a value is in [0, 1)."""
    require(0 <= value < 1, key, "in [0, 1)", value)
