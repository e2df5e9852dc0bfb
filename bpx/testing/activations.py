"""The check of an activation function."""

from __future__ import annotations

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.arrays import Array, DType
from bpx.testing.expect import DTYPES, TOLERANCE, expect, expect_described, expect_named

LARGEST = {"float32": 1e38, "float64": 1e308}
MAGNITUDES = (1e-3, 1.0, 20.0, 90.0, 800.0, 1e4, 1e20)  # exp of -90 is subnormal in float32, of -800 zero in float64
STEP = 1e-6  # of the central difference
NEAR = 1e-3  # from a kink, where the difference means nothing


def check_activation(function: ActivationFunction) -> None:
    """Check an activation function.

    The derivative df beside a central difference of f in float64, ``max_slope`` and ``monotone`` beside it; finite
    values, without a floating-point warning, at the extremes of float32 and float64; that f and df leave their
    arguments as they are; the description that a saved model holds of it; a name and a docstring.

    Parameters
    ----------
    function : ActivationFunction
        With the parameters with which it is used.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = expect_named(type(function))
    expect_described("activation", ActivationFunction, ACTIVATIONS, function)
    _check_derivative(name, function)
    for dtype in DTYPES:
        _check_extremes(name, function, dtype)


def _check_derivative(name: str, function: ActivationFunction) -> None:
    z = np.linspace(-8, 8, 1601)[None, :] + 0.0017
    slope = (_values(function, z + STEP) - _values(function, z - STEP)) / (2 * STEP)
    a, d = _values(function, z), np.empty_like(z)
    function.df(z, a, d)
    smooth = np.all([np.abs(z - kink) > NEAR for kink in function.kinks], axis=0) if function.kinks else True
    wrong = np.where(smooth, np.abs(d - slope) / np.maximum(1, np.abs(slope)), 0)
    at = int(wrong.argmax())
    numbers = f"{d[0, at]:.6g} at z = {z[0, at]:.4g}, a central difference of f {slope[0, at]:.6g}"
    expect(wrong[0, at] < TOLERANCE, f"{name}.df is {numbers}")
    largest = float(np.abs(d).max())
    expect(largest <= function.max_slope * (1 + TOLERANCE), f"{name}.max_slope must be at least {largest:.6g}")
    expect(not function.monotone or d.min() >= 0, f"{name}.monotone must be False: df goes down to {d.min():.6g}")


def _check_extremes(name: str, function: ActivationFunction, dtype: DType) -> None:
    info, big = np.finfo(dtype), LARGEST[dtype.name]
    sizes = (0.0, info.smallest_subnormal, info.tiny, *MAGNITUDES, big)
    z = np.array([[*sizes, *(-size for size in sizes)]], dtype)
    a, d = np.empty_like(z), np.empty_like(z)
    before = z.copy()
    try:
        with np.errstate(all="raise", under="ignore"):
            function.f(z, a)
            kept = a.copy()
            function.df(z, a, d)
            function.f(np.array([[info.max, -info.max]], dtype), np.empty((1, 2), dtype))
    except FloatingPointError as error:
        raise AssertionError(f"{name} at the extremes of {dtype}: {error}") from error
    expect(np.isfinite(a).all() and np.isfinite(d).all(), f"{name} is not finite at the extremes of {dtype}")
    untouched = np.array_equal(z, before) and np.array_equal(a, kept)
    expect(untouched, f"{name} must not write into z, nor df into a")


def _values(function: ActivationFunction, z: Array) -> Array:
    out = np.empty_like(z)
    function.f(z, out)
    return out
