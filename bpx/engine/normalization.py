"""Normalization layers: each makes its input of unit scale, then scales (and shifts) by learned parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from bpx.engine.arrays import Array, DType
from bpx.engine.layer import Layer, Shape, rows
from bpx.engine.numbers import require_fraction, require_positive
from bpx.engine.parameters import Parameter, ParameterVector
from bpx.engine.parts import make

EPSILON = 1e-5
NEGLIGIBLE = 1e-3  # an epsilon beyond it changes what theory predicts


class Normalization(Layer):
    """A layer that makes its input of unit scale; ``eps`` is added to the variance, or to the mean square.

    A network holds a copy of it for every hidden layer, made before ``build``; the parameters of ``__init__`` are kept
    as attributes of the same names, so that a saved model can hold them.

    Attributes
    ----------
    method : str
        Its name.
    has_shift : bool
        Whether it learns a shift, which makes the bias of the Dense before it redundant.
    over_batch : bool
        Whether it takes its statistics over the batch in training, so that it needs two samples.
    acts_like : str or None
        ``batch``, ``layer`` or ``rms``: the normalization whose prediction theory makes of it; None: theory says that
        it has none.
    """

    kind = "norm"
    display_name = part = "normalization"
    method: ClassVar[str]
    has_shift: ClassVar[bool] = False
    over_batch: ClassVar[bool] = False
    acts_like: ClassVar[str | None] = None
    gamma: Parameter
    beta: Parameter
    xhat: Array
    term: Array

    def __init__(self, eps: float = EPSILON) -> None:
        super().__init__()
        require_positive("normalization.eps", eps)
        self.eps = eps

    @property
    def theory_name(self) -> str:
        """What theory calls it: ``acts_like``, unless there is none, or an epsilon that its predictions do not know."""
        if self.acts_like is not None and self.eps > NEGLIGIBLE:
            return f"{self.method} with eps {self.eps:g}"
        return self.acts_like or self.method

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare gamma, and beta where there is a shift."""
        self.gamma = parameters.declare(f"{name}.gamma", shape[-1:], weight=False, start=1.0)
        if self.has_shift:
            self.beta = parameters.declare(f"{name}.beta", shape[-1:], weight=False)
        return self.place(name, shape, shape)

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y, dx, the normalized input xhat, and a term of dx, all of the input's shape."""
        names = ("y", "dx", "xhat", *(() if self.over_batch else ("term",)))
        self.allocate_buffers(batch, dtype, **dict.fromkeys(names, self.shape))
        self._ones = np.ones(batch * math.prod(self.shape[:-1]), dtype)
        self._mean = np.full(self.n_in, 1 / self.n_in, dtype)  # x @ it is the mean over the units


