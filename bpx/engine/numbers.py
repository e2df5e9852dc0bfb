"""Arithmetic on Python floats that ends in inf where Python raises, as NumPy's does."""

from __future__ import annotations

import math


def power(base: float, exponent: float) -> float:
    """Return base**exponent for a positive base, inf beyond the range of float64."""
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf
