"""Losses: the cost J, the batch mean of J_i, from the network's last pre-activation z.

``forward`` returns J and ``backward`` returns dJ/dz (batch, n_out), that is delta / batch.
Class targets are integers (batch,); other targets are numbers (batch, n_out), or (batch,) where
n_out is 1. Where there is a loss at every position of a sample (at every step), its rows are these positions, and J_i
is the mean over them; targets are (batch, *positions) and (batch, *positions, n_out), or all of a sample in a row.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self, final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS, _sigmoid
from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.layer import Shape, rows
from bpx.engine.numbers import require, require_fraction


class Loss(ABC):
    """The mean cost over a batch, its gradient, and what the outputs mean."""

    name: ClassVar[str]
    classifies: bool = True
    positions: Shape = ()
    dz: Array

    def bind(self, batch: int, n_out: int, dtype: DType, positions: Shape = ()) -> None:
        """Allocate buffers for up to ``batch`` samples, with a row for each of the ``positions``."""
        self.n_out, self.positions = n_out, positions
        n_rows = batch * math.prod(positions)
        self._dz = zeros((n_rows, n_out), dtype)
        self._eye = np.eye(n_out, dtype=dtype)
        self._first = np.arange(n_rows) * n_out  # where each row starts in a flat view
        self.set_batch_size(batch)

    def set_batch_size(self, n: int) -> None:
        """Use the first ``n`` samples of every buffer."""
        self.n = n * math.prod(self.positions)
        self.dz = self._dz[: self.n]
        self.flat = self.dz.reshape(-1)
        self.first = self._first[: self.n]

    @property
    def dx(self) -> Array:
        """dJ/dz (batch, *positions, n_out) under the name that layers have for the gradient at their input."""
        return self.dz.reshape(-1, *self.positions, self.n_out) if self.positions else self.dz

    def cost(self, z: Array, y: Array) -> float:
        """Return J of outputs ``z`` (batch, *positions, n_out) and targets with the same positions.

        Raises ValueError where the targets do not fit.
        """
        if not self.positions:
            return self.forward(z, y)
        k = 1 + len(self.positions)
        if y.shape[1:k] != self.positions and y.size == z.size:
            y = y.reshape(z.shape)
        if y.shape[1:k] != self.positions:
            raise ValueError(f"targets must be ({len(z)}, {_listed(self.positions)}), one a step, got {y.shape}")
        return self.forward(rows(z), y.reshape(-1, *y.shape[k:]))

    def replica(self) -> Self:
        """Return a loss of the same kind with no buffers yet."""
        return copy.copy(self)

    def class_labels(self, y: Array) -> Array:
        """Return the classes (n,), from integers or one-hot rows; raises ValueError where one is none."""
        if y.shape == (self.n, self.n_out) and self.n_out > 1:
            y = labels(y)
        if y.shape != (self.n,) or y.dtype.kind not in "iu":
            raise ValueError(f"labels must be integers of shape ({self.n},), got {y.dtype} of shape {y.shape}")
        low, high = np.minimum.reduce(y), np.maximum.reduce(y)
        if low < 0 or high >= self.n_out:  # an index that wraps around would train on another class
            raise ValueError(f"labels must be from 0 to {self.n_out - 1}, got {low if low < 0 else high}")
        return y

    def targets(self, y: Array) -> Array:
        """Return the targets (n, n_out): labels as one-hot rows, numbers as they are; raises ValueError."""
        if y.ndim == 1 and self.n_out == 1 and not self.classifies:
            y = y[:, None]
        if y.ndim == 1:
            return self._eye[self.class_labels(y)]
        if y.shape != (self.n, self.n_out):
            raise ValueError(f"targets must be of shape ({self.n}, {self.n_out}), got {y.shape}")
        return np.asarray(y, self.dz.dtype)

    @abstractmethod
    def forward(self, z: Array, y: Array) -> float:
        """Return the mean cost J of outputs ``z`` (batch, n_out); raises ValueError where targets ``y`` do not fit."""

    @abstractmethod
    def backward(self) -> Array:
        """Return dJ/dz (batch, n_out) of the last forward."""

    @abstractmethod
    def predict(self, z: Array) -> Array:
        """Return probabilities, or the outputs of a regression, as a new array (batch, n_out)."""


@final
@dataclass(eq=False)
class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of the softmax: J_i = log sum_k exp z_k - sum_k t_k z_k, delta = softmax(z) - t.

    t is one-hot, smoothed to (1 - s) t + s / K by ``label_smoothing`` s (Szegedy et al. 2016, section 7).
    """

    name: ClassVar[str] = "softmax_cross_entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_fraction("loss.label_smoothing", self.label_smoothing)

    def forward(self, z: Array, y: Array) -> float:
        """Shift by the row's maximum, so that no exponential overflows."""
        p, s = self.dz, self.label_smoothing
        np.subtract(z, np.maximum.reduce(z, axis=1, keepdims=True), out=p)
        self.index = self.first + self.class_labels(y)
        target = np.add.reduce(self.flat.take(self.index, mode="clip"))
        if s:
            target = (1 - s) * target + s / self.n_out * np.add.reduce(p, axis=None)
        np.exp(p, out=p)
        total = np.add.reduce(p, axis=1, keepdims=True)
        p /= total
        return float(np.add.reduce(np.log(total), axis=None) - target) / self.n

    def backward(self) -> Array:
        """Return (softmax(z) - t) / batch."""
        s = self.label_smoothing
        self.flat[self.index] -= 1 - s
        if s:
            self.dz -= s / self.n_out
        self.dz *= 1 / self.n
        return self.dz

    def predict(self, z: Array) -> Array:
        """Return softmax(z)."""
        p: Array = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return p


