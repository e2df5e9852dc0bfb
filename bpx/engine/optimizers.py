"""Optimizers: chains of transforms of the flat gradient.

``propose`` turns the gradient into the step's direction u and a scalar factor, ``apply`` makes the step,
theta += factor * u. Between the two a probe can read theta, u and factor of the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import numpy as np

from bpx.engine.arrays import Array, Arrays
from bpx.engine.blas import axpy, norm
from bpx.engine.clipping import ClipUnits, ClipZScore
from bpx.engine.memory import add_prefix, select_prefix
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector
from bpx.engine.schedules import Constant, LRSchedule
from bpx.engine.transforms import (
    Adam,
    ClipNorm,
    ClipValue,
    LearningRate,
    MaxNorm,
    Momentum,
    Nesterov,
    RMSprop,
    ScaleRates,
    Transform,
    WeightDecay,
)

Limit = float | None


@final
class Optimizer:
    """A chain of transforms over a network's parameters.

    Attributes
    ----------
    chain : list of Transform
        Applied in this order to the gradient.
    rate : LearningRate
        The one of them that makes the step go downhill.
    u, factor : ndarray, float
        The last proposed step, factor * u.
    rescales_only : bool
        Whether u is the gradient itself, bit for bit.
    """

    u: Array
    factor: float

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
            transform.parameters = parameters
            transform.bind(parameters)
        return self

    def scale_rates(self, rates: Mapping[str, float]) -> None:
        """Multiply the learning rate of parameters by name; to be called before ``bind``."""
        if rates:
            self.chain.insert(self.chain.index(self.rate), ScaleRates(rates))
            self.rescales_only = False

    @property
    def adaptive(self) -> bool:
        """Whether a transform divides every entry by a running scale of its own."""
        return any(transform.adaptive for transform in self.chain)

    @property
    def stability_bound(self) -> float:
        """The largest learning rate times (preconditioned) curvature at which it is stable on a quadratic."""
        bounds = (transform.stability_bound for transform in self.chain)
        return next((bound for bound in bounds if bound is not None), 2.0)

    def preconditioner(self) -> Array | None:
        """Return what the last step multiplied each entry of the gradient by, beside the rate; None for nothing."""
        found = [factors for t in self.chain if (factors := t.preconditioner()) is not None]
        return np.prod(found, axis=0) if found else None

    def penalty(self) -> float:
        """Return what weight decay adds to the cost, rate / 2 * |W|**2; 0 where it is decoupled from the gradient."""
        for transform in self.chain:
            if isinstance(transform, WeightDecay):
                return 0.5 * transform.rate * norm(self.parameters.theta[: self.parameters.n_weights]) ** 2
            if not transform.clips:
                break
        return 0.0

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


def sgd(
    lr: float = 0.01, schedule: LRSchedule | None = None, *,
    clip_norm: Limit = None, clip_value: Limit = None, clip_units: Limit = None, clip_zscore: Limit = None,
    weight_decay: float = 0.0, max_norm: Limit = None,
) -> Optimizer:  # fmt: skip
    """Build plain gradient descent: theta -= lr g (Robbins & Monro 1951).

    Parameters
    ----------
    lr : float
        Base learning rate.
    schedule : LRSchedule, optional
        Multiplier of the base rate by step; constant where None.
    clip_norm : float, optional
        Largest L2 norm of the whole gradient.
    clip_value : float, optional
        Largest magnitude of an entry of the gradient, clipped first.
    clip_units : float, optional
        Largest L2 norm of a unit's gradient over that of its incoming weights, clipped next.
    clip_zscore : float, optional
        Most standard deviations that the gradient's norm may be above its running mean; not beside ``clip_norm``.
    weight_decay : float
        Times W, added to the gradient after clipping; biases do not decay.
    max_norm : float, optional
        Largest L2 norm of a unit's incoming weights after a step.

    Raises
    ------
    ValueError
        A value is out of range.
    """
    return _chain(_decay(weight_decay), lr, schedule, max_norm, (clip_value, clip_units, clip_zscore, clip_norm))


def momentum(
    lr: float = 0.01, momentum: float = 0.9, schedule: LRSchedule | None = None, *,
    clip_norm: Limit = None, clip_value: Limit = None, clip_units: Limit = None, clip_zscore: Limit = None,
    weight_decay: float = 0.0, max_norm: Limit = None,
) -> Optimizer:  # fmt: skip
    """Build gradient descent with momentum: v = momentum v + g, theta -= lr v (Polyak 1964); the rest as in ``sgd``."""
    direction = [*_decay(weight_decay), Momentum(momentum)]
    return _chain(direction, lr, schedule, max_norm, (clip_value, clip_units, clip_zscore, clip_norm))


def nesterov(
    lr: float = 0.01, momentum: float = 0.9, schedule: LRSchedule | None = None, *,
    clip_norm: Limit = None, clip_value: Limit = None, clip_units: Limit = None, clip_zscore: Limit = None,
    weight_decay: float = 0.0, max_norm: Limit = None,
) -> Optimizer:  # fmt: skip
    """Build gradient descent with Nesterov's momentum: theta -= lr (g + momentum v); the rest as in ``sgd``.

    (Sutskever et al. 2013, section 2.)
    """
    direction = [*_decay(weight_decay), Nesterov(momentum)]
    return _chain(direction, lr, schedule, max_norm, (clip_value, clip_units, clip_zscore, clip_norm))


def rmsprop(
    lr: float = 0.001, decay: float = 0.99, eps: float = 1e-8, schedule: LRSchedule | None = None, *,
    clip_norm: Limit = None, clip_value: Limit = None, clip_units: Limit = None, clip_zscore: Limit = None,
    weight_decay: float = 0.0, max_norm: Limit = None,
) -> Optimizer:  # fmt: skip
    """Build RMSprop: theta -= lr g / (sqrt(s) + eps), s a running mean of g**2; the rest as in ``sgd``.

    (Tieleman & Hinton 2012.)
    """
    direction = [*_decay(weight_decay), RMSprop(decay, eps)]
    return _chain(direction, lr, schedule, max_norm, (clip_value, clip_units, clip_zscore, clip_norm))


def adam(
    lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
    schedule: LRSchedule | None = None, *,
    clip_norm: Limit = None, clip_value: Limit = None, clip_units: Limit = None, clip_zscore: Limit = None,
    weight_decay: float = 0.0, max_norm: Limit = None,
) -> Optimizer:  # fmt: skip
    """Build Adam (Kingma & Ba 2015, algorithm 1), weight decay added to the gradient (L2); the rest as in ``sgd``."""
    direction = [*_decay(weight_decay), Adam(beta1, beta2, eps)]
    return _chain(direction, lr, schedule, max_norm, (clip_value, clip_units, clip_zscore, clip_norm))


def adamw(
    lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
    schedule: LRSchedule | None = None, *,
    clip_norm: Limit = None, clip_value: Limit = None, clip_units: Limit = None, clip_zscore: Limit = None,
    weight_decay: float = 0.01, max_norm: Limit = None,
) -> Optimizer:  # fmt: skip
    """Build Adam with decoupled weight decay: W -= lr (Adam's direction + weight_decay W); the rest as in ``sgd``.

    (Loshchilov & Hutter 2019, algorithm 2.)
    """
    direction = [Adam(beta1, beta2, eps), *_decay(weight_decay)]
    return _chain(direction, lr, schedule, max_norm, (clip_value, clip_units, clip_zscore, clip_norm))


def _decay(rate: float) -> list[Transform]:
    return [WeightDecay(rate)] if rate else []


def _chain(
    direction: Sequence[Transform],
    lr: float,
    schedule: LRSchedule | None,
    max_norm: Limit,
    clip: tuple[Limit, Limit, Limit, Limit],
) -> Optimizer:
    """Build the chain; ``clip`` holds the limits of values, units, z-score and norm."""
    require(clip[2] is None or clip[3] is None, "optimizer.clip_zscore", "null beside optimizer.clip_norm", clip[2])
    rate = LearningRate(lr, schedule or Constant())
    kinds: tuple[Callable[[float], Transform], ...] = (ClipValue, ClipUnits, ClipZScore, ClipNorm)
    chain = [kind(limit) for kind, limit in zip(kinds, clip, strict=True) if limit is not None]
    chain += [*direction, rate]
    chain += [MaxNorm(max_norm)] if max_norm is not None else []
    return Optimizer(chain, rate)


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    f.__name__: f for f in (sgd, momentum, nesterov, rmsprop, adam, adamw)
}
