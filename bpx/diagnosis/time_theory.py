"""What theory says of the gradient through time of a recurrent layer after a pass: its slope, and a band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bpx.diagnosis.architecture import drawn_at_random, orthogonal
from bpx.engine.activations import Linear
from bpx.engine.arrays import Array, Values
from bpx.engine.network import Network
from bpx.engine.recurrent import Recurrence, Recurrent
from bpx.probes import fit_slope
from bpx.theory.gated import gradient_through_time
from bpx.theory.meanfield import MAX_SIGMA
from bpx.theory.through_time import drawn_band, recurrent_map

MAX_STEPS = 64  # of which theory follows a cell with gates: what it takes grows with their cube
MAX_DRAWS = 1024  # units and samples that it takes its means over
UNSETTLED_THRESHOLD = 0.8  # memory of lengths from which on theory's slope is rough
MAX_ROWS = 64  # samples that are sent back through drawn weights
ROWS_WORK, MAX_WORK = 2e7, 1e8  # multiplications of a draw for the band: of so many samples, and of one alone


class TimePrediction(NamedTuple):
    """Theory's slope, in decades a step; None and a ``reason`` where there is none; a ``caveat`` where it is rough."""

    slope: float | None
    reason: str = ""
    caveat: str = ""


def drives(net: Network, cell: Recurrent) -> Values:
    """Return the variance over the units of the input sums x W + b of a recurrent layer by step, (steps,)."""
    layers = list(net.layers())
    found: Values = np.asarray(layers[layers.index(cell) - 1].y, np.float64).var(axis=-1).mean(axis=0)
    return found


def input_std(net: Network, cell: Recurrent) -> float:
    """Return the standard deviation over the units of the input sums x W + b, all steps together."""
    return math.sqrt(float(drives(net, cell).mean()))


def predict_time(net: Network, cell: Recurrent, blank: int = 0) -> TimePrediction:
    """Return theory's slope for the gradient through time of ``cell``, from the state after ``blank`` steps on.

    Of a plain recurrence that of ``recurrent_map``, the drive of a step the variance of its input sums x W + b over
    units and samples. Of a cell with gates the slope of ``gradient_through_time``, with the gates of the last pass.
    """
    if cell.truncate is not None:
        return TimePrediction(None, "the gradient is truncated")
    by_gate = weights_by_gate(cell)
    if not all(map(drawn_at_random, by_gate)):
        return TimePrediction(None, "the recurrent weights are not random")
    if not isinstance(cell, Recurrence):
        return _gated_slope(cell, by_gate)
    sigma_w, drive = _rms(by_gate[0]) * math.sqrt(cell.n_out), drives(net, cell)[blank:]
    if not (0 < sigma_w <= MAX_SIGMA and drive.max(initial=0.0) <= MAX_SIGMA**2):
        return TimePrediction(None, "the recurrent weights are zero, or a length leaves the range of numbers")
    found = recurrent_map(cell.function, sigma_w, drive)
    if found is None:
        return TimePrediction(None, "a length leaves the range of numbers")
    unsettled = "lengths do not settle, so that the state is what the same weights have made of it at every step"
    rough = found.memory > UNSETTLED_THRESHOLD and not isinstance(cell.function, Linear)
    return TimePrediction(found.slope, caveat=unsettled if rough else "")


def time_band(cell: Recurrent, blank: int = 0) -> tuple[float, float] | None:
    """Return the slopes between which 95 % of networks of this width have theirs; None where it is not counted."""
    factors, by_gate, n = cell.step_factors(), weights_by_gate(cell), cell.n_out
    work = (cell.shape[0] - blank) * cell.gates * n * n
    rows = max(min(MAX_ROWS, len(cell.y), int(ROWS_WORK / work)), 1)
    alike = n > 1 and all(map(orthogonal, by_gate))
    if factors is None or work > MAX_WORK or (alike and cell.gates > 1):  # of those seven in ten had it right
        return None
    keep, enter, by_state, by_source = (np.moveaxis(part[..., :rows, blank:, :], -3, -2) for part in factors)
    stds = np.array([_rms(W) for W in by_gate])[:, None, None]

    def draw(rng: np.random.Generator) -> Array:
        W = rng.standard_normal((cell.gates, n, n))
        return stds * (np.linalg.qr(W)[0] * math.sqrt(n) if alike else W)

    with np.errstate(all="ignore"):
        return drawn_band(keep, enter, by_state, by_source, draw, not cell.keeps_h)


def weights_by_gate(cell: Recurrent) -> list[Array]:
    """Return the recurrent weights of each gate, (n, n), as float64."""
    return np.split(np.asarray(cell.W.value, np.float64), cell.gates, axis=1)


def _rms(W: Array) -> float:
    return math.sqrt(float(np.mean(W * W)))


def _gated_slope(cell: Recurrent, by_gate: Sequence[Array]) -> TimePrediction:
    """Return the slope of ``gradient_through_time`` over the last MAX_STEPS steps; the first units and samples do."""
    factors, n = cell.step_factors(), cell.n_out
    if factors is None:
        return TimePrediction(None, f"no formula is known for {cell.display_name}")
    rows, steps = max(MAX_DRAWS // n, 1), slice(-MAX_STEPS, None)
    parts = [np.moveaxis(part[..., :rows, steps, :MAX_DRAWS], -3, -2) for part in factors]
    keep, enter, by_state, by_source = (part.reshape(*part.shape[:-2], -1) for part in parts)
    variances = np.array([n * float(np.mean(W * W)) for W in by_gate])
    with np.errstate(all="ignore"):
        l2 = gradient_through_time(keep, enter, by_state, by_source, variances, not cell.keeps_h)
    line = fit_slope(l2)
    if line is None or not math.isfinite(line.slope):
        return TimePrediction(None, "a length leaves the range of numbers")
    return TimePrediction(line.slope)