@final
class BatchNorm(Normalization):
    """Normalize each unit over the batch: y = gamma (x - mean) / sqrt(var + eps) + beta.

    In evaluation mean and var are running averages, ``momentum`` being the weight of the old value; the
    running variance is the unbiased one. Backward in training, with xhat the normalized input and means over
    the batch: dx = gamma / sqrt(var + eps) * (dy - mean(dy) - xhat mean(dy xhat)).
    (Ioffe & Szegedy 2015, algorithms 1 and 2.)
    """

    method = acts_like = "batch"
    has_shift = over_batch = True

    def __init__(self, momentum: float = 0.9, eps: float = EPSILON) -> None:
        super().__init__(eps)
        require_fraction("normalization.momentum", momentum)
        self.momentum = momentum

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare gamma and beta, and start the running statistics."""
        self.running_mean, self.running_var = np.zeros(shape[-1]), np.ones(shape[-1])
        return super().build(name, shape, parameters)

    def statistics(self) -> dict[str, Array]:
        """Return the running mean and variance."""
        return {f"{self.name}.running_mean": self.running_mean, f"{self.name}.running_var": self.running_var}

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y from the batch's statistics in training, from the running ones in evaluation."""
        x, y, xhat = rows(x), rows(self.y), rows(self.xhat)
        n = len(x)
        self.train = train
        if train:
            ones = self._ones[:n]
            mean = np.dot(ones, x) / n
            np.subtract(x, mean, out=xhat)
            np.multiply(xhat, xhat, out=y)
            var = np.dot(ones, y) / n
            if not self.frozen:
                keep, unbias = self.momentum, n / max(n - 1, 1)
                self.running_mean *= keep
                self.running_mean += (1 - keep) * mean
                self.running_var *= keep
                self.running_var += (1 - keep) * unbias * var
        else:
            mean, var = self.running_mean.astype(x.dtype), self.running_var.astype(x.dtype)
            np.subtract(x, mean, out=xhat)
        self.inverse = 1 / np.sqrt(var + self.eps)
        xhat *= self.inverse
        np.multiply(xhat, self.gamma.value, out=y)
        y += self.beta.value
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute dgamma, dbeta and dx."""
        dy, dx, xhat = rows(dy), rows(self.dx), rows(self.xhat)
        n = len(dy)
        ones = self._ones[:n]
        np.multiply(dy, xhat, out=dx)
        np.dot(ones, dx, out=self.gamma.grad)
        np.dot(ones, dy, out=self.beta.grad)
        if self.train:
            np.multiply(xhat, self.gamma.grad / -n, out=dx)
            dx += dy
            dx -= self.beta.grad / n
            dx *= self.gamma.value * self.inverse
        else:
            np.multiply(dy, self.gamma.value * self.inverse, out=dx)
        return self.dx


@final
class LayerNorm(Normalization):
    """Normalize each sample over its units: y = gamma (x - mean) / sqrt(var + eps) + beta.

    Backward, with g = gamma dy and means over the units: dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps).
    (Ba et al. 2016.)
    """

    method = acts_like = "layer"
    has_shift = True

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y; training and evaluation are the same."""
        x, y, xhat = rows(x), rows(self.y), rows(self.xhat)
        np.subtract(x, np.dot(x, self._mean)[:, None], out=xhat)
        np.multiply(xhat, xhat, out=y)
        self.inverse = 1 / np.sqrt(np.dot(y, self._mean) + self.eps)[:, None]
        xhat *= self.inverse
        np.multiply(xhat, self.gamma.value, out=y)
        y += self.beta.value
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute dgamma, dbeta and dx."""
        dy, dx, xhat = rows(dy), rows(self.dx), rows(self.xhat)
        ones = self._ones[: len(dy)]
        np.multiply(dy, xhat, out=dx)
        np.dot(ones, dx, out=self.gamma.grad)
        np.dot(ones, dy, out=self.beta.grad)
        dx *= self.gamma.value
        along = np.dot(dx, self._mean)[:, None]
        np.multiply(dy, self.gamma.value, out=dx)
        dx -= np.dot(dx, self._mean)[:, None]
        dx -= np.multiply(xhat, along, out=rows(self.term))
        dx *= self.inverse
        return self.dx


@final
class RMSNorm(Normalization):
    """Scale each sample to unit root mean square: y = gamma x / sqrt(mean(x**2) + eps).

    Backward, with g = gamma dy and means over the units: dx = (g - xhat mean(g xhat)) / sqrt(mean(x**2) + eps).
    (Zhang & Sennrich 2019.)
    """

    method = acts_like = "rms"

    def forward(self, x: Array, train: bool) -> Array:
        """Compute y; training and evaluation are the same."""
        x, y, xhat = rows(x), rows(self.y), rows(self.xhat)
        np.multiply(x, x, out=y)
        self.inverse = 1 / np.sqrt(np.dot(y, self._mean) + self.eps)[:, None]
        np.multiply(x, self.inverse, out=xhat)
        np.multiply(xhat, self.gamma.value, out=y)
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute dgamma and dx."""
        dy, dx, xhat = rows(dy), rows(self.dx), rows(self.xhat)
        np.multiply(dy, xhat, out=dx)
        np.dot(self._ones[: len(dy)], dx, out=self.gamma.grad)
        dx *= self.gamma.value
        along = np.dot(dx, self._mean)[:, None]
        np.multiply(dy, self.gamma.value, out=dx)
        dx -= np.multiply(xhat, along, out=rows(self.term))
        dx *= self.inverse
        return self.dx


NORMALIZATIONS: dict[str, type[Normalization]] = {cls.method: cls for cls in (BatchNorm, LayerNorm, RMSNorm)}


def make_normalization(given: Normalization | str | Mapping[str, object] | None) -> Normalization | None:
    """Return a normalization as given, by its name, or by a mapping of its name and settings; None for ``none``.

    Raises ValueError where the name is unknown.
    """
    if given is None or given == "none":
        return None
    name = given.get("name") if isinstance(given, Mapping) else given
    if isinstance(name, str) and name not in NORMALIZATIONS:
        raise ValueError(f"unknown normalization {name!r}: known are none, {', '.join(NORMALIZATIONS)}")
    return make("normalization", NORMALIZATIONS, given)
