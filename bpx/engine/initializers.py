"""Initializers: how weights are drawn before training.

``sigma_w`` is the scale as signal-propagation theory counts it: the weights' standard deviation times the
square root of fan_in. ``gain`` multiplies an initializer's own scale. Fans come from W's shape (n_in, n_out).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from bpx.engine.activations import ActivationFunction, LeakyReLU
from bpx.engine.arrays import Array, Arrays
from bpx.engine.numbers import require
from bpx.engine.parameters import ParameterVector
from bpx.engine.parts import make
from bpx.engine.tensor_files import read_tensors

MAX_SCALE = 1e30  # of every scale: its normal draws fit into float32, and its square into float64
RECOMMENDED_GAIN = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,  # LeCun et al. 1998, section 4.4
    "relu": math.sqrt(2),  # He et al. 2015, section 2.2
    "selu": 1.0,  # Klambauer et al. 2017, section 3
}


def recommended_gain(function: ActivationFunction) -> float:
    """Return the gain that the literature gives for an activation; leaky ReLU's is sqrt(2 / (1 + slope**2)).

    Raises ValueError where the literature gives none.
    """
    if isinstance(function, LeakyReLU):
        return math.sqrt(2 / (1 + function.slope**2))
    if function.name not in RECOMMENDED_GAIN:
        known = ", ".join([*RECOMMENDED_GAIN, "leaky_relu"])
        raise ValueError(f"the literature gives no gain for {function.name}: give a number (known: {known})")
    return RECOMMENDED_GAIN[function.name]


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

    def of_biases(self) -> Initializer | None:
        """Return the initializer that ``bias`` names; raises ValueError where there is none of that name."""
        if self.bias is None:
            return None
        try:
            return make("initializer", INITIALIZERS, self.bias)
        except (TypeError, KeyError) as error:
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


@final
@dataclass(frozen=True, kw_only=True)
class Zeros(Initializer):
    """All weights zero: every unit of a layer stays the same as its neighbours."""

    name: ClassVar[str] = "zeros"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """W = 0."""
        W.fill(0)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return 0."""
        return 0.0


@final
@dataclass(frozen=True, kw_only=True)
class Constant(Initializer):
    """All weights equal."""

    name: ClassVar[str] = "constant"
    value: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("value", self.value)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """W = value."""
        W.fill(self.value)


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


class VarianceScaling(Scaled):
    """Independent entries of mean 0 and standard deviation gain * sqrt(scale / fan).

    ``mode`` is the fan: ``fan_in`` n_in, or ``fan_avg`` (n_in + n_out) / 2; ``distribution`` is ``normal`` or
    ``uniform``, U(-limit, limit) with limit = sqrt(3) std. ``sigma_w`` makes it sigma_w / sqrt(n_in).
    """

    scale: ClassVar[float] = 1.0
    mode: ClassVar[str] = "fan_in"
    distribution: ClassVar[str] = "normal"

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw every entry from the distribution."""
        std = self.weight_std(*W.shape)
        if self.distribution == "normal":
            W[...] = rng.standard_normal(W.shape) * std
        else:
            W[...] = rng.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, W.shape)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return sigma_w / sqrt(n_in) where sigma_w is given, else gain * sqrt(scale / fan)."""
        if self.sigma_w is not None:
            return self.sigma_w / math.sqrt(n_in)
        fan = n_in if self.mode == "fan_in" else (n_in + n_out) / 2
        return self.effective_gain * math.sqrt(self.scale / fan)


@final
class LecunNormal(VarianceScaling):
    """Keep the variance of a linear layer's output: N(0, gain**2 / n_in) (LeCun et al. 1998, section 4.6)."""

    name = "lecun_normal"


@final
class LecunUniform(VarianceScaling):
    """Keep the variance of a linear layer's output, uniform entries (LeCun et al. 1998, section 4.6)."""

    name = "lecun_uniform"
    distribution = "uniform"


@final
class XavierNormal(VarianceScaling):
    """Compromise between both ways: N(0, gain**2 * 2 / (n_in + n_out)) (Glorot & Bengio 2010, section 4.2.1)."""

    name = "xavier_normal"
    mode = "fan_avg"


@final
class XavierUniform(VarianceScaling):
    """Glorot's normalized initialization: variance gain**2 * 2 / (n_in + n_out) (Glorot & Bengio 2010, eq. 16)."""

    name = "xavier_uniform"
    mode = "fan_avg"
    distribution = "uniform"


