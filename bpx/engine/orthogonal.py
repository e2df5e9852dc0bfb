"""Initializers made of orthogonal matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from bpx.engine.arrays import Array
from bpx.engine.initializer import Initializer, Scaled
from bpx.engine.numbers import require


@final
class Orthogonal(Scaled):
    """Draw W from the orthogonal matrices, times gain: every singular value is gain (Saxe et al. 2014, section 3).

    Where n_in and n_out differ, the rows or the columns are orthonormal, whichever are fewer.
    """

    name = "orthogonal"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Decompose a Gaussian matrix, W = gain Q; fixing the signs of R makes Q uniform (Mezzadri 2007)."""
        n_in, n_out = W.shape
        Q, R = np.linalg.qr(rng.standard_normal((max(n_in, n_out), min(n_in, n_out))))
        Q *= np.sign(np.diag(R))
        W[...] = (Q if n_in >= n_out else Q.T) * self.scale

    @property
    def scale(self) -> float:
        """The singular value of W: sigma_w or gain."""
        return self.effective_gain if self.sigma_w is None else self.sigma_w

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return the root mean square of an entry, scale / sqrt(max(n_in, n_out))."""
        return self.scale / math.sqrt(max(n_in, n_out))


def _orthogonal(like: Scaled) -> Orthogonal:
    return Orthogonal(gain=like.gain, sigma_w=like.sigma_w)


@final
class DeltaOrthogonal(Scaled):
    """Draw kernels that are orthogonal at their centre and zero elsewhere, and other weights as Orthogonal.

    Every pixel's channels are rotated, none is mixed with another: a linear network preserves the length of every
    image, and of every gradient where the channels do not grow. The kernel must be odd, and the channels must not
    shrink. (Xiao et al. 2018, section 3.3 and algorithm 1.)
    """

    name = "delta_orthogonal"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw an orthogonal W."""
        _orthogonal(self)(rng, W)

    def of_kernel(self, side: int) -> Initializer:
        """Return the one of kernels of this side."""
        return self.variant(_DeltaOrthogonalKernel, side=side)


@dataclass(frozen=True, kw_only=True)
class _DeltaOrthogonalKernel(Scaled):
    """The kernels of DeltaOrthogonal."""

    name: ClassVar[str] = "delta_orthogonal"
    side: int

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        channels = len(W) // self.side**2
        require(self.side % 2 == 1, "initializer=delta_orthogonal: model.kernel", "odd", self.side)
        require(
            channels <= W.shape[1],
            "initializer=delta_orthogonal: channels",
            f"at least {channels} after it",
            W.shape[1],
        )
        W.fill(0)
        centre = self.side**2 // 2 * channels
        _orthogonal(self)(rng, W[centre : centre + channels])


@final
class LSUV(Scaled):
    """Layer-sequential unit variance: orthogonal, then every layer scaled until its output has variance 1 on data.

    (Mishkin & Matas 2016, algorithm 1; the scaling is ``bpx.engine.lsuv.scale_to_unit_variance``.)
    """

    name = "lsuv"
    needs_data = True

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw an orthogonal W."""
        _orthogonal(self)(rng, W)


@final
class LooksLinear(Scaled):
    """Mirrored orthogonal blocks, with which a ReLU network computes a linear map at the start.

    The first matrix is [V, -V], those between [[V, -V], [-V, V]], the last [[V], [-V]], V orthogonal times gain: the
    units come in pairs relu(u), relu(-u), whose difference is u. Hidden widths must be even. (Balduzzi et al. 2017,
    section 4.)
    """

    name = "looks_linear"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Fill W, mirrored on every side of even length."""
        _mirrored(_orthogonal(self), rng, W, *(n % 2 == 0 for n in W.shape))

    def of_layer(self, i: int, n: int) -> Initializer:
        """Return the one of this matrix: not mirrored towards the data, nor towards the outputs."""
        return self.variant(_Mirrored, inputs=i > 0, outputs=i < n - 1)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return the root mean square of an entry between two hidden layers."""
        return _orthogonal(self).scale / math.sqrt(max(n // 2 if n % 2 == 0 else n for n in (n_in, n_out)))


@dataclass(frozen=True, kw_only=True)
class _Mirrored(Scaled):
    """One matrix of LooksLinear."""

    name: ClassVar[str] = "looks_linear"
    inputs: bool
    outputs: bool

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        for n, mirrored in zip(W.shape, (self.inputs, self.outputs), strict=True):
            require(not (mirrored and n % 2), "initializer=looks_linear: hidden widths", "even", n)
        _mirrored(_orthogonal(self), rng, W, self.inputs, self.outputs)


def _mirrored(draw: Initializer, rng: np.random.Generator, W: Array, inputs: bool, outputs: bool) -> None:
    n_in, n_out = len(W) // (1 + inputs), W.shape[1] // (1 + outputs)
    V = np.empty((n_in, n_out))
    draw(rng, V)
    V = np.hstack([V, -V]) if outputs else V
    W[...] = np.vstack([V, -V]) if inputs else V
