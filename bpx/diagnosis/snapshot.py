"""A network in training at one record: measured values, whether it learned, the slope of delta."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

import numpy as np

from bpx.engine.arrays import Values
from bpx.probes import fit_slope
from bpx.theory import Verdict, slope_verdict

LEARNED_COST_RATIO = 0.9  # of its start
LEARNED_ACCURACY_SHARE = 0.05  # of the way from the share of the largest class to 1
LEARNED_R2 = 0.05  # the constant answer has 0
LEARNED_LITTLE = 0.5  # of the way to 1, of accuracy and of R2: below it a network has learned little


@final
@dataclass
class Snapshot:
    """A network in training at one record.

    Attributes
    ----------
    values : the last measured values by quantity: names of the layers, and the values (layers,) in the same order
    cost_start, cost : ``cost/train`` of the first batch, and the mean since the record before
    accuracy : share of the samples that are classified right, where one was measured
    r2 : coefficient of determination in the training part, where the targets are numbers and it was measured
    largest_class : share of the largest class in the training part; None for numbers as targets
    rate : the learning rate over its peak
    usual_saturation : ``saturation`` that the activation shows for z ~ N(0, 1)
    inside : names of the layers inside residual branches, which the line through delta leaves out
    """

    values: dict[str, tuple[tuple[str, ...], Values]] = field(default_factory=dict)
    cost_start: float | None = None
    cost: float | None = None
    accuracy: float | None = None
    r2: float | None = None
    largest_class: float | None = None
    rate: float = 1.0
    usual_saturation: float = 0.0
    inside: frozenset[str] = frozenset()
    _fitted: tuple[Values | None, float | None] = None, None  # delta, and the slope of it

    def of(self, quantity: str) -> Values:
        """Return the values of a quantity, none where it was not measured."""
        return self.values[quantity][1] if quantity in self.values else np.zeros(0)

    @property
    def grown(self) -> float | None:
        """The cost over its start; None where one is not known."""
        return self.cost / self.cost_start if self.cost is not None and self.cost_start else None

    @property
    def learned(self) -> bool | None:
        """Whether the cost has fallen and more is right than in the constant answer; None: not known."""
        if self.grown is None:
            return None
        learned = self.grown <= LEARNED_COST_RATIO
        if self.r2 is not None:
            learned &= self.r2 > LEARNED_R2
        if self.accuracy is not None and self.largest_class is not None:
            learned &= self.accuracy - self.largest_class > LEARNED_ACCURACY_SHARE * (1 - self.largest_class)
        return learned

    @property
    def learned_little(self) -> bool:
        """Whether the network has learned, and less than half of what there is."""
        if not self.learned:
            return False
        little = self.r2 is not None and self.r2 < LEARNED_LITTLE
        if self.accuracy is not None and self.largest_class is not None:
            little |= self.accuracy - self.largest_class < LEARNED_LITTLE * (1 - self.largest_class)
        return little

    @property
    def stopped(self) -> tuple[str, ...]:
        """The hidden layers whose delta is exactly zero while the loss sends back one that is not."""
        delta = self.of("delta_l2")
        if len(delta) < 2 or delta.min() > 0 or not np.isfinite(delta).all() or delta[-1] == 0:
            return ()
        return tuple(self.values["delta_l2"][0][i] for i in (delta[:-1] == 0).nonzero()[0])

    @property
    def slope(self) -> float | None:
        """The slope of log10 of delta's L2 norm over the hidden layers; None where there is none."""
        delta = self.of("delta_l2")
        if self._fitted[0] is not delta:  # several rules ask for it
            line = fit_slope(delta[:-1][self._on_main_path])
            self._fitted = delta, line.slope if line is not None and math.isfinite(line.slope) else None
        return self._fitted[1]

    @property
    def factor(self) -> float | None:
        """Factor of delta's L2 norm per layer, going backward."""
        return None if self.slope is None else float(np.power(10.0, self.slope))  # beyond all numbers: inf, no error

    @property
    def verdict(self) -> Verdict:
        """The state of the gradients: healthy, vanishing, exploding, dead or undetermined."""
        if self.stopped:
            return Verdict.DEAD
        return Verdict.UNDETERMINED if self.slope is None else slope_verdict(self.slope, len(self._on_main_path))

    @property
    def _on_main_path(self) -> list[int]:
        """The hidden layers that the line is drawn through."""
        names = self.values["delta_l2"][0] if "delta_l2" in self.values else ()
        return [i for i, name in enumerate(names[:-1]) if name not in self.inside]
