"""Composition of the trials of a search: by Hydra for the first, by replacing values for similar ones.

Hydra reads every file of ``conf`` and decides the options again for each trial, 0.1 s a time.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

ENVIRONMENT = "hydra.job.env_set."  # where each trial has its number


class TrialComposition(ConfigLoader):
    """A Hydra config loader that composes trials from earlier ones, with the same result.

    Parameters
    ----------
    loader : ConfigLoader
        Hydra's own, which composes what is new.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose a trial of its words."""
        parsed = [_parsed(word) for word in sweep_overrides]
        choices = master_config.hydra.runtime.choices
        values = [o for o in parsed if _is_value(o, choices)]
        plan = tuple(f"{o.key_or_group}=" if _is_value(o, choices) else str(o.input_line) for o in parsed)
        keys = [o.key_or_group for o in parsed]
        known = self._composed.get(plan)
        if known is None or len(set(keys)) < len(keys):
            new = self._loader.load_sweep_config(master_config, sweep_overrides)
            self._composed[plan] = copy.deepcopy(new)
            return new
        config = copy.deepcopy(known)
        try:
            for override in values:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # Hydra says it better
            return self._loader.load_sweep_config(master_config, sweep_overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        _note_words(config, [*map(_parsed, master_config.hydra.overrides.hydra), *parsed])
        return config

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """As Hydra's."""
        return self._loader.load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)

    def get_search_path(self) -> ConfigSearchPath:
        """As Hydra's."""
        return self._loader.get_search_path()

    def get_sources(self) -> list[ConfigSource]:
        """As Hydra's."""
        return self._loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        """As Hydra's."""
        return self._loader.list_groups(parent_name)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """As Hydra's."""
        return self._loader.get_group_options(group_name, results_filter, config_name, overrides)

    def compute_defaults_list(self, config_name: str | None, overrides: list[str], run_mode: RunMode) -> Any:
        """As Hydra's."""
        return self._loader.compute_defaults_list(config_name, overrides, run_mode)


@lru_cache(maxsize=1024)
def _parsed(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def _is_value(override: Override, choices: DictConfig) -> bool:
    """Return whether an override sets a plain value: no option, no added or deleted key, no interpolation."""
    key, value = override.key_or_group, override.value()
    if override.is_sweep_override() or override.package is not None or key in choices:
        return False
    plain = value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and "${" not in value)
    if override.is_force_add():
        return plain and key.startswith(ENVIRONMENT)
    return plain and not override.is_add() and not override.is_delete() and not override.is_hydra_override()


def _note_words(config: DictConfig, parsed: list[Override]) -> None:
    """Write into ``config`` which words it was composed of, as Hydra does."""
    job, lines = config.hydra.job, [str(o.input_line) for o in parsed]
    hydra = [o.is_hydra_override() for o in parsed]
    excluded = job.config.override_dirname.exclude_keys
    named = sorted(
        line for o, own, line in zip(parsed, hydra, lines, strict=True) if not own and o.key_or_group not in excluded
    )
    form = job.config.override_dirname
    with open_dict(config.hydra):
        config.hydra.overrides.hydra = ListConfig([line for own, line in zip(hydra, lines, strict=True) if own])
        config.hydra.overrides.task = ListConfig([line for own, line in zip(hydra, lines, strict=True) if not own])
        job.override_dirname = form.item_sep.join(named).replace("=", form.kv_sep)
