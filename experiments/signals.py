"""What the studies share: reading a network's buffers after a forward and backward pass, and naming a metric."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from bpx.engine import Network
from bpx.engine.arrays import Values
from bpx.probes.probe import weight_layers
from bpx.runs.study import Study


def deltas(net: Network) -> list[Values]:
    """Return delta = dJ_i/dz of every weight layer, (batch, n_out) each."""
    buffers = [np.asarray(layer.next.dx, np.float64) for layer in weight_layers(net)]
    return [dz * len(dz) for dz in buffers]


def initial_profiles(s: Study, *words: str, seeds: int | None = None) -> Values:
    """Return ‖δ‖ of every hidden layer of drawn networks, (seeds, L); the output sends back a random δ."""
    drawn = s.draws(*words, seeds=seeds, random_delta=True)
    return np.array([[l2(d) for d in deltas(net)[:-1]] for net, _, _ in drawn])


def linear_cost(output: Any, delta: Any) -> Any:
    """Return the cost (tensor, scalar) whose gradient by the output of a sample is ``delta`` over the batch's size."""
    return (output * delta).sum() / len(delta)


def activations(net: Network) -> list[Values]:
    """Return a of every hidden layer, (batch, n_out) each."""
    return [np.asarray(layer.output.y, np.float64) for layer in weight_layers(net)[:-1]]


def rms(x: Any) -> float:
    """Return the root mean square of all entries."""
    return float(np.sqrt(np.mean(np.square(x))))


def l2(x: Any) -> float:
    """Return the root mean square over the samples, the rows of ``x``, of their L2 norm."""
    return float(np.sqrt(np.mean(np.sum(np.square(x), axis=1))))


def metric_name(label: str) -> str:
    """Return a label as the last part of a metric's name: small letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
