"""A trained network as two plain files: model.json (what it is) and model.npz (its numbers)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, final

import numpy as np

from bpx.engine.network import Network


def save_model(directory: Path, net: Network, shift: Any, scale: Any, class_names: tuple[str, ...]) -> None:
    """Write the network, the scaler of its inputs and the names of its outputs into ``directory``."""
    description = {"format": 1, "spec": net.spec, "class_names": list(class_names)}
    (directory / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    arrays: dict[str, Any] = {f"state/{key}": value for key, value in net.state().items()}
    np.savez(directory / "model.npz", scaler_shift=shift, scaler_scale=scale, **arrays)


@final
class SavedModel:
    """A network that takes features as they are in the data and scales them itself."""

    def __init__(self, net: Network, shift: Any, scale: Any, class_names: tuple[str, ...]) -> None:
        self.net, self.shift, self.scale, self.class_names = net, shift, scale, class_names

    def predict(self, x: Any) -> Any:
        """Return probabilities (or the outputs of a regression), (n, n_out), for raw features ``x`` (n, n_in)."""
        return self.net.predict((np.asarray(x, self.net.dtype) - self.shift) / self.scale)


def load_model(directory: Path) -> SavedModel:
    """Return the model in ``directory``; raises ValueError where the files do not fit together."""
    description = json.loads((directory / "model.json").read_text())
    if description.get("format") != 1:
        raise ValueError(f"{directory / 'model.json'} has format {description.get('format')!r}; known is 1")
    net = Network.from_spec(description["spec"])
    with np.load(directory / "model.npz", allow_pickle=False) as arrays:
        state = {key.removeprefix("state/"): arrays[key] for key in arrays if key.startswith("state/")}
        net.load_state(state)
        shift, scale = arrays["scaler_shift"], arrays["scaler_scale"]
    return SavedModel(net, shift, scale, tuple(description["class_names"]))
