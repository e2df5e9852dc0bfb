"""Recurrent models: a plain one, LSTM and GRU, which answer at the last step, or at every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from bpx.engine.activation import ActivationFunction
from bpx.engine.building import MODELS, Model, Named, build, initialized, make_spec
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.gru import GRU
from bpx.engine.initializer import Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import Loss
from bpx.engine.lstm import LSTM
from bpx.engine.network import Network
from bpx.engine.normalization import Normalization
from bpx.engine.numbers import require
from bpx.engine.rectifiers import PReLU
from bpx.engine.recurrent import LastStep, Recurrence, Recurrent
from bpx.engine.spec import NetworkSpec


def rnn(
    n_in: Sequence[int], hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "tanh", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0,
    truncate: int | None = None, recurrent: str = "same", recurrent_scale: float = 1.0, learn_start: bool = False,
    loss_at: str = "last",
) -> Network:  # fmt: skip
    """Build a recurrent network: per hidden layer h_t = phi(Dense(x_t) + h_(t-1) W); then a Dense.

    (Elman 1990; with recurrent=identity and ReLU the IRNN of Le et al. 2015.)

    Parameters
    ----------
    n_in : sequence of int
        Steps and features of a sample.
    hidden : sequence of int
        Units of every recurrent layer.
    n_out, activation, loss, initializer, dtype, seed
        As for ``mlp``.
    normalization : None
        There is none for recurrent layers.
    dropout : float
        The rate at which outputs of a recurrent layer are dropped on their way to the next, not through time
        (Zaremba et al. 2014).
    truncate : int, optional
        The steps that a gradient goes back at most: the sequence is cut into pieces of so many.
    recurrent : str
        How recurrent weights are drawn: ``same`` as the others, ``orthogonal`` or ``identity``.
    recurrent_scale : float
        What they are multiplied by.
    learn_start : bool
        Whether the state before the first step is learned.
    loss_at : str
        ``last``: there is a loss at the last step; ``every``: at every step, and J_i is the mean over them.

    Raises
    ------
    ValueError
        A name is unknown, or a value is out of range.
    """
    settings = RecurrentSettings(truncate, recurrent, recurrent_scale, learn_start, loss_at)
    spec = make_spec("rnn", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


def lstm(
    n_in: Sequence[int], hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "tanh", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0, truncate: int | None = None, recurrent: str = "same",
    recurrent_scale: float = 1.0, learn_start: bool = False, loss_at: str = "last",
    forget_bias: float = 1.0,
) -> Network:  # fmt: skip
    """Build ``rnn`` with LSTM cells.

    (Hochreiter & Schmidhuber 1997; Gers et al. 2000.)

    Parameters
    ----------
    n_in, hidden, n_out, normalization, dropout, loss, initializer, dtype, seed
        As for ``rnn``.
    activation : object, str or mapping
        Not used, and taken as tanh: the gates are sigmoid, the cells tanh.
    truncate, recurrent, recurrent_scale, learn_start, loss_at
        As for ``rnn``; recurrent weights are drawn gate by gate.
    forget_bias : float
        Where the bias of the forget gates starts.

    Raises
    ------
    ValueError
        A name is unknown, or a value is out of range.
    """
    settings = LSTMSettings(truncate, recurrent, recurrent_scale, learn_start, loss_at, forget_bias)
    spec = make_spec("lstm", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


def gru(
    n_in: Sequence[int], hidden: Sequence[int], n_out: int, activation: ActivationFunction | Named = "tanh", *,
    normalization: Normalization | Named | None = "none", dropout: float = 0.0,
    loss: Loss | Named = "softmax_cross_entropy", initializer: Initializer | Named | None = None,
    dtype: str = "float32", seed: int | None = 0,
    truncate: int | None = None, recurrent: str = "same", recurrent_scale: float = 1.0, learn_start: bool = False,
    loss_at: str = "last", update_bias: float = 0.0,
) -> Network:  # fmt: skip
    """Build ``rnn`` with gated recurrent units.

    (Cho et al. 2014.)

    Parameters
    ----------
    n_in, hidden, n_out, normalization, dropout, loss, initializer, dtype, seed
        As for ``rnn``.
    activation : object, str or mapping
        Not used, and taken as tanh: the gates are sigmoid, the candidate tanh.
    truncate, recurrent, recurrent_scale, learn_start, loss_at
        As for ``rnn``; recurrent weights are drawn gate by gate.
    update_bias : float
        Where the bias of the update gates starts, which keep the state as forget gates do.

    Raises
    ------
    ValueError
        A name is unknown, or a value is out of range.
    """
    settings = GRUSettings(truncate, recurrent, recurrent_scale, learn_start, loss_at, update_bias)
    spec = make_spec("gru", n_in, hidden, n_out, activation, normalization, dropout, loss, dtype, settings)
    return initialized(build(spec), initializer, seed)


@dataclass(frozen=True)
class RecurrentSettings:
    """The settings of ``rnn``, and those that all recurrent models have."""

    truncate: int | None = None
    recurrent: str = "same"
    recurrent_scale: float = 1.0
    learn_start: bool = False
    loss_at: str = "last"

    def __post_init__(self) -> None:
        require(self.loss_at in ("last", "every"), "model.loss_at", "last or every", self.loss_at)

    def arguments(self) -> tuple[str, float, int | None, bool]:
        """Return them as a recurrent layer takes them."""
        return self.recurrent, self.recurrent_scale, self.truncate, self.learn_start


@final
@dataclass(frozen=True)
class LSTMSettings(RecurrentSettings):
    """The settings of ``lstm``."""

    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(abs(self.forget_bias) < 1e6, "model.forget_bias", "between -1e6 and 1e6", self.forget_bias)


@final
@dataclass(frozen=True)
class GRUSettings(RecurrentSettings):
    """The settings of ``gru``."""

    update_bias: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(abs(self.update_bias) < 1e6, "model.update_bias", "between -1e6 and 1e6", self.update_bias)


def _layers(
    spec: NetworkSpec,
    settings: RecurrentSettings,
    cell: Callable[[], Recurrent],
    start: Callable[[int], list[float]] = lambda n: [],
) -> list[Layer]:
    if spec.normalization is not None:
        raise ValueError(f"model={spec.model} takes no normalization, got {spec.normalization.method}")
    blocks: list[Layer] = []
    for n in spec.hidden:
        made = cell()
        blocks += [Dense(made.gates * n, bias_start=start(n)), made]
        blocks += [Dropout(spec.dropout)] if spec.dropout else []
    return [*blocks, LastStep()] if settings.loss_at == "last" else blocks


def _rnn(spec: NetworkSpec, settings: RecurrentSettings) -> list[Layer]:
    if isinstance(spec.activation, PReLU):
        raise ValueError("model=rnn takes no activation=prelu: the steps share what a layer learns")
    return _layers(spec, settings, lambda: Recurrence(spec.activation, *settings.arguments()))


def _lstm(spec: NetworkSpec, settings: LSTMSettings) -> list[Layer]:
    return _layers(
        spec,
        settings,
        lambda: LSTM(*settings.arguments()),
        lambda n: [0.0] * n + [settings.forget_bias] * n + [0.0] * 2 * n,
    )


def _gru(spec: NetworkSpec, settings: GRUSettings) -> list[Layer]:
    return _layers(
        spec,
        settings,
        lambda: GRU(*settings.arguments()),
        lambda n: [0.0] * n + [settings.update_bias] * n + [0.0] * n if settings.update_bias else [],
    )


MODELS |= {
    "rnn": Model(_rnn, RecurrentSettings, takes="tokens", family="recurrent", min_depth=1),
    "lstm": Model(_lstm, LSTMSettings, takes="tokens", family="recurrent", min_depth=1, activation="tanh"),
    "gru": Model(_gru, GRUSettings, takes="tokens", family="recurrent", min_depth=1, activation="tanh"),
}
