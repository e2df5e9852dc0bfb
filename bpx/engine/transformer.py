"""The encoder of a transformer, with a mean over the tokens at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from bpx.engine.activation import ActivationFunction
from bpx.engine.attention import Attention, Positions
from bpx.engine.building import (
    MODELS,
    Model,
    Named,
    ResidualSettings,
    build,
    initialized,
    make_spec,
    normalization,
    unit,
)
from bpx.engine.dense import Dense
from bpx.engine.initializers import Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import Loss
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.engine.numbers import require
from bpx.engine.pooling import MeanPositions
from bpx.engine.residual import Residual
from bpx.engine.spec import NetworkSpec


def transformer(
    n_in: Sequence[int], hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "relu", *,
    normalization: Normalization | Named | None = "layer", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0, heads: int = 4, feed_forward: int = 4,
    norm_position: str = "pre", branch_scale: str = "one",
) -> Network:  # fmt: skip
    """Build an encoder: tokens as vectors plus learned positions, blocks of attention and two Dense, mean over tokens.

    A block is h + attention(norm(h)), then h + Dense(phi(Dense(norm(h)))); with ``norm_position=post`` norm(h + ...).
    (Vaswani et al. 2017, section 3; Xiong et al. 2020.)

    Parameters
    ----------
    n_in : sequence of int
        Tokens and their features.
    hidden : sequence of int
        Widths of the blocks, all equal.
    n_out, activation, normalization, dropout, loss, initializer, dtype, seed
        As for ``mlp``; dropout acts after the activation.
    heads : int
        Heads of attention, which divide the width.
    feed_forward : int
        Width inside the second half of a block over that of the tokens.
    norm_position, branch_scale : str
        As for ``residual_mlp``; a block has two branches.

    Raises
    ------
    ValueError
        A name is unknown, a value is out of range, or the heads do not divide the width.
    """
    settings = TransformerSettings(heads, feed_forward, norm_position, branch_scale)
    spec = make_spec("transformer", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


@final
@dataclass(frozen=True)
class TransformerSettings:
    """The settings of ``transformer``."""

    heads: int = 4
    feed_forward: int = 4
    norm_position: str = "pre"
    branch_scale: str = "one"

    def __post_init__(self) -> None:
        ResidualSettings(self.norm_position, self.branch_scale)
        require(self.heads >= 1, "model.heads", "at least 1", self.heads)
        require(self.feed_forward >= 1, "model.feed_forward", "at least 1", self.feed_forward)


def _transformer(spec: NetworkSpec, settings: TransformerSettings) -> list[Layer]:
    d, post = spec.hidden[0], settings.norm_position == "post"
    if d % settings.heads:
        raise ValueError(f"model.heads must divide model.width {d}, got {settings.heads}")
    residual = ResidualSettings(settings.norm_position, settings.branch_scale)
    residual.check(spec)
    blocks: list[Layer] = [Dense(d), Positions()]
    for _ in spec.hidden:
        attention = [Dense(3 * d), Attention(settings.heads), Dense(d)]
        feed_forward = [Dense(settings.feed_forward * d), *unit(spec, normalized=False), Dense(d)]
        for branch in (attention, feed_forward):
            inside = [*normalization(spec), *branch] if not post else branch
            blocks.append(Residual([*inside, *residual.scale(2 * len(spec.hidden))]))
            blocks += normalization(spec) if post else []
    return [*blocks, *(normalization(spec) if not post else []), MeanPositions()]


MODELS["transformer"] = Model(
    _transformer, TransformerSettings, takes="tokens", family="attention", min_depth=1, equal_widths=True
)
