"""Models: ready-made networks, from names or objects."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, final

import numpy as np

from bpx.engine.activations import ACTIVATIONS, ActivationFunction
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.initializers import INITIALIZERS, HeNormal, Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import LOSSES, Loss
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization, make_normalization
from bpx.engine.numbers import require
from bpx.engine.parts import make
from bpx.engine.residual import Residual
from bpx.engine.scale import Scale
from bpx.engine.spec import NetworkSpec

Named = str | Mapping[str, object]  # a registered part: its name, or {"name": ..., settings}


def mlp(
    n_in: int, hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "relu", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0,
) -> Network:  # fmt: skip
    """Build a multilayer perceptron: per hidden layer Dense, normalization, activation, dropout; then a Dense.

    Parameters
    ----------
    n_in, n_out : int
        Widths of input and output.
    hidden : sequence of int
        Widths of the hidden layers.
    activation, loss, initializer : object, str or mapping
        The part, its name, or a mapping of its name and settings; the default initializer is he_normal.
    normalization : object, str, mapping or None
        Likewise: ``none``, ``batch``, ``layer`` or ``rms``.
    dropout : float
        The rate at which units are dropped after every activation.
    dtype : str
        ``float32`` or ``float64``.
    seed : int or None
        Seed of the initializer; None leaves all weights zero.

    Raises
    ------
    ValueError
        A name is unknown, or a value is out of range.
    """
    spec = _spec("mlp", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, NoSettings())
    return _initialized(build(spec), initializer, seed)


def residual_mlp(
    n_in: int, hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "relu", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0,
    norm_position: str = "pre", branch_scale: str = "one", layers_per_branch: int = 1,
) -> Network:  # fmt: skip
    """Build a perceptron with shortcuts: z1 = Dense(x), z_l = z_(l-1) + Dense(phi(norm(z_(l-1)))), then the output.

    All hidden widths must be equal (He et al. 2016, pre-activation).

    Parameters
    ----------
    n_in, hidden, n_out, activation, normalization, dropout, loss, initializer, dtype, seed
        As for ``mlp``.
    norm_position : str
        ``pre``: normalized on the way into a branch; ``post``: behind the addition (Xiong et al. 2020).
    branch_scale : str
        What a branch is multiplied by: ``one``; ``inv_sqrt``, 1 / sqrt(L), L the number of branches; ``zero``, a
        learned number that starts at zero (De & Smith 2020, SkipInit).
    layers_per_branch : int
        Hidden layers in each branch: norm, phi and Dense so many times.

    Raises
    ------
    ValueError
        A name is unknown, or a value is out of range.
    """
    settings = ResidualSettings(norm_position, branch_scale, layers_per_branch)
    spec = _spec("residual_mlp", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return _initialized(build(spec), initializer, seed)


@final
@dataclass(frozen=True)
class NoSettings:
    """The settings of a model that has none."""


@dataclass(frozen=True)
class ResidualSettings:
    """The choices that a model with residual branches leaves open; see ``residual_mlp``."""

    norm_position: str = "pre"
    branch_scale: str = "one"
    layers_per_branch: int = 1

    def __post_init__(self) -> None:
        require(self.norm_position in ("pre", "post"), "model.norm_position", "pre or post", self.norm_position)
        scales = ("one", "inv_sqrt", "zero")
        require(self.branch_scale in scales, "model.branch_scale", "one, inv_sqrt or zero", self.branch_scale)
        require(self.layers_per_branch >= 1, "model.layers_per_branch", "at least 1", self.layers_per_branch)

    def scale(self, branches: int) -> list[Layer]:
        """Return the end of each of so many branches."""
        if self.branch_scale == "one":
            return []
        return [Scale(None if self.branch_scale == "zero" else 1 / math.sqrt(branches))]


def _plain(spec: NetworkSpec, settings: NoSettings) -> list[Layer]:
    return [block for n in spec.hidden for block in (Dense(n, has_bias(spec)), *unit(spec))]


def _residual(spec: NetworkSpec, settings: ResidualSettings) -> list[Layer]:
    inside, each = spec.hidden[1:], settings.layers_per_branch
    if len(inside) % each:
        raise ValueError(
            f"model.layers_per_branch must divide the {len(inside)} hidden layers behind the first, got {each}"
        )
    post = settings.norm_position == "post"
    if post and spec.normalization is None:
        raise ValueError("model.norm_position=post needs a normalization: give normalization=layer, for instance")
    blocks: list[Layer] = [Dense(spec.hidden[0], has_bias(spec))]
    for start in range(0, len(inside), each):
        branch = [
            layer for n in inside[start : start + each] for layer in (*unit(spec, not post), Dense(n, has_bias(spec)))
        ]
        blocks += [Residual([*branch, *settings.scale(len(inside) // each)]), *(normalization(spec) if post else [])]
    return [*blocks, *unit(spec, not post)]


def normalization(spec: NetworkSpec) -> list[Layer]:
    """Return a new normalization of ``spec``, or nothing."""
    return [copy.deepcopy(spec.normalization)] if spec.normalization else []


def unit(spec: NetworkSpec, normalized: bool = True) -> list[Layer]:
    """Return what stands behind a Dense: the normalization, the activation, dropout."""
    dropout = [Dropout(spec.dropout)] if spec.dropout else []
    return [*(normalization(spec) if normalized else []), spec.activation.layer(), *dropout]


def has_bias(spec: NetworkSpec) -> bool:
    """Return whether the hidden layers have biases: a normalization's shift makes them redundant."""
    return spec.normalization is None or not spec.normalization.has_shift


