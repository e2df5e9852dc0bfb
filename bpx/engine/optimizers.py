"""Optimizers: chains of in-place transforms of the flat gradient.

``propose`` turns the gradient into the step's direction u and a scalar factor, ``apply`` makes the step,
theta += factor * u. Between the two a probe can read theta, u and factor of the same step.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, final

import numpy as np
from scipy.linalg.blas import daxpy, dnrm2, saxpy, snrm2

from bpx.engine.arrays import Array, Arrays
from bpx.engine.memory import Stateful, add_prefix, select_prefix
from bpx.engine.parameters import ParameterVector
from bpx.engine.schedules import Constant, LRSchedule

MAX_UNTHREADED = (
    10_000  # OpenBLAS shares longer vectors among threads, and SciPy's threads stall NumPy's: 40 times slower
)


def norm(vector: Array) -> float:
    """Return the L2 norm of a flat vector; BLAS accumulates float32 in double, so 1e-25 and 1e25 come out right."""
    return float((snrm2 if vector.dtype == np.float32 else dnrm2)(vector))


def axpy(x: Array, y: Array, a: float) -> None:
    """Compute y += a x in place, in one pass."""
    f = saxpy if y.dtype == np.float32 else daxpy
    for start in range(0, len(y), MAX_UNTHREADED):
        piece = slice(start, start + MAX_UNTHREADED)
        f(x[piece], y[piece], a=a)


class Transform(Stateful, ABC):
    """A step of the chain: maps (u, factor) to (u, factor), the update so far being factor * u.

    ``rescales_only`` transforms change the factor alone: u stays the gradient, bit for bit.
    """

    rescales_only: ClassVar[bool] = False

    def bind(self, parameters: ParameterVector) -> None:
        """Allocate the state, laid out like theta."""
        self.parameters = parameters

    @abstractmethod
    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Transform the direction in place (or return another vector) and the factor."""


def _absorb(u: Array, factor: float) -> Array:
    if factor != 1:
        u *= factor
    return u


@final
class ClipValue(Transform):
    """Clip every entry to [-limit, limit]."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return clip(g)."""
        np.clip(_absorb(u, factor), -self.limit, self.limit, out=u)
        return u, 1.0


@final
class ClipNorm(Transform):
    """Scale the whole gradient down to ``limit``: times min(1, limit / (norm + 1e-6)).

    ``coefficient`` is the last factor, ``n_clipped`` counts the steps where it was below 1.
    (Pascanu et al. 2013, algorithm 1; the 1e-6 is PyTorch's.)
    """

    rescales_only = True
    state_fields = ("coefficient", "n_clipped")

    def __init__(self, limit: float) -> None:
        self.limit, self.coefficient, self.n_clipped = limit, 1.0, 0

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return the gradient with its factor lowered: no pass over the vector but the norm's."""
        self.coefficient = min(1.0, self.limit / (norm(u) * abs(factor) + 1e-6))
        self.n_clipped += self.coefficient < 1
        return u, factor * self.coefficient


@final
class WeightDecay(Transform):
    """Add ``rate`` times the weights to the direction: L2 before a momentum, decoupled after Adam.

    Biases and normalization parameters do not decay. (Loshchilov & Hutter 2019, algorithm 2.)
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return g + rate W."""
        n = self.parameters.n_weights
        axpy(self.parameters.theta[:n], _absorb(u, factor)[:n], self.rate)
        return u, 1.0


@final
class Momentum(Transform):
    """Accumulate a velocity: v = momentum v + g (Polyak 1964)."""

    state_fields = ("v",)

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum

    def bind(self, parameters: ParameterVector) -> None:
        """Own v."""
        self.v = np.zeros_like(parameters.theta)

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return v."""
        self.v *= self.momentum
        axpy(u, self.v, factor)
        return self.v, 1.0


@final
class Nesterov(Transform):
    """Look ahead along the velocity: v = momentum v + g, direction g + momentum v (Sutskever et al. 2013)."""

    state_fields = ("v",)

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum

    def bind(self, parameters: ParameterVector) -> None:
        """Own v."""
        self.v = np.zeros_like(parameters.theta)

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return g + momentum v."""
        _absorb(u, factor)
        self.v *= self.momentum
        axpy(u, self.v, 1.0)
        axpy(self.v, u, self.momentum)
        return u, 1.0


