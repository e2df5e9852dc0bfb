"""Recurrent layers: what they share, and the plain recurrence h_t = phi(u_t + h_(t-1) W)."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple, final

import numpy as np

from bpx.engine.activation import Activation, ActivationFunction
from bpx.engine.arrays import Array, DType, zeros
from bpx.engine.initializer import Initializer
from bpx.engine.initializers import Identity, Orthogonal
from bpx.engine.layer import Layer, Shape, flat, rows
from bpx.engine.numbers import require
from bpx.engine.parameters import Parameter, ParameterVector

RECURRENT: dict[str, Initializer | None] = {"same": None, "orthogonal": Orthogonal(), "identity": Identity()}


class StepFactors(NamedTuple):
    """What backward of a cell multiplies by in its last pass; all (rows, steps, n), by gate (gates, ...).

    A state s_t = keep_(t+1) s_(t+1) + enter_t e_t, delta_t = by_state_t s_t + by_source_t e_t, e_(t-1) = delta_t W^T.
    dJ/dh_t is e_t, or s_t where h is what the gates keep.
    """

    keep: Array
    enter: Array
    by_state: Array
    by_source: Array


class Recurrent(Layer):
    """A state h of n units that every step renews: (steps, gates n) to (steps, n).

    Its input u holds what the Dense before it has made of all steps; W (n, gates n) is what it learns itself. Backward
    goes through time from the last step to the first, and its dx is dJ/du. (Werbos 1990.)

    Parameters
    ----------
    recurrent : str
        How W is drawn, gate by gate: ``same`` as the other weights, ``orthogonal``, ``identity`` (Le et al. 2015).
    scale : float
        What the drawn W is multiplied by.
    truncate : int, optional
        After so many steps the gradient stops: steps are cut into pieces of this length from the first on, and no
        gradient passes from one to the piece before it (Williams & Peng 1990). None: it passes all.
    learn_start : bool
        Whether the state before the first step is learned; it starts at zero.

    Attributes
    ----------
    W : Parameter (n, gates n)
        The recurrent weights.
    dh : ndarray (rows, steps, n)
        dJ/dh_t of the last pass, all ways that lead from h_t to the loss counted.
    """

    gates: ClassVar[int] = 1
    keep_gate: ClassVar[int | None] = None  # the place of the gate that keeps the state
    states: ClassVar[tuple[str, ...]] = ("h0",)
    keeps_h: ClassVar[bool] = True  # whether the state s_t of ``step_factors`` is dJ/dh_t, not e_t
    unpredicted: ClassVar[str] = "recurrent layers"
    W: Parameter
    h0: Parameter
    dh: Array
    gate: Array  # (gates, steps, rows, n), by step as all buffers of a cell: what a step reads lies side by side
    dgate: Array
    h: Array  # (steps + 1, rows, n), the start first
    dh_by_step: Array
    products: Array  # (gates, rows, n)
    carry: Array  # (rows, n)

    def __init__(
        self, recurrent: str = "same", scale: float = 1.0, truncate: int | None = None, learn_start: bool = False
    ) -> None:
        Layer.__init__(self)  # Recurrence is an Activation, too
        require(recurrent in RECURRENT, "model.recurrent", " or ".join(RECURRENT), recurrent)
        require(0 < scale < math.inf, "model.recurrent_scale", "a positive number", scale)
        require(truncate is None or truncate >= 1, "model.truncate", "at least 1", truncate)
        self.recurrent, self.scale, self.truncate, self.learn_start = recurrent, scale, truncate, learn_start

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Declare W, and the start where it is learned; raises ValueError where the sample is no sequence."""
        if len(shape) != 2:
            raise ValueError(f"a recurrent layer needs samples (steps, features), got samples of shape {shape}")
        steps, n = shape[0], shape[1] // self.gates
        if self.truncate is not None and self.truncate > steps:
            raise ValueError(f"model.truncate must be at most the {steps} steps of a sample, got {self.truncate}")
        self.W = parameters.declare(f"{name}.W", (n, self.gates * n), weight=True)
        for key in self.states if self.learn_start else ():
            setattr(self, key, parameters.declare(f"{name}.{key}", (n,), weight=False))
        return self.place(name, shape, (steps, n))

    def draw(self, initializer: Initializer, rng: np.random.Generator) -> None:
        """Draw W, gate by gate."""
        chosen, n = RECURRENT[self.recurrent] or initializer, self.n_out
        for k in range(self.gates):
            part = np.zeros((n, n), self.W.value.dtype)
            chosen(rng, part)
            self.W.value[:, k * n : (k + 1) * n] = part * self.scale

    def bind(self, batch: int, dtype: DType, rng: np.random.Generator) -> None:
        """Own y, dx, dh, and what the cell keeps of every step."""
        (steps, n), gates = self.out_shape, self.gates
        shapes = {"gate": (gates, steps), "dgate": (gates, steps), "h": (steps + 1,), "dh_by_step": (steps,)}
        shapes |= {"products": (gates,), "carry": (), **self.kept()}
        self._by_step = {key: (zeros(math.prod(lead) * batch * n, dtype), lead) for key, lead in shapes.items()}
        self.allocate_buffers(batch, dtype, y=self.out_shape, dx=self.shape)
        self._ones = np.ones(batch, dtype)
        self._weights, self._transposed = zeros((gates, n, n), dtype), zeros((gates, n, n), dtype)

    def kept(self) -> dict[str, Shape]:
        """Return the cell's own buffers by name: the leading axes of each (..., rows, n)."""
        return {}

    def set_batch_size(self, n: int) -> None:
        """Use as much of every buffer as ``n`` rows take: a step's rows lie side by side."""
        super().set_batch_size(n)
        for key, (buffer, lead) in self._by_step.items():
            size = math.prod(lead) * n * self.n_out
            setattr(self, key, buffer[:size].reshape(*lead, n, self.n_out))
        self.dh = self.dh_by_step.swapaxes(0, 1)

    def by_step(self, x: Array) -> Array:
        """Return ``x`` (rows, steps, gates n) as (gates, steps, rows, n), a view."""
        return x.reshape(*x.shape[:2], -1, self.n_out).transpose(2, 1, 0, 3)

    def start(self, key: str, before: Array) -> None:
        """Write the state before the first step into ``before`` (rows, n)."""
        before[...] = getattr(self, key).value if self.learn_start else 0

    def weights(self) -> Array:
        """Return W gate by gate, copied, (gates, n, n): products with a part of W's columns take longer."""
        np.copyto(self._weights, self.W.value.reshape(self.n_out, self.gates, -1).swapaxes(0, 1))
        return self._weights

    def transposed(self) -> Array:
        """Return W^T gate by gate, copied: a product with a view of it, at every step, takes nearly twice the time."""
        np.copyto(self._transposed, self.W.value.reshape(self.n_out, self.gates, -1).transpose(1, 2, 0))
        return self._transposed

    def weight_gradient(self, dgate: Array) -> None:
        """Write dW = sum_t h_(t-1)^T dgate_t, one product for each gate."""
        before = rows(self.h[:-1]).T
        for k in range(self.gates):
            np.matmul(before, rows(dgate[k]), out=self.W.grad[:, k * self.n_out : (k + 1) * self.n_out])

    def stops(self, t: int) -> bool:
        """Return whether no gradient passes from step ``t`` to the one before it."""
        return t == 0 or (self.truncate is not None and t % self.truncate == 0)

    def kept_share(self) -> float:
        """Return the mean of the gate that keeps the state, in the last pass."""
        assert self.keep_gate is not None
        return float(self.gate[self.keep_gate].mean())

    def step_factors(self) -> StepFactors | None:
        """Return what backward multiplies by; None where no formula is known."""
        return None

    def finish(self, key: str, carry: Array) -> None:
        """Write the gradient of the state before the first step."""
        if self.learn_start:
            np.dot(self._ones[: len(carry)], carry, out=getattr(self, key).grad)


