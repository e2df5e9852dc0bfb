"""What else could be tried, ranked by what theory predicts of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

from bpx.engine.activations import ACTIVATIONS
from bpx.theory.criticality import critical_sigma_w
from bpx.theory.prediction import Architecture, Prediction, predict

ALIKE = 5.0  # standard errors within which measured scales are those of an initializer


@final
@dataclass(frozen=True)
class Alternative:
    """One change: its override, the network it makes, the variance that starts it, the answer without finite width."""

    override: str
    architecture: Architecture
    q1: float
    answer: Prediction

    @property
    def factor(self) -> float:
        """Predicted factor of ||delta||_2 per layer, going backward."""
        assert self.answer.factor is not None
        return self.answer.factor


def alternatives(architecture: Architecture, q1: float) -> list[Alternative]:
    """Return what could be changed, one change each, by the predicted factor of ||delta||_2, the nearest to 1 first.

    Initializers, activations, layer normalization and shortcuts are tried on the same data, whose first
    pre-activation now has variance ``q1``. What changes nothing or has no prediction is left out.
    """
    if architecture.weight_std is None or not architecture.weight_std[0] > 0:
        return []
    bias2 = architecture.bias_variance
    found = []
    for text, other in _changes(architecture):
        assert other.weight_std is not None
        scale = other.weight_std[0] / architecture.weight_std[0]
        start = max(q1 - bias2, 1e-300) * scale * scale + other.bias_variance
        answer = predict(other, start, band=False)
        if answer.factor is not None and answer.factor > 0:
            found.append(Alternative(text, other, start, answer))
    return sorted(found, key=lambda a: abs(math.log(a.factor)))


def _changes(net: Architecture) -> Iterator[tuple[str, Architecture]]:
    for name, (std, orthogonal) in _initializers(net).items():
        if orthogonal != net.orthogonal or not _alike(net, std):
            yield f"initializer={name}", replace(net, weight_std=std, orthogonal=orthogonal)
    for name, make in ACTIVATIONS.items():
        if name != net.activation.name:
            yield f"activation={name}", replace(net, activation=make())
    if net.normalization != "layer":
        yield "normalization=layer", replace(net, normalization="layer")
    if not net.residual and len(set(net.hidden)) == 1:
        yield "model=residual_mlp", replace(net, residual=True)


def _alike(net: Architecture, std: tuple[float, ...]) -> bool:
    """Return whether the scales measured between the hidden layers are ``std``, but for the error of so many draws."""
    assert net.weight_std is not None
    inner = slice(1, -1)
    pairs = zip(net.weight_std[inner], std[inner], strict=True)
    variances = [0.5 / (a * b) for a, b in list(pairwise(net.fans))[inner]]  # of ln of a measured scale
    return abs(sum(math.log(s / t) for s, t in pairs)) < ALIKE * math.sqrt(sum(variances)) + 1e-9


def _initializers(net: Architecture) -> dict[str, tuple[tuple[float, ...], bool]]:
    pairs = list(zip(net.fans[:-1], net.fans[1:], strict=True))

    def fan_in(sigma_w: float) -> tuple[float, ...]:
        return tuple(sigma_w / math.sqrt(n_in) for n_in, _ in pairs)

    known = {
        "he_normal": (fan_in(math.sqrt(2)), False),
        "xavier_normal": (tuple(math.sqrt(2 / (n_in + n_out)) for n_in, n_out in pairs), False),
        "lecun_normal": (fan_in(1.0), False),
        "orthogonal": (tuple(1 / math.sqrt(max(pair)) for pair in pairs), True),
    }
    try:
        known["critical"] = (fan_in(critical_sigma_w(net.activation, net.bias_std, net.keep)), False)
    except ValueError:
        pass  # this activation has no edge of chaos here
    return known
