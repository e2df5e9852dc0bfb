"""The gradient through time: factor per step, verdict, theory's factor, and the sentence about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from bpx.diagnosis.architecture import drawn_at_random
from bpx.diagnosis.remedies import Remedy
from bpx.diagnosis.sentence import VERBS
from bpx.engine.arrays import Array
from bpx.engine.network import Network
from bpx.engine.numbers import power
from bpx.engine.recurrent import Recurrence, Recurrent
from bpx.probes import DepthSlope, fit_slope
from bpx.probes.through_time import from_last_step, recurrent_layers, state_grad_l2
from bpx.theory import Verdict, mean_field, slope_verdict
from bpx.theory.gated import gradient_through_time
from bpx.theory.meanfield import MAX_SIGMA

MAX_STEPS = 64  # of which theory follows a cell with gates: what it takes grows with their cube
MAX_DRAWS = 1024  # units and samples that it takes its means over


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
    zero_steps : int
        Steps whose gradient is exactly zero.
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
    zero_steps: int = 0
    cause: str = ""
    because: str = ""
    remedies: tuple[Remedy, ...] = ()

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
            change = f"×{self.factor:.3g} per step, ×{self.ratio:.2g} over {self.n_steps} steps"
            said = f"{start} change {change} ({self._theory})."
        cause = f" Cause: {self.because}." if self.because else ""
        tries = " or ".join(f"{remedy.command} (×{remedy.factor:.3g} per step)" for remedy in self.remedies)
        return said + cause + (f" Try: {tries}." if tries else "")

    @property
    def _theory(self) -> str:
        if self.predicted_slope is None:
            return f"theory has no prediction: {self.reason}"
        return f"theory predicts ×{power(10, self.predicted_slope):.3g}"


def time_flow(net: Network) -> TimeFlow | None:
    """Judge the gradient through time of the last backward pass; None for a network without recurrent layers."""
    found = recurrent_layers(net)
    if not found:
        return None
    cell = found[-1]
    layer, steps = cell.name.partition(".")[0], cell.shape[0]
    predicted, reason = predicted_time_slope(net, cell)
    l2 = state_grad_l2(from_last_step(net)[-1])
    line = fit_slope(l2)
    if line is None:
        return TimeFlow(Verdict.UNDETERMINED, steps, None, None, predicted, reason, layer)
    slope = line.slope if math.isfinite(line.slope) else None
    verdict = slope_verdict(line.slope, steps)
    return TimeFlow(verdict, steps, slope, line.ratio, predicted, reason, layer, int(np.count_nonzero(l2 == 0)))


def time_line(net: Network) -> DepthSlope | None:
    """Return the line through the gradient of the last recurrent layer's states, of the last pass."""
    return fit_slope(state_grad_l2(from_last_step(net)[-1]))


def input_std(net: Network, cell: Recurrent) -> float:
    """Return the standard deviation over the units of the input sums x W + b of a recurrent layer."""
    layers = list(net.layers())
    return math.sqrt(float(np.asarray(layers[layers.index(cell) - 1].y, np.float64).var(axis=-1).mean()))


def predicted_time_slope(net: Network, cell: Recurrent) -> tuple[float | None, str]:
    """Return theory's slope, in decades a step, and "", or None and why there is none.

    Of a plain recurrence log10 sqrt(chi_1) of the recurrent map, q = sigma_w**2 E[phi(sqrt(q) z)**2] + v,
    chi_1 = sigma_w**2 E[phi'(sqrt(q) z)**2], sigma_w**2 = n var(U) and v the variance of the input sums x W + b: that
    the weights are the same at every step does not matter to first order in wide layers (Chen et al. 2018; Poole et al.
    2016). Of a cell with gates the slope of ``gradient_through_time``, with the gates of the last pass.
    """
    if cell.truncate is not None:
        return None, "the gradient is truncated"
    by_gate = np.split(np.asarray(cell.W.value, np.float64), cell.gates, axis=1)
    if not all(map(drawn_at_random, by_gate)):
        return None, "the recurrent weights are not random"
    if not isinstance(cell, Recurrence):
        return _gated_slope(cell, by_gate)
    U = np.asarray(cell.W.value, np.float64)
    sigma_w = math.sqrt(float((U**2).sum()) / U.shape[0])
    drive = input_std(net, cell)
    if not (0 < sigma_w <= MAX_SIGMA and drive <= MAX_SIGMA):
        return None, "the recurrent weights are zero, or a length leaves the range of numbers"
    field = mean_field(cell.function, sigma_w, drive)
    if not (field.chi_1 > 0 and math.isfinite(field.chi_1)):
        return None, "the recurrent map has no fixed point"
    return math.log10(field.chi_1) / 2, ""


def _gated_slope(cell: Recurrent, by_gate: Sequence[Array]) -> tuple[float | None, str]:
    """Return the slope of ``gradient_through_time`` over the last MAX_STEPS steps; the first units and samples do."""
    factors, n = cell.step_factors(), cell.n_out
    if factors is None:
        return None, f"no formula is known for {cell.display_name}"
    rows, steps = max(MAX_DRAWS // n, 1), slice(-MAX_STEPS, None)
    parts = [np.moveaxis(part[..., :rows, steps, :MAX_DRAWS], -3, -2) for part in factors]
    keep, enter, by_state, by_source = (part.reshape(*part.shape[:-2], -1) for part in parts)
    variances = np.array([n * float(np.mean(W * W)) for W in by_gate])
    with np.errstate(all="ignore"):
        l2 = gradient_through_time(keep, enter, by_state, by_source, variances, not cell.keeps_h)
    line = fit_slope(l2)
    if line is None or not math.isfinite(line.slope):
        return None, "a length leaves the range of numbers"
    return line.slope, ""