@final
class RMSprop(Transform):
    """Divide by a running root mean square: s = decay s + (1 - decay) g**2, direction g / (sqrt(s) + eps).

    (Tieleman & Hinton 2012, lecture 6.5.)
    """

    state_fields = ("s",)

    def __init__(self, decay: float, eps: float) -> None:
        self.decay, self.eps = decay, eps

    def bind(self, parameters: ParameterVector) -> None:
        """Own s."""
        self.s = np.zeros_like(parameters.theta)
        self.scratch = np.zeros_like(parameters.theta)

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return g / (sqrt(s) + eps)."""
        _absorb(u, factor)
        np.multiply(u, u, out=self.scratch)
        self.s *= self.decay
        axpy(self.scratch, self.s, 1 - self.decay)
        np.sqrt(self.s, out=self.scratch)
        self.scratch += self.eps
        u /= self.scratch
        return u, 1.0


@final
class Adam(Transform):
    """Divide a running mean by a running root mean square, both corrected for their start at zero.

    m = beta1 m + (1 - beta1) g, s = beta2 s + (1 - beta2) g**2,
    direction (m / (1 - beta1**t)) / (sqrt(s / (1 - beta2**t)) + eps). (Kingma & Ba 2015, algorithm 1.)
    """

    state_fields = ("m", "s", "t")

    def __init__(self, beta1: float, beta2: float, eps: float) -> None:
        self.beta1, self.beta2, self.eps, self.t = beta1, beta2, eps, 0

    def bind(self, parameters: ParameterVector) -> None:
        """Own m and s."""
        self.m, self.s = np.zeros_like(parameters.theta), np.zeros_like(parameters.theta)
        self.scratch = np.zeros_like(parameters.theta)

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return the corrected quotient."""
        _absorb(u, factor)
        self.t += 1
        self.m *= self.beta1
        axpy(u, self.m, 1 - self.beta1)
        np.multiply(u, u, out=self.scratch)
        self.s *= self.beta2
        axpy(self.scratch, self.s, 1 - self.beta2)
        np.sqrt(self.s, out=self.scratch)
        self.scratch *= 1 / math.sqrt(1 - self.beta2**self.t)
        self.scratch += self.eps
        np.divide(self.m, self.scratch, out=u)
        u *= 1 / (1 - self.beta1**self.t)
        return u, 1.0


@final
class LearningRate(Transform):
    """Go downhill: times -lr, lr the base rate times the schedule's multiplier of this step."""

    rescales_only = True
    state_fields = ("step", "lr")

    def __init__(self, lr: float, schedule: LRSchedule) -> None:
        self.base, self.schedule, self.step, self.lr = lr, schedule, 0, float(lr)
        self.fixed: float | None = None

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return the direction with factor -lr: no pass over the vector."""
        self.lr = self.base * self.schedule(self.step) if self.fixed is None else self.fixed
        self.step += 1
        return u, -self.lr * factor

    def state_dict(self) -> Arrays:
        """Return the step count, the last rate and the schedule's state."""
        return super().state_dict() | add_prefix("schedule", self.schedule.state_dict())

    def load_state_dict(self, state: Arrays) -> None:
        """Restore what ``state_dict`` returned; raises ValueError where it does not fit."""
        super().load_state_dict(state)
        self.schedule.load_state_dict(select_prefix("schedule", state))


@final
class MaxNorm(Transform):
    """Keep every unit's incoming weights within a ball: W's columns have norm at most ``limit`` after the step.

    The projection is made part of the update, so that the update is the change that the weights really see.
    (Srivastava et al. 2014, section 5.1.)
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def bind(self, parameters: ParameterVector) -> None:
        """Own the update: ``u`` may be a momentum's velocity, which the projection must not change."""
        self.update = np.zeros_like(parameters.theta)

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return project(W + factor u) - W, with factor 1."""
        np.multiply(u, factor, out=self.update)
        for p, dW in zip(self.parameters, self.parameters.views(self.update).values(), strict=True):
            if p.is_weight:
                W = p.value + dW
                length = np.sqrt(np.einsum("io,io->o", W, W))
                W *= np.minimum(1, self.limit / np.maximum(length, 1e-30))
                np.subtract(W, p.value, out=dW)
        return self.update, 1.0


@final
class Optimizer:
    """A chain of transforms over a network's parameters."""

    def __init__(self, chain: Sequence[Transform], rate: LearningRate) -> None:
        self.chain, self.rate = list(chain), rate
        self.rescales_only = all(transform.rescales_only for transform in self.chain)

    @property
    def lr(self) -> float:
        """The learning rate of the last proposed step."""
        return self.rate.lr

    def fix_lr(self, lr: float) -> None:
        """Use the learning rate ``lr`` from the next step on, whatever the schedule says."""
        self.rate.fixed = lr

    def on_evaluation(self, cost: float) -> None:
        """Tell the schedule an evaluation's cost."""
        self.rate.schedule.on_evaluation(cost)

    def bind(self, parameters: ParameterVector) -> Optimizer:
        """Allocate the transforms' state for ``parameters``."""
        self.parameters = parameters
        for transform in self.chain:
            Transform.bind(transform, parameters)
            transform.bind(parameters)
        return self

    def state_dict(self) -> Arrays:
        """Return copies of the state of every transform."""
        named = ((f"{i}.{type(t).__name__}", t.state_dict()) for i, t in enumerate(self.chain))
        return {key: value for name, state in named for key, value in add_prefix(name, state).items()}

    def load_state_dict(self, state: Arrays) -> None:
        """Restore the ``state_dict`` of an optimizer with the same transforms; raises ValueError where it differs."""
        for i, transform in enumerate(self.chain):
            transform.load_state_dict(select_prefix(f"{i}.{type(transform).__name__}", state))

    def propose(self) -> None:
        """Turn the gradient into the direction ``u`` and the scalar ``factor``; theta is not touched."""
        u, factor = self.parameters.grad, 1.0
        for transform in self.chain:
            u, factor = transform(u, factor)
        self.u, self.factor = u, factor

    def apply(self) -> None:
        """Make the proposed step: theta += factor * u."""
        axpy(self.u, self.parameters.theta, self.factor)


