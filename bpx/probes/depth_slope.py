"""Gradient flow: how delta scales with depth, as one line through all hidden layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from bpx.engine.arrays import Values
from bpx.engine.numbers import power


@final
@dataclass(frozen=True)
class DepthSlope:
    """The line through log10 delta_l2 of the hidden layers, signed going backward, from output to input.

    Attributes
    ----------
    slope : float
        Decades a layer: negative vanishes, positive explodes; -inf where a delta is exactly zero.
    ratio : float
        The first layer over the last.
    residual : float
        Root mean square distance from the line, in decades.
    worst : int
        The layer (from 1) farthest from it.
    worst_residual : float
        By so many decades.
    zeros : tuple of int
        The layers whose delta is exactly zero, which the line leaves out.
    """

    slope: float
    ratio: float
    residual: float
    worst: int
    worst_residual: float
    zeros: tuple[int, ...]

    @property
    def factor(self) -> float:
        """Factor of ||delta||_2 per layer, going backward: 10**slope."""
        return power(10, self.slope)

    def metrics(self) -> dict[str, float]:
        """Return what a tracker keeps of it, by the names of metrics: nothing where the slope is infinite."""
        if not math.isfinite(self.slope):
            return {}
        found = {"slope": self.slope, "abs_slope": abs(self.slope), "factor": self.factor, "ratio": self.ratio}
        return {f"gradient_flow/{name}": value for name, value in found.items()}


def fit_slope(delta_l2: Values) -> DepthSlope | None:
    """Return the line through log10 of ``delta_l2`` (L,) from the first to the last hidden layer.

    None for fewer than two layers, and where the last layer's delta is zero, or any is not finite: nothing flows that
    could be followed.
    """
    l2 = np.asarray(delta_l2, float)
    L = len(l2)
    if L < 2 or not np.isfinite(l2).all() or not l2[-1] > 0:
        return None
    zeros = tuple(int(i) + 1 for i in np.flatnonzero(l2 == 0))
    if zeros:
        return DepthSlope(-math.inf, float(l2[0] / l2[-1]), math.nan, zeros[-1], -math.inf, zeros)
    logs = np.log10(l2)
    depth = np.arange(L) - (L - 1) / 2
    slope = -float(depth @ logs) / float(depth @ depth)
    off = logs - logs.mean() + slope * depth
    worst = int(np.argmax(np.abs(off)))
    return DepthSlope(
        slope, power(10, float(logs[0] - logs[-1])), float(np.sqrt(np.mean(off**2))), worst + 1, float(off[worst]), ()
    )


def forward_slope(activation_rms: Values) -> float | None:
    """Return the slope of log10 ``activation_rms`` (L,) over depth, signed going forward; None where there is none."""
    line = fit_slope(activation_rms)
    return None if line is None or not math.isfinite(line.slope) else -line.slope
