"""Convolutional models: LeNet, plain stacks of equal layers, and residual ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

from bpx.engine.activation import ActivationFunction
from bpx.engine.building import (
    MODELS,
    Model,
    Named,
    ResidualSettings,
    build,
    has_bias,
    initialized,
    make_spec,
    normalization,
    unit,
)
from bpx.engine.convolution import Convolution
from bpx.engine.dense import Dense
from bpx.engine.initializers import Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import Loss
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.engine.numbers import require
from bpx.engine.pooling import Flatten, MaxPool, MeanPool, MeanPositions
from bpx.engine.residual import Residual
from bpx.engine.spec import NetworkSpec

POOLING = {"max": MaxPool, "mean": MeanPool}


def convnet(
    n_in: Sequence[int], hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "relu", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0,
    channels: Sequence[int] = (6, 16), kernel: int | None = None, pool: str = "max",
) -> Network:  # fmt: skip
    """Build LeNet: convolutions, each followed by pooling over 2 x 2 pixels, then Dense layers.

    The first convolution keeps the size of the image, the others lose kernel - 1 pixels a side. (LeCun et al. 1998.)

    Parameters
    ----------
    n_in : sequence of int
        Height, width and channels of an image.
    hidden : sequence of int
        Widths of the Dense layers after the convolutions; 120 and 84 in LeNet-5.
    n_out, activation, normalization, dropout, loss, initializer, dtype, seed
        As for ``mlp``; a batch normalization of a convolution is by channel.
    channels : sequence of int
        Channels of the convolutions.
    kernel : int, optional
        Height and width of their kernels, odd; 5 unless given, as in LeNet-5, or 3 or 1 where 5 is too large for the
        images.
    pool : str
        ``max`` or ``mean``.

    Raises
    ------
    ValueError
        A name is unknown, a value is out of range, or a kernel is larger than the image that reaches it.
    """
    settings = ConvnetSettings(list(channels), fitting_kernel(n_in, len(channels)) if kernel is None else kernel, pool)
    spec = make_spec("convnet", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


def plain_conv(
    n_in: Sequence[int], hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "relu", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0, kernel: int = 3, stride: int = 1,
) -> Network:  # fmt: skip
    """Build a plain stack of convolutions that keep the size of the image, then the mean over all pixels and a Dense.

    (Xiao et al. 2018, section 3.)

    Parameters
    ----------
    n_in : sequence of int
        Height, width and channels of an image.
    hidden : sequence of int
        Channels of the convolutions.
    n_out, activation, normalization, dropout, loss, initializer, dtype, seed
        As for ``mlp``; a batch normalization is by channel.
    kernel : int
        Height and width of the kernels, odd.
    stride : int
        Of the first convolution: 2 makes all images half as large.

    Raises
    ------
    ValueError
        A name is unknown, or a value is out of range.
    """
    settings = ConvSettings(kernel, stride)
    spec = make_spec("plain_conv", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


def residual_conv(
    n_in: Sequence[int], hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "relu", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0, kernel: int = 3, stride: int = 1,
    norm_position: str = "pre", branch_scale: str = "one", layers_per_branch: int = 1,
) -> Network:  # fmt: skip
    """Build ``plain_conv`` with shortcuts around every ``layers_per_branch`` convolutions but the first.

    (He et al. 2016, pre-activation.)

    Parameters
    ----------
    n_in, hidden, n_out, activation, normalization, dropout, loss, initializer, dtype, seed, kernel, stride
        As for ``plain_conv``; all convolutions must have the same number of channels.
    norm_position, branch_scale, layers_per_branch
        As for ``residual_mlp``.

    Raises
    ------
    ValueError
        A name is unknown, or a value is out of range.
    """
    settings = ResidualConvSettings(norm_position, branch_scale, layers_per_branch, kernel, stride)
    spec = make_spec("residual_conv", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


@final
@dataclass(frozen=True)
class ConvnetSettings:
    """The settings of ``convnet``."""

    channels: Sequence[int] = field(default_factory=lambda: [6, 16])
    kernel: int = 5
    pool: str = "max"

    def __post_init__(self) -> None:
        _require_kernel(self.kernel)
        require(self.pool in POOLING, "model.pool", " or ".join(POOLING), self.pool)
        valid = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in self.channels)
        require(valid and len(self.channels) > 0, "model.channels", "a list of integers of at least 1", self.channels)


@final
@dataclass(frozen=True)
class ConvSettings:
    """The settings of ``plain_conv``."""

    kernel: int = 3
    stride: int = 1

    def __post_init__(self) -> None:
        _require_kernel(self.kernel)
        require(self.stride >= 1, "model.stride", "at least 1", self.stride)


@final
@dataclass(frozen=True)
class ResidualConvSettings(ResidualSettings):
    """The settings of ``residual_conv``."""

    kernel: int = 3
    stride: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        ConvSettings(self.kernel, self.stride)


def fitting_kernel(shape: Sequence[int], convolutions: int) -> int:
    """Return 5, or the largest odd kernel below it that leaves pixels after all ``convolutions`` and their poolings."""
    for kernel in (5, 3):
        side = min(shape[:2])
        fits = kernel <= side
        for i in range(convolutions):
            side = (side if i == 0 else side - kernel + 1) // 2
        if fits and side >= 1:
            return kernel
    return 1


def _require_kernel(kernel: int) -> None:
    require(kernel >= 1 and kernel % 2 == 1, "model.kernel", "an odd number of at least 1", kernel)


def _convnet(spec: NetworkSpec, settings: ConvnetSettings) -> list[Layer]:
    blocks: list[Layer] = []
    for i, n in enumerate(settings.channels):
        padding = settings.kernel // 2 if i == 0 else 0
        convolution = Convolution(n, settings.kernel, 1, padding, has_bias(spec))
        blocks += [convolution, *unit(spec), POOLING[settings.pool](2)]
    dense = [layer for n in spec.hidden for layer in (Dense(n, has_bias(spec)), *unit(spec))]
    return [*blocks, Flatten(), *dense]


def _plain_conv(spec: NetworkSpec, settings: ConvSettings) -> list[Layer]:
    blocks: list[Layer] = []
    for i, n in enumerate(spec.hidden):
        blocks += [_same(n, settings, 1 if i else settings.stride, spec), *unit(spec)]
    return [*blocks, MeanPositions()]


def _residual_conv(spec: NetworkSpec, settings: ResidualConvSettings) -> list[Layer]:
    post = settings.norm_position == "post"
    blocks: list[Layer] = [_same(spec.hidden[0], settings, settings.stride, spec)]
    groups = settings.groups(spec)
    for widths in groups:
        branch = [layer for n in widths for layer in (*unit(spec, not post), _same(n, settings, 1, spec))]
        blocks += [Residual([*branch, *settings.scale(len(groups))]), *(normalization(spec) if post else [])]
    return [*blocks, *unit(spec, not post), MeanPositions()]


def _same(n: int, settings: ConvSettings | ResidualConvSettings, stride: int, spec: NetworkSpec) -> Layer:
    """Return a convolution that keeps the size of the image, but for its stride."""
    return Convolution(n, settings.kernel, stride, settings.kernel // 2, has_bias(spec))


MODELS |= {
    "convnet": Model(_convnet, ConvnetSettings, takes="images", family="convolutional"),
    "plain_conv": Model(_plain_conv, ConvSettings, takes="images", family="convolutional", min_depth=1),
    "residual_conv": Model(
        _residual_conv, ResidualConvSettings, takes="images", family="convolutional", min_depth=1, equal_widths=True
    ),
}
