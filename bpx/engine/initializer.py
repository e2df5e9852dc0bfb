"""What every initializer is: weights and biases drawn, their scales, and the registry of those that have a name.

``sigma_w`` is the scale as signal-propagation theory counts it: the weights' standard deviation times the
square root of fan_in. ``gain`` multiplies an initializer's own scale. Fans come from W's shape (n_in, n_out).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from bpx.engine.arrays import Array, Arrays
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector
from bpx.engine.parts import make

MAX_SCALE = 1e30  # of every scale: its normal draws fit into float32, and its square into float64


@dataclass(frozen=True, kw_only=True)
class Initializer(ABC):
    """Fill weight matrices in place, and biases.

    Where ``needs_data``, the weights are scaled on a batch once the network is built (``bpx.engine.lsuv``).

    Attributes
    ----------
    bias_std : float
        Biases are drawn from N(0, bias_std**2).
    bias : str or mapping, optional
        Another initializer for them in its place, by name or as ``{"name": ..., settings}``: b is drawn as a row of
        W (n_in, n_out) would be, so that ``uniform`` gives U(-1 / sqrt(n_in), 1 / sqrt(n_in)).
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool] = False
    bias_std: float = 0.0
    bias: str | dict[str, object] | None = None

    def __post_init__(self) -> None:
        self._check("bias_std", self.bias_std, least=0)
        if self.bias is not None:
            require(self.bias_std == 0, "initializer.bias_std", "0 where initializer.bias is given", self.bias_std)
            self.of_biases()

    @abstractmethod
    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Fill ``W`` (n_in, n_out)."""

    def of_layer(self, i: int, n: int) -> Initializer:
        """Return the initializer of weight matrix ``i`` of ``n``, counted from the input and from 0; itself."""
        return self

    def of_kernel(self, side: int) -> Initializer:
        """Return the initializer of a convolution, whose W (side**2 n_in, n_out) holds a kernel; itself."""
        return self

    def variant(self, kind: type[Initializer], **own: object) -> Initializer:
        """Return an initializer of another ``kind``: the settings that both have, and its ``own``."""
        shared = {f.name for f in fields(self)} & {f.name for f in fields(kind)}
        return kind(**{name: getattr(self, name) for name in shared} | own)

    def of_biases(self) -> Initializer | None:
        """Return the initializer that ``bias`` names; raises ValueError where there is no such one."""
        if self.bias is None:
            return None
        try:
            return make("initializer", INITIALIZERS, self.bias)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"initializer.bias must be a name or keys with a name, got {self.bias}: {error}"
            ) from error

    def draw_bias(self, rng: np.random.Generator, b: Array, n_in: int) -> None:
        """Fill ``b`` (n_out,), the bias of a layer with ``n_in`` inputs."""
        initializer = self.of_biases()
        if initializer is None:
            b[...] = rng.standard_normal(b.shape) * self.bias_std
        else:
            rows = np.empty((n_in, len(b)), b.dtype)
            initializer(rng, rows)
            b[...] = rows[0]

    def bias_rms(self, n_in: int, n_out: int) -> float:
        """Return the root mean square of a bias of a layer (n_in, n_out)."""
        initializer = self.of_biases()
        return self.bias_std if initializer is None else initializer.weight_std(n_in, n_out) or 0.0

    def assign(self, tensors: Arrays) -> None:
        """Change the parameters and running statistics of a network that is drawn, by name; nothing by default."""
        return None

    def rates(self, parameters: ParameterVector, adaptive: bool) -> dict[str, float]:
        """Return what multiplies the learning rate of parameters, by name, under SGD or an ``adaptive`` optimizer."""
        return {}

    def weight_std(self, n_in: int, n_out: int) -> float | None:
        """Return the standard deviation of an entry of W (n_in, n_out); None, the default, where entries share none."""
        return None

    def _check(self, key: str, value: object, least: float = -MAX_SCALE) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= MAX_SCALE
        require(number, f"initializer.{key}", f"a number of at least {least:g} and at most {MAX_SCALE:g}", value)

    def _check_scale(self, **scales: float | None) -> None:
        """Raise ValueError where a scale is out of range, or both of two are given."""
        given = {key: value for key, value in scales.items() if value is not None}
        for key, value in given.items():
            self._check(key, value, least=0)
        if len(given) > 1:
            raise ValueError(f"give {' or '.join(f'initializer.{key}' for key in given)}, not both")


@dataclass(frozen=True, kw_only=True)
class Scaled(Initializer):
    """An initializer with a scale.

    Attributes
    ----------
    gain : float, optional
        A factor of the initializer's own scale; ``default_gain`` where it is not given.
    sigma_w : float, optional
        The standard deviation times sqrt(n_in), in its place.
    """

    gain: float | None = None
    sigma_w: float | None = None
    default_gain: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_scale(gain=self.gain, sigma_w=self.sigma_w)

    @property
    def effective_gain(self) -> float:
        """The gain, or the initializer's default where none is given."""
        return self.default_gain if self.gain is None else self.gain


INITIALIZERS: dict[str, type[Initializer]] = {}  # by name, filled in initializers.py
