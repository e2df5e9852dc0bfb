"""The check of an initializer."""

from __future__ import annotations

import math

import numpy as np

from bpx.engine.initializers import Initializer
from bpx.testing.expect import DTYPES, expect, expect_named

SHAPES = ((300, 200), (200, 300), (1, 7), (7, 1))
CLOSE = 0.05  # relative: of the measured standard deviation, over 60,000 entries


def check_initializer(initializer: Initializer) -> None:
    """Check an initializer.

    That it fills every entry of matrices of several shapes, in float32 and float64, with finite numbers; that the same
    seed gives the same weights; that ``weight_std``, from which theory predicts, is the root mean square of the
    entries; a name and a docstring.

    Parameters
    ----------
    initializer : Initializer
        With the parameters with which it is used.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = expect_named(type(initializer))
    for dtype in DTYPES:
        for shape in SHAPES:
            W, again = np.full((2, *shape), np.nan, dtype)
            initializer(np.random.default_rng(4), W)
            initializer(np.random.default_rng(4), again)
            expect(np.isfinite(W).all(), f"{name} leaves entries of W {shape} that are not finite in {dtype}")
            expect(np.array_equal(W, again), f"{name} draws other weights from the same seed")
            std = initializer.weight_std(*shape)
            expect(std is None or (std >= 0 and math.isfinite(std)), f"{name}.weight_std{shape} is {std}")
            if std is not None and W.size > 1000:
                rms = float(np.sqrt(np.mean(np.square(W, dtype=np.float64))))
                expect(abs(rms - std) <= CLOSE * std, f"{name}.weight_std{shape} is {std:.4g}, the entries' {rms:.4g}")
