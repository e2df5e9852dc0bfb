"""Units that are out of work: dead over a fixed set of samples, or silent in a batch."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.probes.probe import Probe, Subject, per_layer, places


@final
class Units(Probe):
    """Measure how many units take no part.

    - dead_units: share of a layer's units with phi'(z) = 0 for every sample of a fixed set, so that no gradient
      ever passes; the samples go through a replica of the network, without dropout
    - zero_activations: share of (sample, unit) of the batch with phi(z) = 0
    """

    name = "units"

    def __init__(self, subject: Subject) -> None:
        self.samples, self.places = subject.samples, [p for p in places(subject.net) if p.activation is not None]
        self.replica = subject.replica(len(subject.samples))
        self.replicas = [p.activation for p in places(self.replica) if p.activation is not None]
        self._declare(per_layer([p.name for p in self.places], ("dead_units", "zero_activations")))
        self.table = self.values.reshape(len(self.places), 2)

    def gradient(self, step: int) -> None:
        """Send the fixed samples through the replica, and count."""
        self.replica.forward(self.samples, train=True)
        for row, place, activation in zip(self.table, self.places, self.replicas, strict=True):
            slope = np.empty_like(activation.y)
            activation.function.df(activation.x, activation.y, slope)
            row[0] = 1 - np.count_nonzero(slope.any(axis=0)) / slope.shape[1]
            a = place.output.y
            row[1] = 1 - np.count_nonzero(a) / a.size if a.size else math.nan
