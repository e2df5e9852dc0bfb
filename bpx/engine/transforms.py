"""Transforms: what an optimizer does to the gradient, one in-place step each.

The update so far is factor * u: a transform that only rescales changes the factor, and needs no pass over u.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, final

import numpy as np

from bpx.engine.arrays import Array, Arrays
from bpx.engine.blas import axpy, norm
from bpx.engine.memory import Stateful, add_prefix, select_prefix
from bpx.engine.numbers import require, require_fraction, require_positive
from bpx.engine.parameters import ParameterVector
from bpx.engine.schedules import LRSchedule


class Transform(Stateful, ABC):
    """A map from (u, factor) to (u, factor), the update so far being factor * u.

    Attributes
    ----------
    parameters : ParameterVector
        Theta and its gradient, set before ``bind`` is called.
    rescales_only : bool
        Whether the factor alone changes: u stays the gradient, bit for bit.
    adaptive : bool
        Whether it divides every entry by a running scale of its own.
    clips : bool
        Whether it limits the gradient.
    stability_bound : float or None
        The largest learning rate times curvature at which it is stable on a quadratic, where it changes that.
    """

    rescales_only: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    clips: ClassVar[bool] = False
    stability_bound: float | None = None
    parameters: ParameterVector

    def bind(self, parameters: ParameterVector) -> None:
        """Allocate the state, laid out like theta; none by default."""
        return None

    def preconditioner(self) -> Array | None:
        """Return what multiplies each entry of the gradient, laid out like theta; None, the default, for nothing."""
        return None

    @abstractmethod
    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Transform the direction in place (or return another vector) and the factor."""


def _absorb(u: Array, factor: float) -> Array:
    if factor != 1:
        u *= factor
    return u


