"""Models: ready-made networks, from names or objects, and back from their JSON description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from bpx.engine.activations import ACTIVATIONS, Activation, ActivationFunction
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.initializers import INITIALIZERS, HeNormal, Initializer
from bpx.engine.layer import Layer
from bpx.engine.losses import LOSSES, Loss
from bpx.engine.network import Network
from bpx.engine.normalization import BatchNorm, LayerNorm, RMSNorm
from bpx.engine.residual import Residual

NORMALIZATIONS: dict[str, Callable[[], Layer]] = {"batch": BatchNorm, "layer": LayerNorm, "rms": RMSNorm}
_SHIFTING = ("batch", "layer")  # they have a shift of their own, so the Dense before needs no bias


def _make(kind: str, registry: Mapping[str, Any], given: Any) -> Any:
    """Return an object of a registry: as given, by its name, or by {"name": ..., settings}."""
    if is_dataclass(given):
        return given
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.pop("name")
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}: known are {', '.join(registry)}")
    return registry[name](**settings)


def mlp(
    n_in: int,
    hidden: Sequence[int],
    n_out: int,
    activation: str | ActivationFunction = "relu",
    *,
    normalization: str = "none",
    dropout: float = 0.0,
    loss: str | Loss = "softmax_cross_entropy",
    initializer: str | Initializer | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> Network:
    """Build a multilayer perceptron: per hidden layer Dense, normalization, activation, dropout; then a Dense.

    ``hidden`` lists the widths; the default initializer is he_normal. Raises ValueError where a name is unknown.
    """
    return _assemble("mlp", locals())


def residual_mlp(
    n_in: int,
    hidden: Sequence[int],
    n_out: int,
    activation: str | ActivationFunction = "relu",
    *,
    normalization: str = "none",
    dropout: float = 0.0,
    loss: str | Loss = "softmax_cross_entropy",
    initializer: str | Initializer | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> Network:
    """Build a perceptron with shortcuts: z1 = Dense(x), z_l = z_(l-1) + Dense(phi(norm(z_(l-1)))), then the output.

    All hidden widths must be equal (He et al. 2016, pre-activation).
    """
    return _assemble("residual_mlp", locals())


def _plain(widths: Sequence[int], unit: Callable[[], list[Layer]], bias: bool) -> list[Layer]:
    return [block for n in widths for block in (Dense(n, bias), *unit())]


def _residual(widths: Sequence[int], unit: Callable[[], list[Layer]], bias: bool) -> list[Layer]:
    blocks = [Residual([*unit(), Dense(n, bias)]) for n in widths[1:]]
    return [Dense(widths[0], bias), *blocks, *unit()] if widths else []


MODELS: dict[str, Callable[[Sequence[int], Callable[[], list[Layer]], bool], list[Layer]]] = {
    "mlp": _plain,
    "residual_mlp": _residual,
}


def _assemble(model: str, given: dict[str, Any]) -> Network:
    function: ActivationFunction = _make("activation", ACTIVATIONS, given["activation"])
    loss: Loss = _make("loss", LOSSES, given["loss"])
    normalization, rate = given["normalization"], given["dropout"]
    if normalization not in ("none", *NORMALIZATIONS):
        raise ValueError(f"unknown normalization {normalization!r}: known are none, {', '.join(NORMALIZATIONS)}")

    def unit() -> list[Layer]:
        norm = [NORMALIZATIONS[normalization]()] if normalization != "none" else []
        return [*norm, Activation(function), *([Dropout(rate)] if rate else [])]

    if np.ndim(given["hidden"]) != 1:
        raise ValueError(f"hidden lists the widths, [50, 50] for instance, got {given['hidden']!r}")
    hidden = [int(n) for n in given["hidden"]]
    blocks = [*MODELS[model](hidden, unit, normalization not in _SHIFTING), Dense(given["n_out"])]
    net = Network(given["n_in"], blocks, loss, given["dtype"])
    net.spec = {
        "model": model,
        "n_in": given["n_in"],
        "hidden": hidden,
        "n_out": given["n_out"],
        "activation": {"name": function.name, **asdict(function)},  # type: ignore[call-overload]
        "normalization": normalization,
        "dropout": rate,
        "loss": {"name": loss.name, **asdict(loss)},  # type: ignore[call-overload]
        "dtype": given["dtype"],
    }
    if given.get("seed") is not None:
        initializer = given["initializer"]
        rng = np.random.default_rng(given["seed"])
        net.initialize(HeNormal() if initializer is None else _make("initializer", INITIALIZERS, initializer), rng)
    return net


def from_spec(spec: dict[str, Any]) -> Network:
    """Build the network that ``spec`` describes, its weights zero; raises ValueError where it is no such thing."""
    if spec.get("model") not in MODELS:
        raise ValueError(f"unknown model {spec.get('model')!r}: known are {', '.join(MODELS)}")
    return _assemble(spec["model"], spec)
