"""Models: ready-made networks, from names or objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from bpx.engine.activations import ACTIVATIONS, Activation, ActivationFunction
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.initializers import INITIALIZERS, HeNormal, Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import LOSSES, Loss
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization, make_normalization
from bpx.engine.parts import make
from bpx.engine.residual import Residual
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
    spec = _spec("mlp", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype)
    return _initialized(build(spec), initializer, seed)


def residual_mlp(
    n_in: int, hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "relu", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0,
) -> Network:  # fmt: skip
    """Build a perceptron with shortcuts: z1 = Dense(x), z_l = z_(l-1) + Dense(phi(norm(z_(l-1)))), then the output.

    The parameters are those of ``mlp``; all hidden widths must be equal (He et al. 2016, pre-activation).
    """
    spec = _spec("residual_mlp", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype)
    return _initialized(build(spec), initializer, seed)


def _plain(widths: Sequence[int], unit: Callable[[], list[Layer]], bias: bool) -> list[Layer]:
    return [block for n in widths for block in (Dense(n, bias), *unit())]


def _residual(widths: Sequence[int], unit: Callable[[], list[Layer]], bias: bool) -> list[Layer]:
    blocks = [Residual([*unit(), Dense(n, bias)]) for n in widths[1:]]
    return [Dense(widths[0], bias), *blocks, *unit()] if widths else []


@final
@dataclass(frozen=True)
class Model:
    """How a model is made of hidden layers.

    Attributes
    ----------
    blocks : callable
        Returns the blocks for the hidden widths, given what makes the layers after a Dense, and whether it has a bias.
    min_depth : int
        The fewest hidden layers.
    equal_widths : bool
        Whether all hidden layers must be of one width.
    """

    blocks: Callable[[Sequence[int], Callable[[], list[Layer]], bool], list[Layer]]
    min_depth: int = 0
    equal_widths: bool = False


MODELS = {"mlp": Model(_plain), "residual_mlp": Model(_residual, min_depth=1, equal_widths=True)}


def build(spec: NetworkSpec) -> Network:
    """Build the network of ``spec``, its weights zero; raises ValueError where a name is unknown."""
    if spec.model not in MODELS:
        raise ValueError(f"unknown model {spec.model!r}: known are {', '.join(MODELS)}")
    norm = spec.normalization

    def unit() -> list[Layer]:
        return [
            *([copy.deepcopy(norm)] if norm else []),
            Activation(spec.activation),
            *([Dropout(spec.dropout)] if spec.dropout else []),
        ]

    bias = norm is None or not norm.has_shift  # a shift of its own makes the bias before it redundant
    blocks = [*MODELS[spec.model].blocks(spec.hidden, unit, bias), Dense(spec.n_out)]
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
    )


def _initialized(net: Network, initializer: Initializer | Named | None, seed: int | None) -> Network:
    if seed is not None:
        chosen = HeNormal() if initializer is None else make("initializer", INITIALIZERS, initializer)
        net.initialize(chosen, np.random.default_rng(seed))
    return net
