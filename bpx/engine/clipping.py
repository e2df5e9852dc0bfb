"""Clipping whose limit follows the weights, or the gradients seen so far."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.blas import norm
from bpx.engine.numbers import require_positive
from bpx.engine.parameters import Parameter, ParameterVector
from bpx.engine.transforms import Transform

MIN_NORM = 1e-3  # of the weights that a gradient is compared with: those that start at zero can move
DECAY = 0.97  # of the running statistics
N_FIRST = 25  # steps whose plain statistics they start with


@final
class ClipUnits(Transform):
    """Scale each unit's gradient down to ``limit`` times its incoming weights: g limit max(|w|, 1e-3) / |g|.

    A unit is a column of W; a bias or a normalization's vector counts as one unit. The last weight layer is left as it
    is. ``clipped_share`` is the share of units that the last step clipped. (Brock et al. 2021, section 4.1.)
    """

    clips = True

    def __init__(self, limit: float) -> None:
        require_positive("optimizer.clip_units", limit)
        self.limit, self.clipped_share = limit, math.nan

    def bind(self, parameters: ParameterVector) -> None:
        """Note the parameters of the last weight layer."""
        last = [p.name for p in parameters if p.is_weight][-1].rpartition(".")[0]
        self.spared = {p.name for p in parameters if p.name.rpartition(".")[0] == last}

    def coefficients(self, p: Parameter, g: Array) -> Array:
        """Return what multiplies each unit's part of ``g``, the gradient of ``p``: at most 1, shape (n_out,) or ()."""
        if p.name in self.spared:
            return np.ones(())
        axes = tuple(range(len(p.shape) - 1)) if p.is_weight else None
        w, g = np.asarray(p.value, np.float64), np.asarray(g, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            w_norm, g_norm = (np.sqrt(np.sum(a * a, axis=axes)) for a in (w, g))
            found: Array = np.minimum(1.0, self.limit * np.maximum(w_norm, MIN_NORM) / np.maximum(g_norm, 1e-300))
            return found

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return the gradient, each unit's part scaled."""
        if factor != 1:
            u *= factor
        hit = total = 0
        for p, g in zip(self.parameters, self.parameters.views(u).values(), strict=True):
            if p.name not in self.spared:
                coefficients = self.coefficients(p, g)
                g *= coefficients.astype(u.dtype)
                hit, total = hit + int(np.count_nonzero(coefficients < 1)), total + coefficients.size
        self.clipped_share = hit / total if total else math.nan
        return u, 1.0


@final
class ClipZScore(Transform):
    """Scale the whole gradient down where its norm is ``limit`` standard deviations above its running mean.

    z = (|g| - mean) / std; beyond the limit the norm becomes mean + (limit**2 / z) std, so that larger outliers are
    scaled down further. Mean and variance run with decay 0.97 over the norms after clipping; those of the first 25
    steps, which are not clipped, start them. ``coefficient`` is the last factor, ``n_clipped`` counts the steps where
    it was below 1. (Kumar et al. 2025, ZClip, section 3.)
    """

    rescales_only = clips = True
    state_fields = ("coefficient", "n_clipped", "n", "mean", "variance")

    def __init__(self, limit: float) -> None:
        require_positive("optimizer.clip_zscore", limit)
        self.limit, self.coefficient, self.n_clipped = limit, 1.0, 0
        self.n, self.mean, self.variance = 0, 0.0, 0.0

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return the gradient with its factor lowered: no pass over the vector but the norm's."""
        size, self.coefficient = norm(u) * abs(factor), 1.0
        if not math.isfinite(size):
            return u, factor
        kept = size
        if self.n < N_FIRST:
            weight = 1 / (self.n + 1)
        else:
            weight, std = 1 - DECAY, math.sqrt(self.variance)
            if size - self.mean > self.limit * std > 0:
                kept = self.mean + self.limit**2 * std * std / (size - self.mean)
                self.coefficient = kept / size
                self.n_clipped += 1
        self.n += 1
        before, self.mean = self.mean, self.mean + weight * (kept - self.mean)
        if self.n <= N_FIRST:  # the plain variance of the first norms (Welford 1962)
            self.variance += weight * ((kept - before) * (kept - self.mean) - self.variance)
        else:
            self.variance += weight * ((kept - self.mean) ** 2 - self.variance)
        return u, factor * self.coefficient
