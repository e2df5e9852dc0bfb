"""The check of a loss."""

from __future__ import annotations

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.losses import LOSSES, Loss
from bpx.testing.expect import DTYPES, TOLERANCE, expect, expect_described, expect_named

ROWS, OUTPUTS, SHORT = 6, 3, 4
STEP = 1e-5  # of the central difference
FAR = 1e4  # an output of a network that has gone astray


def check_loss(loss: Loss) -> None:
    """Check a loss.

    ``backward`` beside a central difference of ``forward`` in float64; that the cost is the mean over the rows; that
    float32 and float64 are kept, and outputs and targets left as they are; a batch shorter than the buffers; finite
    values at outputs of 1e4; the description that a saved model holds of it; a name and a docstring.

    Parameters
    ----------
    loss : Loss
        With the parameters with which it is used. Where ``classifies`` it is given labels from 0 to 2, else numbers.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = expect_named(type(loss))
    expect_described("loss", Loss, LOSSES, loss)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((ROWS, OUTPUTS))
    y = rng.integers(0, OUTPUTS, ROWS) if loss.classifies else rng.standard_normal((ROWS, OUTPUTS))
    _check_gradient(name, loss.replica(), z, y)
    for dtype in DTYPES:
        _check_arguments(name, loss.replica(), z.astype(dtype), y if loss.classifies else y.astype(dtype))


def _check_gradient(name: str, loss: Loss, z: Array, y: Array) -> None:
    loss.bind(ROWS, OUTPUTS, np.dtype("float64"))
    cost = loss.forward(z, y)
    dz = loss.backward().copy()
    for i, j in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[i, j] = STEP
        slope = (loss.forward(z + step, y) - loss.forward(z - step, y)) / (2 * STEP)
        expect(
            abs(dz[i, j] - slope) < TOLERANCE * max(1, abs(slope)),
            f"{name}.backward is {dz[i, j]:.6g} at output {j}, a central difference of forward {slope:.6g}",
        )
    loss.set_batch_size(1)
    each = [loss.forward(z[i : i + 1], y[i : i + 1]) for i in range(ROWS)]
    mean = float(np.mean(each))
    expect(abs(cost - mean) < TOLERANCE * max(1, abs(mean)), f"{name}.forward is {cost:.6g}, the rows' mean {mean:.6g}")


def _check_arguments(name: str, loss: Loss, z: Array, y: Array) -> None:
    loss.bind(ROWS, OUTPUTS, z.dtype)
    loss.set_batch_size(SHORT)
    z, y = z[:SHORT], y[:SHORT]
    kept_z, kept_y = z.copy(), y.copy()
    cost = loss.forward(z, y)
    dz, p = loss.backward(), loss.predict(z)
    expect(isinstance(cost, float), f"{name}.forward must return a float, got {type(cost).__name__}")
    for what, array in (("backward", dz), ("predict", p)):
        expect(array.shape == z.shape, f"{name}.{what} must return shape {z.shape}, got {array.shape}")
        expect(array.dtype == z.dtype, f"{name}.{what} must keep {z.dtype}, got {array.dtype}")
    untouched = np.array_equal(z, kept_z) and np.array_equal(y, kept_y)
    expect(untouched, f"{name} must not write into its outputs z or targets y")
    expect(not np.shares_memory(p, z), f"{name}.predict must return a new array")
    far = np.sign(z) * np.asarray(FAR, z.dtype)
    try:
        with np.errstate(all="raise", under="ignore"):
            finite = np.isfinite(loss.forward(far, y)) and np.isfinite(loss.backward()).all()
    except FloatingPointError as error:
        raise AssertionError(f"{name} at outputs of {FAR:g} in {z.dtype}: {error}") from error
    expect(finite, f"{name} is not finite at outputs of {FAR:g} in {z.dtype}")
