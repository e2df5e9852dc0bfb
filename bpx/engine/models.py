"""Models: ready-made networks, from names or objects."""

from __future__ import annotations

from collections.abc import Sequence

from bpx.engine.activation import ActivationFunction
from bpx.engine.building import (
    MODELS,
    Model,
    Named,
    NoSettings,
    ResidualSettings,
    build,
    has_bias,
    initialized,
    make_spec,
    normalization,
    unit,
)
from bpx.engine.convolutional import convnet, plain_conv, residual_conv
from bpx.engine.dense import Dense
from bpx.engine.initializers import Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import Loss
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.engine.residual import Residual
from bpx.engine.sequence_models import gru, lstm, rnn
from bpx.engine.spec import NetworkSpec
from bpx.engine.transformer import transformer

__all__ = [
    "MODELS",
    "Model",
    "Named",
    "build",
    "convnet",
    "gru",
    "lstm",
    "mlp",
    "plain_conv",
    "residual_conv",
    "residual_mlp",
    "rnn",
    "transformer",
]


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
    spec = make_spec("mlp", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, NoSettings())
    return initialized(build(spec), initializer, seed)


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
        ``pre``: normalized on the way into a branch; ``post``: after the addition (Xiong et al. 2020).
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
    spec = make_spec("residual_mlp", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


def _plain(spec: NetworkSpec, settings: NoSettings) -> list[Layer]:
    return [block for n in spec.hidden for block in (Dense(n, has_bias(spec)), *unit(spec))]


def _residual(spec: NetworkSpec, settings: ResidualSettings) -> list[Layer]:
    post, groups = settings.norm_position == "post", settings.groups(spec)
    blocks: list[Layer] = [Dense(spec.hidden[0], has_bias(spec))]
    for widths in groups:
        branch = [layer for n in widths for layer in (*unit(spec, not post), Dense(n, has_bias(spec)))]
        blocks += [Residual([*branch, *settings.scale(len(groups))]), *(normalization(spec) if post else [])]
    return [*blocks, *unit(spec, not post)]


MODELS |= {
    "mlp": Model(_plain),
    "residual_mlp": Model(_residual, ResidualSettings, min_depth=1, equal_widths=True),
}
