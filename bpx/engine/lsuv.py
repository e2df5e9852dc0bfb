"""LSUV: scale the layers of a built network on data."""

from __future__ import annotations

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.dense import Dense
from bpx.engine.network import Network

TOLERANCE = 1e-3
MAX_ITERATIONS = 10


def scale_to_unit_variance(net: Network, x: Array) -> None:
    """Scale each W, from the input on, until std(z) over the batch ``x`` (batch, n_in) is 1 within 1e-3.

    (Mishkin & Matas 2016, algorithm 1.)
    """
    replica, x = net.replica(len(x)), net.shaped(x)
    for block in replica.blocks:
        for dense in (layer for layer in block.layers() if isinstance(layer, Dense)):
            for _ in range(MAX_ITERATIONS):
                with np.errstate(all="ignore"):  # the layers after it in its block, not scaled yet, may overflow
                    block.forward(x, train=True)
                std = float(dense.y.std(dtype=np.float64))
                if std == 0 or abs(std - 1) < TOLERANCE:
                    break
                dense.W.value /= std
        with np.errstate(all="ignore"):
            x = block.forward(x, train=True)
