"""NetworkSpec: what a network is made of, as a value that can be written as JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import final

from bpx.engine.activation import ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.losses import LOSSES, Loss
from bpx.engine.normalization import NORMALIZATIONS, Normalization, make_normalization
from bpx.engine.parts import Json, describe, own_modules, restore


@final
@dataclass(frozen=True)
class NetworkSpec:
    """The architecture of a network that a model of ``bpx.engine.models`` builds; the weights are not part of it.

    Attributes
    ----------
    model : name of the model, ``mlp`` for instance
    n_in, n_out : widths of input and output; for samples with positions n_in is (*positions, features)
    hidden : widths of the hidden layers
    activation : the activation function of every hidden layer
    normalization : the normalization of every hidden layer, not yet built; None for none
    dropout : rate of the dropout after every activation
    loss : the loss of the outputs
    dtype : ``float32`` or ``float64``
    settings : what the model has besides, plain values by name
    """

    model: str
    n_in: int | tuple[int, ...]
    hidden: tuple[int, ...]
    n_out: int
    activation: ActivationFunction
    normalization: Normalization | None
    dropout: float
    loss: Loss
    dtype: str
    settings: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> Json:
        """Return the spec as plain JSON; the activation, the loss and the normalization as ``parts.describe`` has them.

        No normalization is the word ``none``.
        """
        norm = self.normalization
        parts = {
            "normalization": "none" if norm is None else describe(norm, NORMALIZATIONS),
            "n_in": self.n_in if isinstance(self.n_in, int) else list(self.n_in),
            "hidden": list(self.hidden),
            "activation": describe(self.activation, ACTIVATIONS),
            "loss": describe(self.loss, LOSSES),
            "settings": dict(self.settings),
        }
        return {field.name: getattr(self, field.name) for field in fields(self)} | parts

    @staticmethod
    def from_dict(description: Json, allow: Collection[str] = ()) -> NetworkSpec:
        """Return the spec that ``as_dict`` described; raises ValueError, KeyError or TypeError where it is invalid.

        ``allow`` names the modules other than bpx that may be imported for its activation, loss and normalization.
        """
        settings = dict(description.get("settings", {}))  # older files have none
        values = {field.name: description[field.name] for field in fields(NetworkSpec) if field.name != "settings"}
        values["hidden"] = tuple(values["hidden"])
        values["n_in"] = values["n_in"] if isinstance(values["n_in"], int) else tuple(values["n_in"])
        values["activation"] = restore("activation", ActivationFunction, ACTIVATIONS, values["activation"], allow)
        norm = values["normalization"]
        if isinstance(norm, str):
            values["normalization"] = make_normalization(norm)
        else:
            values["normalization"] = restore("normalization", Normalization, NORMALIZATIONS, norm, allow)
        values["loss"] = restore("loss", Loss, LOSSES, values["loss"], allow)
        return NetworkSpec(**values, settings=settings)

    @property
    def own_modules(self) -> tuple[str, ...]:
        """The modules of the parts that are not registered: what ``from_dict`` must be allowed."""
        parts = {key: part for key, part in self.as_dict().items() if key != "settings"}
        return own_modules(*(part for part in parts.values() if isinstance(part, Mapping)))
