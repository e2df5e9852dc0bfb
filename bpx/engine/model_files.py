"""A trained network as two plain files: model.json (what it is) and model.npz (its numbers)."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np

from bpx.engine.arrays import Array, Arrays, check_header
from bpx.engine.features import Column, Scaler, Table, matrix
from bpx.engine.memory import check_state
from bpx.engine.models import build
from bpx.engine.network import EVALUATION_ROWS, Network
from bpx.engine.parts import Json
from bpx.engine.spec import NetworkSpec

FORMAT = 3  # before, all parameters stood in one vector, state/theta
MAX_LAYERS = 20_000
MAX_DIGITS = 19  # of an integer of 64 bits


def save_model(
    directory: Path,
    net: Network,
    scaler: Scaler,
    class_names: Sequence[str] = (),
    columns: Sequence[Column] = (),
    target_scaler: Scaler | None = None,
) -> None:
    """Write a network with all that stands between the data and it into ``directory``.

    Parameters
    ----------
    directory : Path
        Where ``model.json`` and ``model.npz`` are written.
    net : Network
        The network.
    scaler : Scaler
        Of its inputs, (n_in,).
    class_names : sequence of str
        What its outputs are called; empty for a regression.
    columns : sequence of Column
        The raw features by name; empty where the data have no names for them.
    target_scaler : Scaler, optional
        Of the targets of a regression, all of a sample in a row; its inverse is applied to the outputs.

    Raises
    ------
    ValueError
        The network was not built from a NetworkSpec, by ``mlp`` for instance.
    """
    if net.spec is None:
        raise ValueError("only a network that was built from a NetworkSpec can be saved")
    description = {
        "format": FORMAT,
        "spec": net.spec.as_dict(),
        "class_names": list(class_names),
        "columns": [asdict(column) for column in columns],
    }
    (directory / "model.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    arrays: Json = {f"state/{key}": value for key, value in net.tensors().items()}
    if target_scaler is not None:
        arrays |= {"target_shift": target_scaler.shift, "target_scale": target_scaler.scale}
    np.savez(directory / "model.npz", scaler_shift=scaler.shift, scaler_scale=scaler.scale, **arrays)


@final
@dataclass(frozen=True)
class SavedModel:
    """A network that takes features as they are in the data, and gives what the data call classes or targets.

    Attributes
    ----------
    net : Network
        The network that it holds.
    scaler : Scaler
        Of the inputs, fitted on the training part.
    class_names : tuple of str
        What the outputs are called; empty for a regression.
    columns : tuple of Column
        The raw features by name; empty where the data have no names for them.
    target_scaler : Scaler or None
        Of the targets; its inverse is applied to the outputs.
    """

    net: Network
    scaler: Scaler
    class_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    target_scaler: Scaler | None = None

    def predict(self, x: Table) -> Array:
        """Return probabilities (or the targets of a regression), (n, n_out), for raw features ``x``.

        Of a network that answers at every step, of each step: (n, steps, n_out).

        ``x`` is a data frame or a mapping of column names to cells, matched by name, or an array or nested list
        (n, features) in the order of the training data, images and sequences in their own shape or in a row. Raises
        ValueError where it does not fit.
        """
        numbers = matrix(self.columns, x)
        rows = len(self.net.shape) == 1 and numbers.size == len(numbers) * self.net.n_in  # in the order of the values
        if numbers.ndim > 2 and (rows or numbers.shape[1:] in (self.net.shape, self.net.shape[:-1])):
            numbers = numbers.reshape(len(numbers), -1)
        if numbers.ndim != 2 or numbers.shape[1] != self.net.n_in:
            raise ValueError(f"x must be (samples, {self.net.n_in}), got {numbers.shape}")
        pieces = [numbers[i : i + EVALUATION_ROWS] for i in range(0, max(len(numbers), 1), EVALUATION_ROWS)]
        outputs = np.concatenate([self.net.predict(self.scaler.transform(piece)) for piece in pieces])
        if self.target_scaler is None:
            return outputs
        return self.target_scaler.inverse(outputs.reshape(len(outputs), -1)).reshape(outputs.shape)

    def classes(self, x: Table) -> Array:
        """Return the most probable class of each row of ``x``, (n,), as the data name it: integers, or words.

        Of a network that answers at every step, of each step: (n, steps).

        Raises ValueError for a regression.
        """
        if not self.class_names:
            raise ValueError("the model gives numbers, not classes")
        return np.asarray(class_labels(self.class_names)[self.predict(x).argmax(axis=-1)])


def class_labels(names: Sequence[str]) -> Array:
    """Return the classes as the data name them: integers where all of ``names`` are such, else words."""
    labels = np.array(names, dtype=str)
    return labels.astype(int) if all(map(_is_integer, names)) else labels


def load_model(directory: str | Path, allow: Collection[str] = ()) -> SavedModel:
    """Return the model in ``directory``.

    The files may be anybody's: no code of theirs is run, and no memory taken that ``model.npz`` does not answer for by
    its size. An activation or a loss of another module than bpx is imported only if ``allow`` names the module.

    Parameters
    ----------
    directory : str or Path
        Holds ``model.json`` and ``model.npz``, for instance a run directory.
    allow : collection of str
        Modules, submodules included, that may be imported: ``("myact",)``.

    Raises
    ------
    ValueError
        In one line: the files are not what ``save_model`` writes, or need a module that is not allowed.
    """
    directory = Path(directory)
    try:
        description = json.loads((directory / "model.json").read_text(encoding="utf-8"))
        if description["format"] not in range(1, FORMAT + 1):
            raise ValueError(f"model.json has format {description['format']!r}; known are 1 to {FORMAT}")
        arrays = _arrays(directory / "model.npz")
        state = {key.removeprefix("state/"): a for key, a in arrays.items() if key.startswith("state/")}
        size = sum(a.size for a in state.values())
        _check_spec(description["spec"], size)
        net = build(NetworkSpec.from_dict(description["spec"], allow), max_size=size)
        if "theta" in state:
            net.load_state_dict(state)
        else:
            tensors = net.tensors()
            for key, value in check_state(tensors, state).items():
                tensors[key][...] = value
        columns = tuple(_column(entry) for entry in description.get("columns", ()))
        if columns and sum(column.width for column in columns) != net.n_in:
            raise ValueError(f"the columns do not make {net.n_in} inputs")
        return SavedModel(
            net,
            _scaler(arrays, "scaler", net.n_in),
            tuple(map(str, description["class_names"])),
            columns,
            _scaler(arrays, "target", math.prod(net.out_shape)) if "target_shift" in arrays else None,
        )
    except Exception as error:  # a damaged file raises whatever its damage runs into
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"the model in {directory} cannot be read: {text}") from error


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal() and len(name) < MAX_DIGITS and name == str(int(name))


def _scaler(arrays: Arrays, name: str, n: int) -> Scaler:
    shift, scale = arrays[f"{name}_shift"], arrays[f"{name}_scale"]
    if {shift.shape, scale.shape} != {(n,)} or shift.dtype.kind + scale.dtype.kind != "ff":
        raise ValueError(f"{name}_shift and {name}_scale must be numbers of shape ({n},)")
    return Scaler(shift, scale)


def _column(entry: Json) -> Column:
    name, categories, fill = entry["name"], entry["categories"], entry["fill"]
    kind = (float, int) if categories is None else (str,)
    if not isinstance(name, str) or not (fill is None or isinstance(fill, kind)):
        raise ValueError("model.json has a column with an invalid name or fill value")
    return Column(name, None if categories is None else tuple(map(str, categories)), fill)


def _arrays(path: Path) -> Arrays:
    """Return the arrays of an npz file that is not packed; raises ValueError where it claims more than it holds."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise ValueError("model.npz claims more bytes than it has")
        for entry in entries:
            check_header(archive, entry)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _check_spec(spec: Json, n_numbers: int) -> None:
    """Raise ValueError where a description has an invalid width, too many layers, or more units than numbers."""
    n_in = spec["n_in"]
    widths = [*(n_in if isinstance(n_in, list) else [n_in]), *spec["hidden"], spec["n_out"]]
    if not all(type(n) is int and n >= 1 for n in widths):
        raise ValueError("model.json has a width that is no positive integer")
    if len(widths) > MAX_LAYERS:  # a layer of one unit takes far more than its weight
        raise ValueError(f"model.json describes {len(widths):,} layers, a model has at most {MAX_LAYERS:,}")
    if sum(spec["hidden"]) + spec["n_out"] > n_numbers:  # each unit has a weight at least
        raise ValueError(f"model.json describes more units than the {n_numbers:,} numbers of model.npz")
