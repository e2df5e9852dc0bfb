"""A trained network as two plain files: model.json (what it is) and model.npz (its numbers)."""

from __future__ import annotations

import json
import math
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from bpx.engine.network import Network

MOST_LAYERS = 20_000


def save_model(directory: Path, net: Network, shift: Any, scale: Any, class_names: tuple[str, ...]) -> None:
    """Write the network, the scaler of its inputs and the names of its outputs into ``directory``."""
    description = {"format": 1, "spec": net.spec, "class_names": list(class_names)}
    (directory / "model.json").write_text(json.dumps(description, indent=1) + "\n")
    arrays: dict[str, Any] = {f"state/{key}": value for key, value in net.state_dict().items()}
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
    """Return the model in ``directory``; raises ValueError, in one line, where its files are not what was written.

    They may be anybody's: no code is run, and no memory taken that ``model.npz`` does not answer for by its size.
    """
    try:
        description = json.loads((directory / "model.json").read_text(encoding="utf-8"))
        if description["format"] != 1:
            raise ValueError(f"model.json has format {description['format']!r}; known is 1")
        arrays = _arrays(directory / "model.npz")
        _check_spec(description["spec"], arrays["state/theta"])
        net = Network.from_spec(description["spec"])
        net.load_state_dict({key.removeprefix("state/"): a for key, a in arrays.items() if key.startswith("state/")})
        shift, scale = arrays["scaler_shift"], arrays["scaler_scale"]
        if {shift.shape, scale.shape} != {(net.n_in,)} or shift.dtype.kind + scale.dtype.kind != "ff":
            raise ValueError(f"the scaler is none of {net.n_in} inputs")
        return SavedModel(net, shift, scale, tuple(map(str, description["class_names"])))
    except Exception as error:  # a damaged file raises whatever its damage runs into
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the model in {directory} cannot be read: {text}") from error


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file that is not packed; raises ValueError where it claims more than it holds."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("model.npz claims more bytes than it has")
        for entry in entries:
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = head(file)
                if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
                    raise ValueError(f"{entry.filename} does not hold what its header promises")
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _check_spec(spec: dict[str, Any], theta: NDArray[Any]) -> None:
    """Raise ValueError where a network's description asks for more weights than there are."""
    widths = [spec["n_in"], *spec["hidden"], spec["n_out"]]
    if not all(type(n) is int and n >= 1 for n in widths):
        raise ValueError("model.json has a width that is no positive integer")
    if len(widths) > MOST_LAYERS:  # a layer of one unit takes far more than its weight
        raise ValueError(f"model.json describes {len(widths):,} layers, a model has at most {MOST_LAYERS:,}")
    if sum(a * b for a, b in pairwise(widths)) > theta.size:
        raise ValueError(f"model.json describes more weights than the {theta.size:,} numbers of model.npz")
