"""What no scale of the weights puts right: inputs that carry nothing, layers whose weights are all equal."""

from __future__ import annotations

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.network import Network


def empty_inputs(x: Array) -> str:
    """Say that the inputs ``x`` (batch, n_in) carry nothing, and why; empty where they do carry something.

    They carry nothing where every feature is the same in all samples, or differs by so little that its square, and
    with it every variance that is computed from it, is below the smallest normal number of the dtype.
    """
    largest, least = float(np.abs(x).max()), float(np.sqrt(np.finfo(x.dtype).tiny))
    if largest < least:
        size = f"at most {largest:.0e}" if largest else "0"
        return f"the inputs carry nothing: every feature is {size} in all samples of the batch"
    if len(x) > 1 and float(np.ptp(x.astype(np.float64), axis=0).max()) < least:
        return "the inputs carry nothing: every feature is the same in all samples of the batch"
    return ""


def equal_weights(net: Network) -> str:
    """Say which hidden layers have weights that are all equal, and what that means; empty where there are none."""
    hidden = list(enumerate(net.dense[:-1], 1))
    found = [(i, dense) for i, dense in hidden if dense.n_out > 1 and np.ptp(dense.W.value) == 0]
    if not found:
        return ""
    (first, dense), (last, _) = found[0], found[-1]
    where = f"layer_{first:02d}" + (f" to layer_{last:02d}" if last > first else "")
    value = float(dense.W.value.flat[0])
    return f"symmetry, for all weights of {where} are equal ({value:g}) and every unit of a layer gets the same signal"