@final
class HeNormal(VarianceScaling):
    """Keep the second moment through ReLU: N(0, gain**2 / n_in), gain sqrt(2) (He et al. 2015, section 2.2)."""

    name = "he_normal"
    default_gain = math.sqrt(2)


@final
class HeUniform(VarianceScaling):
    """Keep the second moment through ReLU, uniform entries (He et al. 2015, section 2.2)."""

    name = "he_uniform"
    default_gain = math.sqrt(2)
    distribution = "uniform"


@final
class Uniform(VarianceScaling):
    """Draw from U(-gain / sqrt(n_in), gain / sqrt(n_in)), the "standard" of Glorot & Bengio 2010, eq. 1."""

    name = "uniform"
    scale = 1 / 3
    distribution = "uniform"


@final
@dataclass(frozen=True, kw_only=True)
class Normal(Initializer):
    """One standard deviation for every layer: N(0, std**2), or sigma_w / sqrt(n_in) where sigma_w is given.

    (Krizhevsky et al. 2012, section 5, with std 0.01.)

    Attributes
    ----------
    std : float, optional
        The standard deviation; 0.01 where neither is given.
    sigma_w : float, optional
        The standard deviation times sqrt(n_in).
    """

    name: ClassVar[str] = "normal"
    std: float | None = None
    sigma_w: float | None = None
    DEFAULT: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_scale(std=self.std, sigma_w=self.sigma_w)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw from N(0, std**2)."""
        W[...] = rng.standard_normal(W.shape) * self.weight_std(*W.shape)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return std, or sigma_w / sqrt(n_in)."""
        if self.sigma_w is not None:
            return self.sigma_w / math.sqrt(n_in)
        return self.DEFAULT if self.std is None else self.std


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


@final
@dataclass(frozen=True, kw_only=True)
class Identity(Initializer):
    """The identity map times gain, cut or padded with zeros where n_in and n_out differ (Le et al. 2015)."""

    name: ClassVar[str] = "identity"
    gain: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("gain", self.gain)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """W = gain I."""
        W.fill(0)
        np.fill_diagonal(W, self.gain)


