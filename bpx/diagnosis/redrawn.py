"""Networks drawn anew with one change, from a network alone: what ``bpx.diagnose`` tries its remedies on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from bpx.diagnosis.architecture import drawn_at_random, orthogonal
from bpx.diagnosis.remedies import Candidate
from bpx.diagnosis.trials import root_mean_square
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.arrays import Array
from bpx.engine.dense import Dense
from bpx.engine.initializers import INITIALIZERS, Initializer, LecunNormal, Orthogonal
from bpx.engine.lsuv import scale_to_unit_variance
from bpx.engine.models import build
from bpx.engine.network import Network
from bpx.engine.normalization import make_normalization
from bpx.engine.recurrent import Recurrent
from bpx.engine.spec import NetworkSpec
from bpx.theory import critical_sigma_w


@final
@dataclass(frozen=True)
class FromSpec:
    """Draw a network anew by its ``spec``, with one change and its last batch.

    Weights that the change does not touch are drawn at the scale that they have in ``net``; where they are neither
    random nor orthogonal, only another initializer draws networks.
    """

    net: Network

    def __call__(self, key: str, value: str) -> Candidate | None:
        """Return the change, worded as for ``python -m bpx.train``; None for scaling where the batch is standard."""
        assert self.net.last_batch is not None
        if key == "dataset.scaling" and _standard(self.net.last_batch[0]):
            return None
        return Candidate(f"{key}={value}", _draws(self.net, key, value))


def _draws(net: Network, key: str, value: str) -> Iterator[Network]:
    """Yield networks without end; none where the change makes no network."""
    assert net.last_batch is not None and net.spec is not None
    x, y = net.last_batch
    number = 0
    before = _with_weights(net)
    if key != "initializer" and not all(drawn_at_random(W) or orthogonal(W) for W in (at.W.value for at in before)):
        return
    try:
        new = build(_changed(net.spec, key, value))
        after = _with_weights(new)
        axes = 1 if key == "model" and any(isinstance(at, Recurrent) for at in before) else 2  # gates are columns
        if key != "initializer" and [at.W.shape[:axes] for at in after] != [at.W.shape[:axes] for at in before]:
            return
        biases = [_bias(dense) for dense in net.dense[:-1] if dense.b is not None]
        bias_std = root_mean_square(np.concatenate(biases)) if biases else 0.0
        initializer = _initializer(new, value, bias_std) if key == "initializer" else None
    except ValueError:
        return
    x = _standardized(x) if key == "dataset.scaling" else x
    while True:
        draw, masks = np.random.SeedSequence((len(net.dense), number)).spawn(2)
        rng = np.random.default_rng(draw)
        if initializer is None:
            for layer, like in zip(after, before, strict=True):
                _draw_like(layer, like, bias_std, rng)
        else:
            new.initialize(initializer, rng)
        new.bind(len(x), np.random.default_rng(masks))
        with np.errstate(all="ignore"):
            if initializer is not None and initializer.needs_data:
                scale_to_unit_variance(new, x)
            new.cost(x, y)
            new.backward()
        yield new
        number += 1


def _changed(spec: NetworkSpec, key: str, value: str) -> NetworkSpec:
    if key == "activation":
        return replace(spec, activation=ACTIVATIONS[value]())
    if key.startswith("dropout"):
        return replace(spec, dropout=0.0 if value == "none" else float(value))
    if key == "normalization":
        return replace(spec, normalization=make_normalization(value))
    if key.startswith("model."):
        return replace(spec, settings={**spec.settings, key.removeprefix("model."): _value(value)})
    if key == "model":
        name, *more = value.split()
        settings = {key: value for key, value in spec.settings.items() if key == "loss_at"}  # as the targets are
        settings |= {own.removeprefix("model."): _value(number) for own, _, number in (w.partition("=") for w in more)}
        return replace(spec, model=name, settings=settings)
    return spec


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _initializer(net: Network, name: str, bias_std: float) -> Initializer:
    if name != "critical":
        return INITIALIZERS[name](bias_std=bias_std)
    assert net.spec is not None
    sigma_w = critical_sigma_w(net.spec.activation, bias_std, 1 - net.spec.dropout)
    return LecunNormal(sigma_w=sigma_w, bias_std=bias_std)


def _with_weights(net: Network) -> list[Dense | Recurrent]:
    return [layer for layer in net.layers() if isinstance(layer, (Dense, Recurrent))]


def _bias(dense: Dense) -> Array:
    """Return the drawn part of a Dense's bias (n_out,)."""
    assert dense.b is not None
    return np.asarray(dense.b.value - np.asarray(dense.bias_start)) if len(dense.bias_start) else dense.b.value


def _draw_like(layer: Dense | Recurrent, like: Dense | Recurrent, bias_std: float, rng: np.random.Generator) -> None:
    """Draw a layer at the scale of another one, orthogonal where that one is; recurrent weights by gates.

    Between layers of as many inputs but other gates, at one scale.
    """
    if isinstance(layer, Recurrent) and layer.recurrent != "same":
        return layer.draw(LecunNormal(), rng)  # which it has no use for
    gates, factor = 1, 1.0
    if isinstance(layer, Recurrent) and isinstance(like, Recurrent):
        gates, factor = layer.gates, layer.scale / like.scale
    if layer.W.shape == like.W.shape:
        pairs = zip(*(np.split(at.W.value, gates, axis=1) for at in (layer, like)), strict=True)
    else:
        pairs = zip([layer.W.value], [like.W.value], strict=True)
    for W, old in pairs:
        if orthogonal(old) and W.shape == old.shape:
            Orthogonal()(rng, W)
            W *= factor * root_mean_square(old) / root_mean_square(W)
        else:
            W[...] = rng.standard_normal(W.shape) * (factor * root_mean_square(old))
    if isinstance(layer, Dense) and layer.b is not None:
        layer.b.value[...] = rng.standard_normal(layer.b.shape) * bias_std
        if len(layer.bias_start):
            layer.b.value += np.asarray(layer.bias_start, layer.b.value.dtype)
    return None


def _standard(x: Array) -> bool:
    """Return whether every feature may have mean 0 and variance 1, by five standard errors, or is zero."""
    give, std = 5 / np.sqrt(len(x)), x.std(axis=0, dtype=np.float64)
    mean = np.abs(x.mean(axis=0, dtype=np.float64))
    return bool((((mean <= give) & (np.abs(std - 1) <= give)) | ((mean == 0) & (std == 0))).all())


def _standardized(x: Array) -> Array:
    std = x.std(axis=0, dtype=np.float64)
    std[std == 0] = 1
    return np.asarray((x - x.mean(axis=0, dtype=np.float64)) / std, x.dtype)