@final
class Recurrence(Recurrent, Activation):
    """The plain recurrence: z_t = u_t + h_(t-1) W, h_t = phi(z_t).

    Backward: dh_t = dy_t + delta_(t+1) W^T, delta_t = dh_t phi'(z_t), dW = sum_t h_(t-1)^T delta_t. Its input gradient
    is delta. (Elman 1990; Werbos 1990.)

    Parameters
    ----------
    function : ActivationFunction
        phi.
    recurrent, scale, truncate, learn_start
        As for every recurrent layer.
    """

    kind, display_name = "recurrence", "recurrent weights"
    keeps_h = False
    output_name, input_grad_name = "h", "delta"

    def __init__(
        self,
        function: ActivationFunction,
        recurrent: str = "same",
        scale: float = 1.0,
        truncate: int | None = None,
        learn_start: bool = False,
    ) -> None:
        Recurrent.__init__(self, recurrent, scale, truncate, learn_start)
        self.function = function

    def set_batch_size(self, n: int) -> None:
        """Use as much of every buffer as ``n`` rows take; x is z, as that of an activation."""
        super().set_batch_size(n)
        self.x = self.gate[0].swapaxes(0, 1)

    def forward(self, x: Array, train: bool) -> Array:
        """Compute h_1 to h_T."""
        W, product, h, f = self.W.value, self.products[0], self.h, self.function.f
        self.start("h0", h[0])
        np.copyto(self.gate, self.by_step(x))
        for z, before, after in zip(self.gate[0], h, h[1:], strict=False):
            np.dot(before, W, out=product)
            z += product
            f(z, after)
        np.copyto(self.y, h[1:].swapaxes(0, 1))
        return self.y

    def backward(self, dy: Array) -> Array:
        """Compute delta of every step, dW, and the start's gradient."""
        z, delta, dh, carry, Wt = self.gate[0], self.dgate[0], self.dh_by_step, self.carry, self.transposed()[0]
        np.copyto(dh, dy.swapaxes(0, 1))
        self.function.df(flat(z), flat(self.h[1:]), flat(delta))
        carry.fill(0)
        for t in reversed(range(self.shape[0])):
            dh_t, delta_t = dh[t], delta[t]
            dh_t += carry
            delta_t *= dh_t
            if t == 0 or not self.stops(t):
                np.dot(delta_t, Wt, out=carry)
            else:
                carry.fill(0)
        self.finish("h0", carry)
        self.weight_gradient(self.dgate)
        np.copyto(self.dx, delta.swapaxes(0, 1))
        return self.dx

    def step_factors(self) -> StepFactors:
        """Return phi'(z_t), what dh_t = e_t is multiplied by: nothing keeps a state."""
        z, h = (np.ascontiguousarray(a.swapaxes(0, 1), np.float64) for a in (self.gate[0], self.h[1:]))
        slope, none = np.empty_like(z), np.zeros_like(z)
        self.function.df(flat(z), flat(h), flat(slope))
        return StepFactors(none, none, none[None], slope[None])


@final
class LastStep(Layer):
    """Take the last step of a sequence: (steps, n) to (n,); only it gets a gradient."""

    kind, display_name = "last", "last step"

    def build(self, name: str, shape: Shape, parameters: ParameterVector) -> Shape:
        """Return (n,)."""
        return self.place(name, shape, shape[-1:])

    def forward(self, x: Array, train: bool) -> Array:
        """Return the last step."""
        np.copyto(self.y, x[:, -1])
        return self.y

    def backward(self, dy: Array) -> Array:
        """Return dy at the last step, and zero before it."""
        np.copyto(self.dx[:, -1], dy)
        return self.dx
