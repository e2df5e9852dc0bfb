"""Roots of functions of one variable."""

from __future__ import annotations

from collections.abc import Callable


def root(
    function: Callable[[float], float], low: float, high: float, xtol: float = 2e-12, rtol: float = 2**-50
) -> float:
    """Return where ``function`` changes its sign between ``low`` and ``high`` (Brent 1973, chapter 4).

    SciPy's optimizers, whose import takes a sixth of a second, are not needed to train a network.
    """
    from scipy.optimize import brentq

    return float(brentq(function, low, high, xtol=xtol, rtol=rtol))
