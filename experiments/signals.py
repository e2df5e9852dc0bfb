"""What the studies read from the buffers of a network after a forward and backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpx.engine import Network
from bpx.probes.layers import delta_sources, output_layers

Values = NDArray[np.float64]


def deltas(net: Network) -> list[Values]:
    """Return delta = dJ_i/dz of every weight layer, (batch, n_out) each."""
    buffers = [source.dz if source is net.loss else source.dx for source in delta_sources(net)]
    return [np.asarray(dz, np.float64) * len(dz) for dz in buffers]


def activations(net: Network) -> list[Values]:
    """Return a of every hidden layer, (batch, n_out) each."""
    return [np.asarray(layer.y, np.float64) for layer in output_layers(net)[:-1]]


def rms(x: Any) -> float:
    """Return the root mean square of all entries."""
    return float(np.sqrt(np.mean(np.square(x))))
