"""What Hydra knows of the present job: where it was started, its overrides, its configuration directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_original_cwd
from omegaconf import OmegaConf

from bpx.cli.overrides import in_quotes
from bpx.system.files import Json
from bpx.system.tree import CONF
from bpx.tracking import Tracker


@contextmanager
def in_start_directory() -> Iterator[None]:
    """Change to the directory in which the command was started: output, data and store paths are relative to it.

    Hydra changes the directory where ``hydra.job.chdir=true``.
    """
    now = Path.cwd()
    os.chdir(get_original_cwd() if HydraConfig.initialized() else now)
    try:
        yield
    finally:
        os.chdir(now)


def choices_and_overrides() -> tuple[Json, list[str]]:
    """Return the option of every group and the overrides as typed; empty without Hydra."""
    if not HydraConfig.initialized():
        return {}, []
    hydra = HydraConfig.get()
    return dict(hydra.runtime.choices), as_given(hydra.overrides.task)


def as_given(overrides: object) -> list[str]:
    """Return Hydra's list of overrides as typed, with interpolations unresolved."""
    return [str(word) for word in cast(list[object], OmegaConf.to_container(overrides, resolve=False))]


def child_overrides(parent: Tracker) -> list[str]:
    """Return the overrides that make a run a child of the run of ``parent`` in its tracking store."""
    if parent.run_id is None:
        return []
    address = f"++hydra.job.env_set.MLFLOW_TRACKING_URI={in_quotes(parent.address)}"
    return [f"tracking.parent={parent.run_id}", address]


def config_flags() -> list[str]:
    """Return the arguments of the command line that add or replace configuration directories and files."""
    if not HydraConfig.initialized():
        return []
    hydra, home = HydraConfig.get(), Path(get_original_cwd())
    flags: list[str] = []
    for source in hydra.runtime.config_sources:
        path = Path(source.path)
        if source.provider == "command-line":
            flags += ["--config-dir", str(path.relative_to(home) if path.is_relative_to(home) else path)]
        elif source.provider == "main" and path != CONF:
            flags += ["--config-path", str(path)]
    if hydra.job.config_name != "config":
        flags += ["--config-name", str(hydra.job.config_name)]
    return flags + [word for word in as_given(hydra.overrides.hydra) if word.startswith("hydra.searchpath=")]
