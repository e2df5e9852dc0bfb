"""The cause of a vanishing or exploding gradient, by trial: each part taken out alone, one pass, the same batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import final

import numpy as np

from bpx.diagnosis.architecture import branch_scale
from bpx.diagnosis.observation import hidden_slope
from bpx.engine.activation import ActivationFunction
from bpx.engine.arrays import Array
from bpx.engine.blas import norm
from bpx.engine.dense import Dense
from bpx.engine.layer import Layer
from bpx.engine.network import Network
from bpx.engine.residual import Residual
from bpx.probes.probe import WeightLayer, main_path, weight_layers
from bpx.theory import critical_sigma_w
from bpx.theory.gaussian import slope_moment

CAUSE_THRESHOLD = (
    0.3  # of |slope|: what a part must take away with it, to be a cause; of three alike, each takes a third
)
JOINT_CAUSE_THRESHOLD = 0.9  # of what the best takes away: named beside it
UNIT_SCALE_RATIO = 2.0  # inputs whose root mean square is 1 within this factor are not rescaled
Change = Callable[[Network, Array], Array]  # changes a replica and returns the inputs that it gets


@final
@dataclass(frozen=True)
class Causes:
    """What the trials showed: ``parts`` to blame, the best first, and log10 of the factor with each part taken out.

    ``slopes`` is NaN where a replica let nothing finite through.
    """

    parts: tuple[str, ...]
    slopes: dict[str, float]


def find_causes(net: Network, slope: float) -> Causes:
    """Take each part out of a replica of ``net``, whose last pass gave ``slope``, and make one pass with its batch.

    weights: rescaled to what the activation needs (``needed_gains``); dropout, normalization, shortcuts: removed;
    inputs: rescaled to a root mean square of 1. The part whose removal brings the factor nearest to 1 is the cause,
    and with it those that take away at least 90 % of what it does; none where the best leaves 70 % of the slope.
    Where there is dropout the slope is that of a replica with the masks that the trials have.
    """
    if any(layer.part == "dropout" for layer in net.layers()) and math.isfinite(slope):
        again = _slope(net, lambda replica, x: x)
        slope = again if math.isfinite(again) else slope
    slopes = {part: _slope(net, change) for part, change in _changes(net)}
    return select_causes(
        slope, slopes, len(main_path(weight_layers(net))), float(np.finfo(net.dtype).smallest_subnormal)
    )


def select_causes(slope: float, slopes: dict[str, float], L: int, smallest: float) -> Causes:
    """Return the parts to blame for ``slope`` over ``L`` hidden layers, given the slope with each part taken out.

    ``smallest`` is the smallest positive number of the network's dtype: a delta that is exactly zero has no slope.
    """
    left = {part: abs(s) for part, s in slopes.items() if math.isfinite(s)}
    if not left:
        return Causes((), slopes)
    most = -math.log10(smallest) / (L - 1)
    before = min(max(abs(slope), 1e-12), most)
    healed = {part: 1 - s / before for part, s in sorted(left.items(), key=lambda item: item[1])}
    best = max(healed.values())
    parts = tuple(part for part, h in healed.items() if h >= max(CAUSE_THRESHOLD, JOINT_CAUSE_THRESHOLD * best))
    return Causes(parts, slopes)


def gains(net: Network) -> tuple[float, ...]:
    """Return what every Dense after the first, but the last, is drawn to do to the length of delta.

    RMS(W) * sqrt(n_in), which is sigma_w: E[norm(W delta)**2] = n_in Var(W) norm(delta)**2.
    """
    return tuple(_gain(dense) for dense in net.dense[1:-1])


def needed_gains(net: Network) -> tuple[float, ...]:
    """Return the gain of every hidden Dense, the first one's too, that keeps delta: sigma_w on the edge of chaos.

    For the activation and the biases alone: dropout and normalization are parts of their own. Where an activation
    has no edge, 1 / sqrt(E[phi'(z)**2]) for z ~ N(0, 1). In the branches of B residual blocks the same over
    sqrt(B), with which the block's factor sqrt(1 + gain**2 ...) adds up to sqrt(e) at most, whatever the depth; a scale
    of the branch counts towards it, and the layers of a branch share it.
    """
    blocks = [block for block in net.blocks if isinstance(block, Residual)]
    shared: dict[int, float] = {}
    for block in blocks:
        inside = [layer for layer in block.layers() if isinstance(layer, Dense)]
        over = math.sqrt(len(blocks)) * (abs(branch_scale(block.layers())) or 1.0)
        shared |= {id(dense): over ** (1 / len(inside)) for dense in inside}
    return tuple(_needed(place) / shared.get(id(place.dense), 1.0) for place in weight_layers(net)[:-1])


def geometric_mean(factors: Sequence[float]) -> float | None:
    """Return the geometric mean of ``factors``, None where there are none or one is no positive number."""
    if not factors or not all(0 < factor < math.inf for factor in factors):
        return None
    return math.exp(sum(map(math.log, factors)) / len(factors))


def without(net: Network, part: str) -> None:
    """Remove a ``part`` of ``net``: dropout, normalization or shortcuts, of which the blocks' branches are left."""

    def kept(layers: Sequence[Layer]) -> list[Layer]:
        found: list[Layer] = []
        for layer in layers:
            layer.branch = kept(layer.branch)
            found += layer.branch if layer.part == part else [layer]
        return found

    net.blocks = kept(net.blocks)


def _changes(net: Network) -> Iterator[tuple[str, Change]]:
    """Yield the parts that ``net`` has, and what takes them out."""
    yield "weights", _rescale_weights
    for part in sorted({layer.part for layer in net.layers()} - {""}):
        yield part, partial(_without, part)
    assert net.last_batch is not None
    if not 1 / UNIT_SCALE_RATIO < root_mean_square(net.last_batch[0]) < UNIT_SCALE_RATIO:
        yield "inputs", _rescale_inputs


def _slope(net: Network, change: Change) -> float:
    assert net.last_batch is not None
    x, y = net.last_batch
    replica = net.replica(len(x))
    with np.errstate(all="ignore"):
        replica.cost(change(replica, x), y)
        replica.backward()
        line = hidden_slope(replica)
    return math.nan if line is None else line.slope


def _without(part: str, net: Network, x: Array) -> Array:
    without(net, part)
    return x


def _rescale_weights(net: Network, x: Array) -> Array:
    net.parameters.detach()
    for dense, need in zip(net.dense, needed_gains(net), strict=False):
        if (now := _gain(dense)) > 0:
            dense.W.value *= need / now
    return x


def _rescale_inputs(net: Network, x: Array) -> Array:
    rms = root_mean_square(x)
    return np.asarray(x / rms, x.dtype) if rms > 0 else x


def root_mean_square(x: Array) -> float:
    """Return the root mean square of ``x``, whatever its range."""
    return norm(np.ascontiguousarray(x).reshape(-1)) / math.sqrt(x.size)


def _gain(dense: Dense) -> float:
    return root_mean_square(dense.W.value) * math.sqrt(dense.n_in)


def _needed(place: WeightLayer) -> float:
    if place.activation is None:
        return 1.0
    bias = 0.0 if place.dense.b is None else root_mean_square(place.dense.b.value)
    return needed_gain(place.activation.function, float(f"{bias:.2g}"))


@lru_cache(maxsize=256)
def needed_gain(function: ActivationFunction, sigma_b: float = 0.0) -> float:
    """Return the critical sigma_w, or what keeps delta at unit scale where there is none."""
    try:
        return critical_sigma_w(function, sigma_b)
    except ValueError:
        return 1 / math.sqrt(slope_moment(function, 1.0))
