"""What all models are built with: the table of models, and the parts of a spec as layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, final

import numpy as np

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.initializers import INITIALIZERS, HeNormal, Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import LOSSES, Loss
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization, make_normalization
from bpx.engine.numbers import require
from bpx.engine.parts import make
from bpx.engine.scale import Scale
from bpx.engine.spec import NetworkSpec

DEFAULT_DEPTH, DEFAULT_WIDTH = 2, 100  # hidden layers and their width, where a configuration gives neither
Named = str | Mapping[str, object]  # a registered part: its name, or {"name": ..., settings}


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

    def check(self, spec: NetworkSpec) -> None:
        """Raise ValueError where there is no normalization that could stand after the additions."""
        if self.norm_position == "post" and spec.normalization is None:
            raise ValueError("model.norm_position=post needs a normalization: give normalization=layer, for instance")

    def groups(self, spec: NetworkSpec) -> list[tuple[int, ...]]:
        """Return the widths inside every branch: the hidden layers after the first, in groups; raises ValueError."""
        self.check(spec)
        inside, each = spec.hidden[1:], self.layers_per_branch
        if len(inside) % each:
            raise ValueError(
                f"model.layers_per_branch must divide the {len(inside)} hidden layers after the first, got {each}"
            )
        return [inside[i : i + each] for i in range(0, len(inside), each)]

    def scale(self, branches: int) -> list[Layer]:
        """Return the end of each of so many branches."""
        if self.branch_scale == "one":
            return []
        return [Scale(None if self.branch_scale == "zero" else 1 / math.sqrt(branches))]


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
    family : str
        ``dense``, ``convolutional``, ``recurrent`` or ``attention``: a remedy stays within it.
    min_depth : int
        The fewest hidden layers.
    takes : str
        What samples are: ``rows``, ``images``, or ``tokens``: the rows of an image, or the steps of a sequence.
    equal_widths : bool
        Whether all hidden layers must be of one width.
    activation : str or None
        The activation that its layers have whatever is chosen; None where it can be chosen.
    """

    blocks: Callable[[NetworkSpec, Any], list[Layer]]
    settings: type = NoSettings
    takes: str = "rows"
    family: str = "dense"
    min_depth: int = 0
    equal_widths: bool = False
    activation: str | None = None


MODELS: dict[str, Model] = {}  # filled by the files of the models


def build(spec: NetworkSpec, max_size: int | None = None) -> Network:
    """Build the network of ``spec``, its weights zero.

    Raises ValueError where a name or a setting is unknown, or there are more than ``max_size`` parameters.
    """
    if spec.model not in MODELS:
        raise ValueError(f"unknown model {spec.model!r}: known are {', '.join(MODELS)}")
    model = MODELS[spec.model]
    known = [field.name for field in fields(model.settings)]
    if unknown := set(spec.settings) - set(known):
        raise ValueError(f"unknown setting {min(unknown)!r} of {spec.model}: known are {', '.join(known) or 'none'}")
    blocks = [*model.blocks(spec, model.settings(**spec.settings)), Dense(spec.n_out)]
    net = Network(spec.n_in, blocks, spec.loss.replica(), spec.dtype, max_size)
    if len(net.out_shape) > 1 and spec.settings.get("loss_at") != "every":
        raise ValueError(f"the last layer must leave no positions, got outputs of shape {net.out_shape}")
    net.spec = spec
    return net


def make_spec(
    model: str,
    n_in: int | Sequence[int],
    hidden: Sequence[int],
    n_out: int,
    activation: ActivationFunction | Named,
    normalization: Normalization | Named | None,
    dropout: float,
    loss: Loss | Named,
    dtype: str,
    settings: Any,
) -> NetworkSpec:
    """Return the spec of a model, its parts made of their names; raises ValueError."""
    if np.ndim(hidden) != 1:
        raise ValueError(f"hidden must list the widths, for instance [50, 50], got {hidden!r}")
    return NetworkSpec(
        model=model,
        n_in=n_in if isinstance(n_in, int) else tuple(int(n) for n in n_in),
        hidden=tuple(int(n) for n in hidden),
        n_out=n_out,
        activation=make("activation", ACTIVATIONS, MODELS[model].activation or activation),
        normalization=make_normalization(normalization),
        dropout=dropout,
        loss=make("loss", LOSSES, loss),
        dtype=dtype,
        settings=asdict(settings),
    )


def initialized(net: Network, initializer: Initializer | Named | None, seed: int | None) -> Network:
    """Return ``net``, its weights drawn where there is a seed."""
    if seed is not None:
        chosen = HeNormal() if initializer is None else make("initializer", INITIALIZERS, initializer)
        net.initialize(chosen, np.random.default_rng(seed))
    return net


def normalization(spec: NetworkSpec) -> list[Layer]:
    """Return a new normalization of ``spec``, or nothing."""
    return [copy.deepcopy(spec.normalization)] if spec.normalization else []


def unit(spec: NetworkSpec, normalized: bool = True) -> list[Layer]:
    """Return what stands after a Dense: the normalization, the activation, dropout."""
    dropout = [Dropout(spec.dropout)] if spec.dropout else []
    return [*(normalization(spec) if normalized else []), spec.activation.layer(), *dropout]


def has_bias(spec: NetworkSpec) -> bool:
    """Return whether the hidden layers have biases: a normalization's shift makes them redundant."""
    return spec.normalization is None or not spec.normalization.has_shift
