"""What one backward pass shows of a network: the scales of delta, the gains of the operations, saturation."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from bpx.engine.arrays import Values
from bpx.engine.blas import norm
from bpx.engine.network import Network
from bpx.probes import DepthSlope, ProbeContext, between_hidden, fit_slope, forward_slope
from bpx.probes.gains import Gains
from bpx.probes.probe import main_path, weight_layers
from bpx.probes.scales import QUANTITIES, Scales


@final
@dataclass(frozen=True)
class Observation:
    """One pass through a network of L hidden layers, those inside residual branches not counted.

    Attributes
    ----------
    delta_l2 : ndarray (L,)
        ||delta||_2 of the hidden layers, from the input on.
    depth_slope : DepthSlope or None
        The line through them, where there is one.
    forward_slope : float or None
        Slope of log10 of the RMS of a per layer, going forward.
    gains : dict of str to float
        Mean log10 of the backward gain per layer, by kind of operation, between the first and the last hidden delta; a
        residual block is one operation.
    saturation : float
        Share of saturated (sample, unit), mean over the hidden layers.
    blocked_at : (str, str) or None
        Layer and kind of the first operation, from the output on, that let no gradient through.
    finite : bool
        Whether every delta is finite.
    loss_gradient_nonzero : bool
        Whether any delta comes from the loss.
    output_gain : float
        ||delta||_2 of the last hidden layer over that of the output; NaN where there is none of either.
    update_ratios : tuple of float
        ||dW|| / ||W|| of every weight layer in the first step; empty where no step is proposed.
    dtype : str
        Of the network.
    layers : tuple of str
        Names of the hidden layers; empty where they are layer_01, layer_02, ...
    """

    delta_l2: Values
    depth_slope: DepthSlope | None
    forward_slope: float | None
    gains: dict[str, float]
    saturation: float
    blocked_at: tuple[str, str] | None
    finite: bool
    loss_gradient_nonzero: bool
    output_gain: float = math.nan
    update_ratios: tuple[float, ...] = ()
    dtype: str = "float32"
    layers: tuple[str, ...] = ()

    def name(self, i: int) -> str:
        """Return the name of hidden layer ``i``, from 0."""
        return self.layers[i] if self.layers else f"layer_{i + 1:02d}"


def observe(net: Network, update_ratios: Iterable[float] = ()) -> Observation:
    """Measure ``net`` from the buffers that a cost and a backward pass have left, and add ``update_ratios``."""
    context = ProbeContext(net)
    scales, gains = Scales(context), Gains(context)
    scales.on_gradient(0)
    gains.on_gradient(0)
    on_path = main_path(scales.layers)
    hidden, outer = scales.table[on_path], scales.table[-1]
    l2, output = hidden[:, QUANTITIES.index("delta_l2")].copy(), float(outer[QUANTITIES.index("delta_l2")])
    saturation = scales.table[:-1, QUANTITIES.index("saturation")]
    blocked_at = next(
        (key[:2] for key, g in zip(gains.keys, gains.values, strict=True) if g == 0 and key[1] != "branch"), None
    )
    return Observation(
        delta_l2=l2,
        depth_slope=fit_slope(l2),
        forward_slope=forward_slope(hidden[:, QUANTITIES.index("activation_rms")]),
        gains=_by_kind(net, gains),
        saturation=float(np.nanmean(saturation)) if np.isfinite(saturation).any() else math.nan,
        blocked_at=blocked_at,
        loss_gradient_nonzero=output != 0,
        finite=bool(np.isfinite(scales.table[:, QUANTITIES.index("delta_l2")]).all()),
        output_gain=float(l2[-1]) / output if len(l2) and output > 0 else math.nan,
        update_ratios=tuple(update_ratios),
        dtype=np.dtype(net.dtype).name,
        layers=tuple(scales.layers[i].name for i in on_path),
    )


def hidden_slope(net: Network) -> DepthSlope | None:
    """Return the line through delta of the hidden layers, from the buffers that a backward pass has left."""
    root = math.sqrt(len(net.dense[0].y))  # the buffers hold delta / batch
    layers = weight_layers(net)
    return fit_slope(
        np.array([norm(np.ascontiguousarray(layers[i].next.dx).reshape(-1)) * root for i in main_path(layers)])
    )


def _by_kind(net: Network, gains: Gains) -> dict[str, float]:
    """Return the mean log10 gain of each kind of top-level operation, over those that let something through.

    One of each kind stands in a layer, so that the means add up to the slope between the ends; where delta underflows,
    the layers after it have no gain and count neither in the sum nor in the mean.
    """
    within = between_hidden(net)
    logs: dict[str, list[float]] = defaultdict(list)
    for (_, kind, quantity, index), gain in zip(gains.keys, gains.values.tolist(), strict=True):
        if quantity == "backward_gain" and index in within and gain > 0:
            logs[kind].append(math.log10(gain))
    return {kind: sum(found) / len(found) for kind, found in logs.items()}
