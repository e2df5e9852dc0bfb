"""The stored configuration and the checksum of the data of a run; what is read is untrusted and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

from bpx.data import Dataset
from bpx.system.errors import UserError
from bpx.system.files import Json, replaced, write_json
from bpx.system.run_files import DATASET
from bpx.system.text import masked, one_line
from bpx.system.tree import walk

MAX_CONFIG = 2**20  # bytes


def write_config(path: Path, config: DictConfig) -> None:
    """Write a configuration, interpolations resolved and passwords masked; an OSError names the file."""
    with replaced(path) as file:
        file.write(masked(OmegaConf.to_yaml(config, resolve=True)).encode())


def read_config(path: Path) -> Json:
    """Return a stored configuration.

    Raises
    ------
    UserError
        A value is an interpolation, which would be resolved in the reader's environment.
    ValueError
        The file is not a configuration.
    """
    if path.stat().st_size > MAX_CONFIG:
        raise ValueError(f"expected at most {MAX_CONFIG:,} bytes, got {path.stat().st_size:,}")
    text = path.read_text(encoding="utf-8")
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
        raise ValueError("it has a YAML alias, which a stored configuration never has")
    held = OmegaConf.to_container(OmegaConf.create(text))
    if not isinstance(held, dict):
        raise ValueError(f"expected keys with values, got {type(held).__name__}")
    for here, value in walk(cast(Json, held)):
        if "${" in here or (isinstance(value, str) and "${" in value):
            raise UserError(f"{path}: {here} is an interpolation; a stored configuration holds plain values")
    return cast(Json, held)


def write_dataset(directory: Path, data: Dataset) -> None:
    """Write name, checksum and source of the data of a run."""
    write_json(directory / DATASET, {"name": data.name, "sha256": data.sha256, "source": data.source})


def check_dataset(directory: Path, data: Dataset) -> None:
    """Raise UserError if the data differ from those that a run was started with."""
    path = directory / DATASET
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        name, digest = str(held["name"]), str(held["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read, so the data of the run are not known: {one_line(error)}") from error
    if digest != data.sha256:
        raise UserError(
            f"{directory} was begun on {name} (sha256 {digest[:12]}); the data are now {data.name} "
            f"(sha256 {data.sha256[:12]}), from {data.source}"
        )