@final
@dataclass(eq=False)
class SigmoidCrossEntropy(Loss):
    """Cross-entropy of each output by itself: J_i = sum_k log(1 + exp z_k) - t_k z_k, delta = sigmoid(z) - t.

    (Bishop 2006, section 5.2.)
    """

    name: ClassVar[str] = "sigmoid_cross_entropy"

    def forward(self, z: Array, y: Array) -> float:
        """Use log(1 + exp z) = max(z, 0) + log(1 + exp(-abs(z))), which never overflows."""
        t = self.targets(y)
        cost = np.maximum(z, 0) - t * z + np.log1p(np.exp(-np.abs(z)))
        _sigmoid(z, self.dz)
        self.dz -= t
        return float(cost.sum()) / self.n

    def backward(self) -> Array:
        """Return (sigmoid(z) - t) / batch."""
        self.dz *= 1 / self.n
        return self.dz

    def predict(self, z: Array) -> Array:
        """Return sigmoid(z), one probability an output."""
        p = np.empty_like(z)
        _sigmoid(z, p)
        return p


@final
@dataclass(eq=False)
class MeanSquaredError(Loss):
    """Half the squared distance: J_i = 1/2 sum_k (a_k - t_k)**2, delta = (a - t) phi'(z), a = phi(z).

    (Rumelhart et al. 1986, eq. 3.)

    phi is ``output``: linear, sigmoid, tanh or relu.
    """

    name: ClassVar[str] = "mean_squared_error"
    classifies = False
    output: str = "linear"
    OUTPUTS: ClassVar[tuple[str, ...]] = ("linear", "sigmoid", "tanh", "relu")

    def __post_init__(self) -> None:
        require(self.output in self.OUTPUTS, "loss.output", f"one of {', '.join(self.OUTPUTS)}", self.output)
        self.function: ActivationFunction = ACTIVATIONS[self.output]()

    def forward(self, z: Array, y: Array) -> float:
        """Compute a and its distance from the targets."""
        a = self.predict(z)
        self.function.df(z, a, self.dz)
        a -= self.targets(y)
        self.dz *= a
        return 0.5 * float(np.vdot(a, a)) / self.n

    def backward(self) -> Array:
        """Return (a - t) phi'(z) / batch."""
        self.dz *= 1 / self.n
        return self.dz

    def predict(self, z: Array) -> Array:
        """Return a = phi(z)."""
        a = np.empty_like(z)
        self.function.f(z, a)
        return a


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def labels(targets: Array) -> Array:
    """Return the classes (n,) of one-hot ``targets`` (n, classes); raises ValueError where a row is none."""
    if not (((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all()):
        raise ValueError("labels must be integers, or one-hot rows with one 1 and zeros beside it")
    return np.asarray(targets.argmax(axis=1))


LOSSES: dict[str, type[Loss]] = {cls.name: cls for cls in (SoftmaxCrossEntropy, SigmoidCrossEntropy, MeanSquaredError)}


def default_loss(classifies: bool = True, label_smoothing: float = 0.0) -> Loss:
    """Return the loss of a task: softmax cross-entropy for classes, half the squared distance for numbers."""
    if not classifies and label_smoothing:
        raise ValueError("loss.label_smoothing is for classes, and the targets are numbers")
    return SoftmaxCrossEntropy(label_smoothing) if classifies else MeanSquaredError()


def accuracy(outputs: Array, labels: Array) -> float:
    """Return the share of ``outputs`` (n, ..., n_out) whose largest entry is at the label; labels (n, ...)."""
    return float(np.mean(outputs.argmax(axis=-1) == labels)) if len(labels) else math.nan
