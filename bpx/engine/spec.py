"""NetworkSpec: what a network is made of, as a value that can be written as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, final

from bpx.engine.activations import ACTIVATIONS, ActivationFunction
from bpx.engine.losses import LOSSES, Loss

T = TypeVar("T")


@final
@dataclass(frozen=True)
class NetworkSpec:
    """The architecture of a network that ``mlp`` or ``residual_mlp`` builds; the weights are not part of it.

    Attributes
    ----------
    model : name of the model, ``mlp`` or ``residual_mlp``
    n_in, n_out : widths of input and output
    hidden : widths of the hidden layers
    activation : the activation function of every hidden layer
    normalization : ``none``, ``batch``, ``layer`` or ``rms``
    dropout : rate of the dropout after every activation
    loss : the loss of the outputs
    dtype : ``float32`` or ``float64``
    """

    model: str
    n_in: int
    hidden: tuple[int, ...]
    n_out: int
    activation: ActivationFunction
    normalization: str
    dropout: float
    loss: Loss
    dtype: str

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as plain JSON: the activation and the loss as their names with their settings."""
        parts = {"hidden": list(self.hidden), "activation": _describe(self.activation), "loss": _describe(self.loss)}
        return {field.name: getattr(self, field.name) for field in fields(self)} | parts

    @staticmethod
    def from_dict(description: Mapping[str, Any]) -> NetworkSpec:
        """Return the spec that ``as_dict`` described; raises ValueError, KeyError or TypeError where it is invalid."""
        values = {field.name: description[field.name] for field in fields(NetworkSpec)}
        values["hidden"] = tuple(values["hidden"])
        values["activation"] = make("activation", ACTIVATIONS, values["activation"])
        values["loss"] = make("loss", LOSSES, values["loss"])
        return NetworkSpec(**values)


def make(kind: str, registry: Mapping[str, type[T]], given: T | str | Mapping[str, Any]) -> T:
    """Return an object of a registry: as given, by its name, or by a mapping of its name and settings.

    Raises ValueError where the name is unknown.
    """
    if not isinstance(given, (str, Mapping)):
        return given
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.pop("name")
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}: known are {', '.join(registry)}")
    return registry[name](**settings)


def _describe(part: Any) -> dict[str, Any]:
    return {"name": part.name} | {field.name: getattr(part, field.name) for field in fields(part)}