@final
@dataclass(frozen=True)
class Model:
    """How a model is made of hidden layers.

    Attributes
    ----------
    blocks : callable
        Returns the blocks of a spec before the output layer, given the model's settings; raises ValueError.
    settings : type
        Of those settings: a dataclass.
    min_depth : int
        The fewest hidden layers.
    equal_widths : bool
        Whether all hidden layers must be of one width.
    """

    blocks: Callable[[NetworkSpec, Any], list[Layer]]
    settings: type = NoSettings
    min_depth: int = 0
    equal_widths: bool = False


MODELS = {
    "mlp": Model(_plain),
    "residual_mlp": Model(_residual, ResidualSettings, min_depth=1, equal_widths=True),
}


def build(spec: NetworkSpec) -> Network:
    """Build the network of ``spec``, its weights zero; raises ValueError where a name or a setting is unknown."""
    if spec.model not in MODELS:
        raise ValueError(f"unknown model {spec.model!r}: known are {', '.join(MODELS)}")
    model = MODELS[spec.model]
    known = [field.name for field in fields(model.settings)]
    if unknown := set(spec.settings) - set(known):
        raise ValueError(f"unknown setting {min(unknown)!r} of {spec.model}: known are {', '.join(known) or 'none'}")
    blocks = [*model.blocks(spec, model.settings(**spec.settings)), Dense(spec.n_out)]
    net = Network(spec.n_in, blocks, spec.loss.replica(), spec.dtype)
    net.spec = spec
    return net


def _spec(
    model: str,
    n_in: int,
    hidden: Sequence[int],
    n_out: int,
    activation: ActivationFunction | Named,
    normalization: Normalization | Named | None,
    dropout: float,
    loss: Loss | Named,
    dtype: str,
    settings: Any,
) -> NetworkSpec:
    if np.ndim(hidden) != 1:
        raise ValueError(f"hidden must list the widths, for instance [50, 50], got {hidden!r}")
    return NetworkSpec(
        model=model,
        n_in=n_in,
        hidden=tuple(int(n) for n in hidden),
        n_out=n_out,
        activation=make("activation", ACTIVATIONS, activation),
        normalization=make_normalization(normalization),
        dropout=dropout,
        loss=make("loss", LOSSES, loss),
        dtype=dtype,
        settings=asdict(settings),
    )


def _initialized(net: Network, initializer: Initializer | Named | None, seed: int | None) -> Network:
    if seed is not None:
        chosen = HeNormal() if initializer is None else make("initializer", INITIALIZERS, initializer)
        net.initialize(chosen, np.random.default_rng(seed))
    return net
