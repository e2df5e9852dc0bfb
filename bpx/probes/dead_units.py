"""Dead units, over a fixed set of samples, and zero activations, in a batch."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.layer import rows
from bpx.probes.probe import Probe, ProbeContext, per_layer, weight_layers


@final
class DeadUnits(Probe):
    """Measure dead units (Lu et al. 2020, section 3) and zero activations.

    - dead_units: share of a layer's units with phi'(z) = 0 for every sample, and position, of a fixed set, so that no
      gradient ever passes; the samples go through a replica of the network, without dropout
    - zero_activations: share of (sample, unit) of the batch with phi(z) = 0
    """

    name = "units"
    layer_quantities = ("dead_units", "zero_activations")

    def __init__(self, context: ProbeContext) -> None:
        self.samples, self.layers = context.samples, [p for p in weight_layers(context.net) if p.activation is not None]
        self.replica = context.replica(len(context.samples))
        self.replicas = [p.activation for p in weight_layers(self.replica) if p.activation is not None]
        self.declare(per_layer([p.name for p in self.layers], self.layer_quantities))
        self.table = self.values.reshape(len(self.layers), 2)

    def on_gradient(self, step: int) -> None:
        """Send the fixed samples through the replica, and count."""
        self.replica.forward(self.samples, train=True)
        for row, layer, activation in zip(self.table, self.layers, self.replicas, strict=True):
            slope = np.empty_like(activation.y)
            activation.function.df(activation.x, activation.y, slope)
            row[0] = 1 - np.count_nonzero(rows(slope).any(axis=0)) / slope.shape[-1]
            a = layer.output.y
            row[1] = 1 - np.count_nonzero(a) / a.size if a.size else math.nan