@final
class LSUV(Scaled):
    """Layer-sequential unit variance: orthogonal, then every layer scaled until its output has variance 1 on data.

    (Mishkin & Matas 2016, algorithm 1; the scaling is ``bpx.engine.lsuv.scale_to_unit_variance``.)
    """

    name = "lsuv"
    needs_data = True

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw an orthogonal W."""
        Orthogonal(gain=self.gain, sigma_w=self.sigma_w)(rng, W)


@final
@dataclass(frozen=True, kw_only=True)
class MuP(Scaled):
    """Maximal update parametrization: the best learning rate stays where it is at ``base_width``, whatever the width.

    Normal weights of variance gain**2 / n_in, the last layer's times base_width / n_in. Learning rates are multiplied:

    - SGD: the first matrix and all biases by n_out / base_width, the last matrix by base_width / n_in
    - Adam, RMSprop: every matrix but the first by base_width / n_in

    so that at ``base_width`` it is the usual parametrization. (Yang et al. 2021, table 3.)

    Attributes
    ----------
    base_width : int
        The width of hidden layers at which learning rates are as they are given.
    """

    name: ClassVar[str] = "mup"
    default_gain: ClassVar[float] = math.sqrt(2)
    base_width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.base_width >= 1, "initializer.base_width", "at least 1", self.base_width)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Draw every entry of a matrix that is not the last one."""
        W[...] = rng.standard_normal(W.shape) * self.weight_std(*W.shape)

    def of_layer(self, i: int, n: int) -> Initializer:
        """Return itself, for the last of several matrices one of 1 / n_in in place of 1 / sqrt(n_in)."""
        return _MuPOutput(gain=self.effective_gain, base_width=self.base_width) if 0 < i == n - 1 else self

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return sigma_w / sqrt(n_in), or gain / sqrt(n_in)."""
        return (self.effective_gain if self.sigma_w is None else self.sigma_w) / math.sqrt(n_in)

    def rates(self, parameters: ParameterVector, adaptive: bool) -> dict[str, float]:
        """Return the factors of the table above."""
        weights = [p for p in parameters if p.is_weight]
        if len(weights) < 2:
            return {}
        last, base = weights[-1].name.partition(".")[0], self.base_width
        factors = {}
        for p in parameters:
            n_in, n_out = (1, p.size) if len(p.shape) < 2 else p.shape
            if p is weights[-1]:
                factors[p.name] = base / n_in
            elif p.is_weight and p is not weights[0]:
                factors[p.name] = base / n_in if adaptive else n_out / n_in
            elif not adaptive and n_out > 1 and not p.name.startswith(f"{last}."):
                factors[p.name] = n_out / base
        return factors


@dataclass(frozen=True, kw_only=True)
class _MuPOutput(Initializer):
    """The last matrix: standard deviation gain sqrt(base_width) / n_in."""

    name: ClassVar[str] = "mup"
    gain: float
    base_width: int

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        W[...] = rng.standard_normal(W.shape) * (self.gain * math.sqrt(self.base_width) / len(W))


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
        _mirrored(Orthogonal(gain=self.gain, sigma_w=self.sigma_w), rng, W, *(n % 2 == 0 for n in W.shape))

    def of_layer(self, i: int, n: int) -> Initializer:
        """Return the one of this matrix: not mirrored towards the data, nor towards the outputs."""
        return _Mirrored(gain=self.gain, sigma_w=self.sigma_w, inputs=i > 0, outputs=i < n - 1)

    def weight_std(self, n_in: int, n_out: int) -> float:
        """Return the root mean square of an entry between two hidden layers."""
        scale = self.effective_gain if self.sigma_w is None else self.sigma_w
        return scale / math.sqrt(max(n // 2 if n % 2 == 0 else n for n in (n_in, n_out)))


@dataclass(frozen=True, kw_only=True)
class _Mirrored(Scaled):
    """One matrix of LooksLinear."""

    name: ClassVar[str] = "looks_linear"
    inputs: bool
    outputs: bool

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        for n, mirrored in zip(W.shape, (self.inputs, self.outputs), strict=True):
            require(not (mirrored and n % 2), "initializer=looks_linear: hidden widths", "even", n)
        _mirrored(Orthogonal(gain=self.gain, sigma_w=self.sigma_w), rng, W, self.inputs, self.outputs)


def _mirrored(draw: Initializer, rng: np.random.Generator, W: Array, inputs: bool, outputs: bool) -> None:
    n_in, n_out = len(W) // (1 + inputs), W.shape[1] // (1 + outputs)
    V = np.empty((n_in, n_out))
    draw(rng, V)
    V = np.hstack([V, -V]) if outputs else V
    W[...] = np.vstack([V, -V]) if inputs else V


@final
@dataclass(frozen=True, kw_only=True)
class File(Initializer):
    """Weights from a file: an npz or safetensors file of named tensors, ``layer_01.dense.W`` (n_in, n_out) and so on.

    The names are those of ``model.npz`` (before which ``state/`` may stand) and of ``bpx.export``. Every weight matrix
    and bias must be there; scales, shifts and running statistics are taken where they are.
    """

    name: ClassVar[str] = "file"
    path: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.path is not None, "initializer.path", "an npz or safetensors file", self.path)

    def __call__(self, rng: np.random.Generator, W: Array) -> None:
        """Leave W zero: ``assign`` fills it."""
        W.fill(0)

    def assign(self, tensors: Arrays) -> None:
        """Copy the file's tensors; raises ValueError where one is missing or of another shape."""
        assert self.path is not None
        held = read_tensors(self.path)
        for name, tensor in tensors.items():
            if name not in held:
                if name.endswith((".W", ".b")):
                    known = ", ".join(sorted(held)[:6]) + (", ..." if len(held) > 6 else "")
                    raise ValueError(f"initializer.path: {self.path} lacks {name}; it has {known or 'nothing'}")
                continue
            found = held[name]
            if found.shape != tensor.shape or found.dtype.kind != "f" or not np.isfinite(found).all():
                got = f"{found.dtype} {found.shape}" if found.shape != tensor.shape else f"{found.dtype} not all finite"
                raise ValueError(f"initializer.path: {name} in {self.path} must be finite {tensor.shape}, got {got}")
            tensor[...] = found


INITIALIZERS: dict[str, type[Initializer]] = {
    cls.name: cls
    for cls in (
        Zeros, Constant, Normal, Uniform, LecunNormal, LecunUniform, XavierNormal, XavierUniform, HeNormal, HeUniform,
        Orthogonal, Identity, LSUV, MuP, LooksLinear,
    )
}  # fmt: skip
