"""The settings of the network and the initializer of a configuration, checked before the data are loaded."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast, final

from omegaconf import DictConfig

from bpx import engine
from bpx.config.calls import check_call, construct, number
from bpx.engine.building import DEFAULT_DEPTH, DEFAULT_WIDTH
from bpx.engine.initializers import Initializer
from bpx.engine.losses import Loss
from bpx.engine.models import MODELS, Model
from bpx.engine.normalization import NORMALIZATIONS, Normalization, make_normalization
from bpx.system.errors import NoAnswerError, UserError
from bpx.system.text import brief
from bpx.system.tree import plain

MAX_LAYERS = 10_000
SHARED_KEYS = ("_target_", "depth", "width", "hidden")  # of every model


@final
@dataclass(frozen=True)
class NetworkSettings:
    """Arguments of a model that do not depend on the data; ``settings`` holds those that not every model has."""

    hidden: list[int]
    activation: engine.ActivationFunction
    normalization: Normalization | None
    dropout: float
    loss: Loss
    dtype: str
    settings: dict[str, object]

    def arguments(self) -> dict[str, object]:
        """Return the arguments by name."""
        shared = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "settings"}
        return shared | self.settings


def architecture(config: DictConfig, dtype: str, batch_size: int) -> tuple[NetworkSettings, Initializer]:
    """Return the settings of the network and its initializer; raises UserError."""
    activation = cast(engine.ActivationFunction, construct("activation", config.activation))
    rate = number("dropout.rate", config.dropout.rate)
    if not 0 <= rate < 1:
        raise UserError(f"dropout.rate must be in [0, 1), got {rate:g}")
    name = config.dropout.get("name", "inverted")  # older runs have stored no name
    if name not in ("inverted", "none"):
        raise UserError(f"dropout.name must be inverted or none, got {brief(name)}")
    if rate and name == "none":
        raise UserError(f"dropout.rate must be 0 with dropout=none, got {rate:g}: give dropout=inverted too")
    norm = _normalization(config.normalization)
    if norm is not None and norm.over_batch and batch_size == 1:
        raise UserError(f"normalization={norm.method} needs a batch_size of at least 2: one sample is its own mean")
    loss = cast(Loss, construct("loss", config.loss))
    settings = {key: value for key, value in plain(config.model).items() if key not in SHARED_KEYS}
    _, model = model_of(config.model)
    if own := model.activation:
        activation = engine.ACTIVATIONS[own]()
    network = NetworkSettings(hidden_widths(config.model), activation, norm, rate, loss, dtype, settings)
    return network, _initializer(config, activation, rate)


def model_of(node: DictConfig) -> tuple[str, Model]:
    """Return the name and the properties of a model; those of ``mlp`` for a model that is not part of bpx."""
    name = str(node._target_).rpartition(".")[2]
    return name, MODELS.get(name, MODELS["mlp"])


def hidden_widths(model: DictConfig) -> list[int]:
    """Return the hidden layers' widths from model.hidden, or from model.depth and model.width; raises UserError."""
    depth, width, hidden = model.depth, model.width, model.hidden
    widths: list[int]
    name, kind = model_of(model)
    if hidden is not None:
        if depth is not None or width is not None:
            other = "depth" if depth is not None else "width"
            raise UserError(f"give model.hidden or model.{other}, not both: model.{other}=null removes it")
        widths = cast(list[int], [hidden] if isinstance(hidden, (int, float, str)) else list(hidden))
    else:
        for key, value in (("depth", depth), ("width", width)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise UserError(f"model.{key} must be an integer, got {brief(value)}")
        if depth is not None and not kind.min_depth <= depth <= MAX_LAYERS:
            raise UserError(f"model.depth must be between {kind.min_depth} and {MAX_LAYERS:,}, got {brief(depth)}")
        if width is not None and width < 1:
            raise UserError(f"model.width must be at least 1, got {width}")
        widths = [DEFAULT_WIDTH if width is None else width] * (DEFAULT_DEPTH if depth is None else depth)
    for n in widths:
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise UserError(f"model.hidden must be a list of integers of at least 1, got {brief(n)}")
    if len(widths) < kind.min_depth or (kind.equal_widths and len(set(widths)) > 1):
        raise UserError(f"model.hidden must hold at least one width, all equal, for {name}")
    return widths


def _normalization(node: DictConfig) -> Normalization | None:
    """Return the normalization: one of bpx by its ``name``, one of another module by its ``_target_``."""
    if "_target_" in node:
        return cast(Normalization, construct("normalization", node))
    settings = plain(node)
    name = settings.pop("name")
    name = name if name is None else brief(name)  # a list or a number is no name
    if name in NORMALIZATIONS:
        return check_call("normalization", NORMALIZATIONS[name], settings)
    try:
        return make_normalization(name)
    except ValueError as error:
        raise UserError(str(error)) from error


def _initializer(config: DictConfig, activation: engine.ActivationFunction, dropout: float) -> Initializer:
    """Return the initializer, ``gain=auto`` and ``sigma_w=critical`` resolved; raises UserError."""
    node = config.initializer.copy()
    try:
        if node.get("gain") == "auto":
            node.gain = engine.recommended_gain(activation)
        if node.get("sigma_w") == "critical":
            from bpx.theory import critical_sigma_w

            bias = number("initializer.bias_std", node.bias_std)
            try:
                node.sigma_w = critical_sigma_w(activation, bias, keep_prob=1 - dropout)
            except ValueError as error:
                raise NoAnswerError(f"initializer: {error}") from error
    except ValueError as error:
        raise UserError(f"initializer: {error}") from error
    return cast(Initializer, construct("initializer", node))
