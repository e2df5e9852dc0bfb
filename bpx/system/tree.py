"""The files of ``conf/`` and trees of configuration keys: options of groups, plain values, full names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bpx.system.errors import UserError
from bpx.system.files import Json, leaves

PACKAGE = Path(__file__).resolve().parent.parent
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parent / "conf") if (p / "config.yaml").exists())
RENAMED = {
    "schedule.rise": "schedule.pct_start",
    "schedule.start_div": "schedule.div_factor",
    "schedule.end_div": "schedule.final_div_factor",
    "schedule.every": "schedule.step_size (schedule=step)",
    "schedule.factor": "schedule.gamma (schedule=step)",
}


@cache
def options_of(group: str) -> list[str]:
    """Return the options of a group, none if there is no such group."""
    folder = CONF / group
    return sorted(path.stem for path in folder.glob("*.yaml")) if group and folder.is_dir() else []


@cache
def load_option(group: str, name: str) -> DictConfig:
    """Return the keys of an option's file, with those of its defaults; of a file of ``conf/`` if group is empty."""
    node = OmegaConf.load(CONF / group / f"{name}.yaml")
    assert isinstance(node, DictConfig)
    shared = [other for other in node.get("defaults", []) if isinstance(other, str) and other != "_self_"]
    own = without(node, "hydra") if "hydra" in node else node
    if not shared:
        return own
    merged = OmegaConf.merge(*(load_option(group, other) for other in shared), own)
    assert isinstance(merged, DictConfig)
    return merged


def without(node: DictConfig, key: str) -> DictConfig:
    """Return a copy of a node without one of its keys."""
    return OmegaConf.masked_copy(node, [str(other) for other in node if other != key])


def walk(node: Mapping[str, object] | Sequence[object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the full name, with dots between the levels, and the value of every key below a node."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        name = f"{prefix}.{key}" if prefix else str(key)
        yield name, value
        if isinstance(value, (dict, list)):
            yield from walk(value, name)


def plain(node: DictConfig) -> Json:
    """Return a node as plain values, interpolations resolved."""
    return cast(Json, OmegaConf.to_container(node, resolve=True))


def flatten(config: DictConfig) -> Json:
    """Return the value of every key by its full name, and the class of each group by the group's name."""
    found: Json = {}
    for name, value in leaves(plain(config)):
        group, _, key = name.rpartition(".")
        found |= {group: str(value).rpartition(".")[2]} if key == "_target_" else {name: value}
    return found


def typed(value: object) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def check_resolvable(config: DictConfig) -> None:
    """Raise UserError, naming the key, if a value is missing or refers to a key that does not exist."""
    for name, value in walk(cast(Json, OmegaConf.to_container(config, resolve=False))):
        if isinstance(value, str) and ("${" in value or value == "???"):
            try:
                OmegaConf.select(config, name, throw_on_missing=True, throw_on_resolution_failure=True)
            except OmegaConfBaseException as error:
                raise UserError(f"{name}: {str(error).splitlines()[0]}") from error