@final
class ClipValue(Transform):
    """Clip every entry to [-limit, limit] (Mikolov 2012)."""

    clips = True

    def __init__(self, limit: float) -> None:
        require_positive("optimizer.clip_value", limit)
        self.limit = limit

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return clip(g)."""
        np.clip(_absorb(u, factor), -self.limit, self.limit, out=u)
        return u, 1.0


@final
class ClipNorm(Transform):
    """Scale the whole gradient down to ``limit``: times min(1, limit / (norm + 1e-6)).

    ``coefficient`` is the last factor, ``n_clipped`` counts the steps where it was below 1. A gradient that is not
    finite stays as it is. (Pascanu et al. 2013, algorithm 1; the 1e-6 is PyTorch's.)
    """

    rescales_only = clips = True
    state_fields = ("coefficient", "n_clipped")

    def __init__(self, limit: float) -> None:
        require_positive("optimizer.clip_norm", limit)
        self.limit, self.coefficient, self.n_clipped = limit, 1.0, 0

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return the gradient with its factor lowered: no pass over the vector but the norm's."""
        size = norm(u) * abs(factor)  # infinity times 0 would be no step at all
        self.coefficient = min(1.0, self.limit / (size + 1e-6)) if math.isfinite(size) else 1.0
        self.n_clipped += self.coefficient < 1
        return u, factor * self.coefficient


@final
class WeightDecay(Transform):
    """Add ``rate`` times the weights to the direction: L2 before a momentum, decoupled after Adam.

    Biases and normalization parameters do not decay. (Loshchilov & Hutter 2019, algorithm 2.)
    """

    def __init__(self, rate: float) -> None:
        require(rate >= 0 and math.isfinite(rate), "optimizer.weight_decay", "at least 0", rate)
        self.rate = rate

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return g + rate W."""
        n = self.parameters.n_weights
        axpy(self.parameters.theta[:n], _absorb(u, factor)[:n], self.rate)
        return u, 1.0


class _Velocity(Transform):
    """A transform with a velocity v."""

    state_fields = ("v",)

    def __init__(self, momentum: float) -> None:
        require_fraction("optimizer.momentum", momentum)
        self.momentum = momentum
        self.stability_bound = 2 * (1 + momentum)  # Cohen et al. 2021, appendix B

    def bind(self, parameters: ParameterVector) -> None:
        """Own v."""
        self.v = np.zeros_like(parameters.theta)


@final
class Momentum(_Velocity):
    """Accumulate a velocity: v = momentum v + g (Polyak 1964)."""

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return v."""
        self.v *= self.momentum
        axpy(u, self.v, factor)
        return self.v, 1.0


@final
class Nesterov(_Velocity):
    """Look ahead along the velocity: v = momentum v + g, direction g + momentum v.

    (Sutskever et al. 2013, section 2.)
    """

    def __init__(self, momentum: float) -> None:
        super().__init__(momentum)
        self.stability_bound = 2 * (1 + momentum) / (1 + 2 * momentum)

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

    adaptive = True
    state_fields = ("s",)

    def __init__(self, decay: float, eps: float) -> None:
        require_fraction("optimizer.decay", decay)
        self.decay, self.eps = decay, eps

    def bind(self, parameters: ParameterVector) -> None:
        """Own s."""
        self.s, self.scratch = np.zeros_like(parameters.theta), np.zeros_like(parameters.theta)

    def preconditioner(self) -> Array:
        """Return 1 / (sqrt(s) + eps)."""
        return 1 / (np.sqrt(self.s, dtype=np.float64) + self.eps)

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return g / (sqrt(s) + eps)."""
        _root_mean_square(_absorb(u, factor), self.s, self.decay, self.scratch)
        self.scratch += self.eps
        u /= self.scratch
        return u, 1.0


@final
class Adam(Transform):
    """Divide a running mean by a running root mean square, both corrected for their start at zero.

    m = beta1 m + (1 - beta1) g, s = beta2 s + (1 - beta2) g**2,
    direction (m / (1 - beta1**t)) / (sqrt(s / (1 - beta2**t)) + eps). (Kingma & Ba 2015, algorithm 1.)
    """

    adaptive = True
    state_fields = ("m", "s", "t")

    def __init__(self, beta1: float, beta2: float, eps: float) -> None:
        require_fraction("optimizer.beta1", beta1)
        require_fraction("optimizer.beta2", beta2)
        self.beta1, self.beta2, self.eps, self.t = beta1, beta2, eps, 0
        self.stability_bound = 2 * (1 + beta1) / (1 - beta1)  # Cohen et al. 2022, section 2

    def bind(self, parameters: ParameterVector) -> None:
        """Own m and s."""
        self.m, self.s, self.scratch = (np.zeros_like(parameters.theta) for _ in range(3))

    def preconditioner(self) -> Array:
        """Return 1 / (sqrt(s / (1 - beta2**t)) + eps)."""
        unbiased = np.sqrt(np.asarray(self.s, np.float64) / (1 - self.beta2 ** max(self.t, 1)))
        return 1 / (unbiased + self.eps)

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return the corrected quotient."""
        _absorb(u, factor)
        self.t += 1
        self.m *= self.beta1
        axpy(u, self.m, 1 - self.beta1)
        _root_mean_square(u, self.s, self.beta2, self.scratch)
        self.scratch *= 1 / math.sqrt(1 - self.beta2**self.t)
        self.scratch += self.eps
        np.divide(self.m, self.scratch, out=u)
        u *= 1 / (1 - self.beta1**self.t)
        return u, 1.0


def _root_mean_square(g: Array, s: Array, decay: float, out: Array) -> None:
    """Compute s = decay s + (1 - decay) g**2 in place, and write sqrt(s) into ``out``."""
    np.multiply(g, g, out=out)
    s *= decay
    axpy(out, s, 1 - decay)
    np.sqrt(s, out=out)


@final
class ScaleRates(Transform):
    """Multiply the learning rate of parameters by name (Yang et al. 2021, table 3)."""

    def __init__(self, rates: Mapping[str, float]) -> None:
        self.rates = rates

    def bind(self, parameters: ParameterVector) -> None:
        """Own the factors and a direction, both laid out like theta."""
        self.factors, self.scaled = np.ones_like(parameters.theta), np.zeros_like(parameters.theta)
        for name, factors in parameters.views(self.factors).items():
            factors.fill(self.rates.get(name, 1.0))

    def preconditioner(self) -> Array:
        """Return the factors."""
        return self.factors

    def __call__(self, u: Array, factor: float) -> tuple[Array, float]:
        """Return u times the factors, in a vector of its own: u may be a velocity."""
        return np.multiply(u, self.factors, out=self.scaled), factor


@final
class LearningRate(Transform):
    """Go downhill: times -lr, lr the base rate times the schedule's multiplier of this step."""

    rescales_only = True
    state_fields = ("step", "lr")

    def __init__(self, lr: float, schedule: LRSchedule) -> None:
        require_positive("optimizer.lr", lr)
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
        require_positive("optimizer.max_norm", limit)
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