def _build(
    core: Sequence[Transform],
    lr: float,
    schedule: LRSchedule | None,
    clip_norm: float | None,
    clip_value: float | None,
    weight_decay: float,
    max_norm: float | None,
    decoupled: bool = False,
) -> Optimizer:
    limits = {"lr": lr, "clip_norm": clip_norm, "clip_value": clip_value, "max_norm": max_norm}
    for key, value in limits.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ValueError(f"optimizer.{key} must be positive and finite, got {value}")
    if not (weight_decay >= 0 and math.isfinite(weight_decay)):
        raise ValueError(f"optimizer.weight_decay must be at least 0, got {weight_decay}")
    chain: list[Transform] = []
    if clip_value is not None:
        chain.append(ClipValue(clip_value))
    if clip_norm is not None:
        chain.append(ClipNorm(clip_norm))
    decay: list[Transform] = [WeightDecay(weight_decay)] if weight_decay else []
    chain += [*core, *decay] if decoupled else [*decay, *core]
    rate = LearningRate(lr, schedule or Constant())
    chain.append(rate)
    if max_norm is not None:
        chain.append(MaxNorm(max_norm))
    return Optimizer(chain, rate)


def _fraction(**values: float) -> None:
    for key, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"optimizer.{key} must be in [0, 1), got {value}")


def sgd(
    lr: float = 0.01,
    schedule: LRSchedule | None = None,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    weight_decay: float = 0.0,
    max_norm: float | None = None,
) -> Optimizer:
    """Build plain gradient descent: theta -= lr g.

    Parameters
    ----------
    lr : base learning rate
    schedule : multiplier of the base rate by step; constant where None
    clip_norm : largest L2 norm of the whole gradient
    clip_value : largest magnitude of an entry of the gradient, clipped before the norm
    weight_decay : times W, added to the gradient after clipping; biases do not decay
    max_norm : largest L2 norm of a unit's incoming weights after a step

    Raises
    ------
    ValueError : a value is out of range
    """
    return _build([], lr, schedule, clip_norm, clip_value, weight_decay, max_norm)


def momentum(
    lr: float = 0.01,
    momentum: float = 0.9,
    schedule: LRSchedule | None = None,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    weight_decay: float = 0.0,
    max_norm: float | None = None,
) -> Optimizer:
    """Build gradient descent with momentum: v = momentum v + g, theta -= lr v.

    The other parameters are those of ``sgd``.
    """
    _fraction(momentum=momentum)
    return _build([Momentum(momentum)], lr, schedule, clip_norm, clip_value, weight_decay, max_norm)


def nesterov(
    lr: float = 0.01,
    momentum: float = 0.9,
    schedule: LRSchedule | None = None,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    weight_decay: float = 0.0,
    max_norm: float | None = None,
) -> Optimizer:
    """Build gradient descent with Nesterov's momentum: theta -= lr (g + momentum v).

    The other parameters are those of ``sgd``.
    """
    _fraction(momentum=momentum)
    return _build([Nesterov(momentum)], lr, schedule, clip_norm, clip_value, weight_decay, max_norm)


def rmsprop(
    lr: float = 0.001,
    decay: float = 0.99,
    eps: float = 1e-8,
    schedule: LRSchedule | None = None,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    weight_decay: float = 0.0,
    max_norm: float | None = None,
) -> Optimizer:
    """Build RMSprop: theta -= lr g / (sqrt(s) + eps).

    The other parameters are those of ``sgd``.
    """
    _fraction(decay=decay)
    return _build([RMSprop(decay, eps)], lr, schedule, clip_norm, clip_value, weight_decay, max_norm)


def adam(
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    schedule: LRSchedule | None = None,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    weight_decay: float = 0.0,
    max_norm: float | None = None,
) -> Optimizer:
    """Build Adam (Kingma & Ba 2015); weight decay is added to the gradient (L2).

    The other parameters are those of ``sgd``.
    """
    _fraction(beta1=beta1, beta2=beta2)
    return _build([Adam(beta1, beta2, eps)], lr, schedule, clip_norm, clip_value, weight_decay, max_norm)


def adamw(
    lr: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    schedule: LRSchedule | None = None,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    weight_decay: float = 0.01,
    max_norm: float | None = None,
) -> Optimizer:
    """Build Adam with decoupled weight decay: W -= lr (Adam's direction + weight_decay W).

    The other parameters are those of ``sgd``. (Loshchilov & Hutter 2019, algorithm 2.)
    """
    _fraction(beta1=beta1, beta2=beta2)
    return _build(
        [Adam(beta1, beta2, eps)], lr, schedule, clip_norm, clip_value, weight_decay, max_norm, decoupled=True
    )


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    f.__name__: f for f in (sgd, momentum, nesterov, rmsprop, adam, adamw)
}
