"""The name of a run: the overrides that differ from the defaults, and the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bpx.stored.keys import Use, uses
from bpx.system.errors import UserError
from bpx.system.files import Json
from bpx.system.run_files import OUTPUTS
from bpx.system.tree import CONF, flatten, load_option, options_of, typed, without

MAX_NAME = 40  # characters
PLAIN = "default"  # the name of a run that changes nothing


def run_name(choices: Mapping[str, object], overrides: Sequence[str]) -> str:
    """Return a run's name: group options and ``key=value`` by the last part of the key, then the experiment.

    ``choices`` maps groups to their options. Overrides equal to the default are left out, unless there is an
    experiment. A name longer than MAX_NAME is cut between two words and ends with an ellipsis.
    """
    experiment = [str(choices["experiment"])] if choices.get("experiment") else []
    words = []
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if Use.NAME not in uses(key) or (not experiment and value == _default(key, str(choices.get(key_group(key))))):
            continue
        plain = key in choices and value not in ("none", "null")
        words.append(value.removesuffix("_mlp") if plain else f"{key.rpartition('.')[2]}{equals}{value}")
    name = " ".join([*words, *experiment])
    while len(name) > MAX_NAME and len(words) > 1:
        words.pop()
        name = " ".join([*words, "…", *experiment])
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def key_group(key: str) -> str:
    """Return the group of a key; that of a group is itself."""
    return key.partition(".")[0]


def parameters(config: DictConfig) -> Json:
    """Return the configuration as a run's parameters: keys by full name, groups by the name of their option."""
    options = {group: option_of(group, config[group]) for group in _groups() if OmegaConf.is_dict(config.get(group))}
    return flatten(config) | {group: name for group, name in options.items() if name}


def option_of(group: str, node: DictConfig) -> str | None:
    """Return the option of a group whose file is closest to ``node``; None for a user's own option."""
    given, built = flatten(node), str(node.get("_target_")).rpartition(".")[2].lower()
    found: dict[str, tuple[int, bool]] = {}
    for name in options_of(group):
        if not _may_build(group, name, node.get("_target_")):
            continue
        held = load_option(group, name)
        if held.get("_target_") == node.get("_target_") and held.get("name") == node.get("name"):
            values = _values(group, name)
            n_equal = sum(key in given and given[key] == value for key, value in values.items())
            found[name] = n_equal, name.replace("_", "") == built
    return max(found, key=lambda name: found[name]) if found else None


def output_folder(key: str, name: str) -> Path:
    """Return ``outputs/name``; raises UserError if it is not inside ``outputs``."""
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or not name.isprintable():
        raise UserError(f"{key} must name a folder inside {OUTPUTS}/, got {name!r}")
    return OUTPUTS / path


def _default(key: str, option: str) -> str | None:
    """Return the default of a key as written on the command line, from its group's ``option``; None if unknown."""
    main = load_option("", "config")
    if key in _chosen():
        return _chosen()[key]
    group, _, name = key.partition(".")
    node = load_option(group, option) if name and option in options_of(group) else main
    values = flatten(without(node, "defaults"))
    place = name if node is not main else key
    if place not in values:
        return None
    return typed(values[place])


@cache
def _may_build(group: str, name: str, target: str | None) -> bool:
    """Return whether an option's file may name what is built: to look is 30 times as fast as to load its YAML."""
    text = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
    return target is None or target in text or "defaults:" in text


@cache
def _values(group: str, name: str) -> Json:
    """Return the keys and values of an option's file."""
    return flatten(load_option(group, name))


@cache
def _groups() -> list[str]:
    return [group for group in _chosen() if "/" not in group]


def _chosen() -> dict[str, str]:
    """Return the options of the defaults list."""
    entries = [entry for entry in load_option("", "config").defaults if isinstance(entry, DictConfig)]
    return {str(group): str(option) for entry in entries for group, option in entry.items()}
