"""The gradient through time: factor per step, verdict, and the sentence about them beside theory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from bpx.diagnosis.remedies import Remedy
from bpx.diagnosis.sentence import VERBS
from bpx.diagnosis.time_theory import predict_time, time_band
from bpx.engine.network import Network
from bpx.engine.numbers import power
from bpx.probes import DepthSlope, fit_slope
from bpx.probes.through_time import blank_steps, from_last_step, recurrent_layers, state_grad_l2
from bpx.theory import Verdict, slope_verdict


@final
@dataclass(frozen=True)
class TimeFlow:
    """What a gradient does on its way back through the steps of the last recurrent layer.

    Attributes
    ----------
    verdict : Verdict
        By the rule of a decade between the last and the first step.
    n_steps : int
        Steps of a sequence.
    slope : float or None
        Slope of log10 |dJ/dh_t|, decades a step, signed going backward; None where a gradient is exactly zero.
    ratio : float or None
        That of the first step over that of the last.
    predicted_slope : float or None
        Theory's slope.
    reason : str
        Why theory has none.
    layer : str
        Name of the layer.
    caveat : str
        Why theory's slope is only rough, and has no band.
    band : tuple of float or None
        Between which 95 % of networks of this width have their slope.
    zero_steps : int
        Steps whose gradient is exactly zero.
    blank : int
        The first of them where nothing has come in yet (``blank_steps``), which the line leaves out.
    cause, because : str
        The parts to blame, joined by "and", and what the trials showed of them in words.
    remedies : tuple of Remedy
        Changes that make it healthy.
    """

    verdict: Verdict
    n_steps: int
    slope: float | None
    ratio: float | None
    predicted_slope: float | None
    reason: str
    layer: str
    caveat: str = ""
    band: tuple[float, float] | None = None
    zero_steps: int = 0
    blank: int = 0
    cause: str = ""
    because: str = ""
    remedies: tuple[Remedy, ...] = ()

    @property
    def followed(self) -> int:
        """Steps that the line goes through."""
        return self.n_steps - self.blank

    @property
    def factor(self) -> float | None:
        """Factor per step, going backward."""
        return None if self.slope is None else power(10, self.slope)

    @property
    def sentence(self) -> str:
        """All of it in words."""
        if self.verdict == Verdict.UNDETERMINED:
            return f"The gradient cannot be followed through the {self.n_steps} steps of {self.layer}."
        start = f"Through time the gradients {VERBS[self.verdict]}: going back in {self.layer} they"
        if self.factor is None:
            said = f"{start} are exactly zero at {self.zero_steps} of {self.n_steps} steps ({self._theory})."
        else:
            change = f"×{self.factor:.3g} per step, ×{self.ratio:.2g} over {self.followed} steps"
            said = f"{start} change {change} ({self._theory})."
        if self.blank:
            first = "step has" if self.blank == 1 else f"{self.blank:,} steps have"
            said += f" The first {first} no gradient: nothing has come in yet."
        cause = f" Cause: {self.because}." if self.because else ""
        tries = " or ".join(f"{remedy.command} (×{remedy.factor:.3g} per step)" for remedy in self.remedies)
        return said + cause + (f" Try: {tries}." if tries else "")

    @property
    def _theory(self) -> str:
        if self.predicted_slope is None:
            return f"theory has no prediction: {self.reason}"
        text = f"theory predicts ×{power(10, self.predicted_slope):.3g}"
        if self.caveat:
            return f"{text}, but only roughly: {self.caveat}"
        if self.band is None or self.slope is None:
            return text
        low, high = self.band
        return f"{text}, measured {'within' if low <= self.slope <= high else 'outside'} its 95 % band"


def time_flow(net: Network) -> TimeFlow | None:
    """Judge the gradient through time of the last backward pass; None for a network without recurrent layers."""
    found = recurrent_layers(net)
    if not found:
        return None
    cell = found[-1]
    layer, steps = cell.name.partition(".")[0], cell.shape[0]
    l2 = state_grad_l2(from_last_step(net)[-1])
    blank = blank_steps(net, l2)
    theory, line = predict_time(net, cell, blank), fit_slope(l2[blank:])
    if line is None:
        return TimeFlow(Verdict.UNDETERMINED, steps, None, None, theory.slope, theory.reason, layer)
    band = None if theory.slope is None or theory.caveat else time_band(cell, blank)
    slope = line.slope if math.isfinite(line.slope) else None
    verdict = slope_verdict(line.slope, steps - blank)
    zeros = int(np.count_nonzero(l2 == 0))
    return TimeFlow(
        verdict, steps, slope, line.ratio, theory.slope, theory.reason, layer, theory.caveat, band, zeros, blank
    )


def time_line(net: Network) -> tuple[DepthSlope | None, int]:
    """Return the line through the gradient of the last recurrent layer's states, of the last pass, and its steps."""
    l2 = state_grad_l2(from_last_step(net)[-1])
    blank = blank_steps(net, l2)
    return fit_slope(l2[blank:]), len(l2) - blank
