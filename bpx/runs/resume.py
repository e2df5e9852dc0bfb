"""Resuming: which run is meant, what it was configured with, and which changes it can take."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bpx.config import CONF, UserError, flatten

SOUND = ("epochs", "threads", "progress", "tracking.figures", "tracking.model", "checkpoint.")


@dataclass(frozen=True)
class Resumed:
    """A run that goes on: its directory, its configuration with the changes made, and these in words."""

    directory: Path
    config: DictConfig
    changes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The run's name without its id."""
        return self.directory.absolute().parent.name


def resumed(word: str, overrides: Sequence[str]) -> Resumed:
    """Return the run that ``resume=word`` means, changed by the other overrides; raises UserError."""
    directory = _directory(word)
    path = directory / "config" / "config.yaml"
    try:
        before = OmegaConf.load(path)
        if not isinstance(before, DictConfig):
            raise ValueError("it is no configuration")
        _check_targets(OmegaConf.to_container(before))
        after = before.copy()
        for key, value in _changes(overrides):
            if OmegaConf.select(after, key) is None and key not in flatten(after):
                raise UserError(f"resume: unknown key {key}")
            OmegaConf.update(after, key, value)
        old, new = flatten(before), flatten(after)
    except UserError:
        raise
    except Exception as error:  # a damaged file raises whatever its damage runs into
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    changed = [key for key in new if new[key] != old.get(key)]
    words = {key: f"{key} {old.get(key)} -> {new[key]}" for key in changed}
    for key in changed:
        if not any(key == sound or (sound.endswith(".") and key.startswith(sound)) for sound in SOUND):
            raise UserError(f"a resumed run keeps its configuration, and this changes {words[key]}")
    if "epochs" in changed:
        _check_epochs(after, old["epochs"], new["epochs"])
    outcome = _outcome(directory)
    if outcome in ("diverged", "pruned"):
        raise UserError(f"{directory} is {outcome}: there is nothing to resume")
    if outcome == "finished" and "epochs" not in changed:
        raise UserError(f"{directory} is finished; a larger epochs than {old['epochs']} goes on from there")
    return Resumed(directory, after, tuple(words.values()))


def _directory(word: str) -> Path:
    directory = Path(word)
    if (directory / "config" / "config.yaml").is_file():
        return directory
    if re.fullmatch(r"[0-9a-f]{32}", word):
        for path in sorted(Path("outputs").glob("**/mlflow_run_id")):
            if path.read_text(encoding="utf-8").strip() == word:
                return path.parent
    raise UserError(f"resume={word}: there is no such run directory, and no run of that id under outputs/")


def _changes(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """Return the keys that are to change and their values; raises UserError where a group is to."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key == "resume":
            continue
        if (CONF / key).is_dir() or override.is_delete() or override.is_sweep_override():
            raise UserError(f"a resumed run keeps its configuration, and this changes {override.input_line}")
        found.append((key, override.value()))
    return found


def _check_targets(node: Any) -> None:
    """Raise UserError where a configuration would call what is no part of bpx: a run directory may be anybody's."""
    known = {target for path in CONF.glob("**/*.yaml") for target in re.findall(r"_target_: (\S+)", path.read_text())}

    def walk(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            if key == "_target_" and value not in known:
                raise UserError(f"the configuration to resume names {value!r}, which is no part of bpx")
            if isinstance(value, (dict, list)):
                walk(value)

    walk(node)


def _check_epochs(config: DictConfig, before: int, after: Any) -> None:
    from bpx.config import plan
    from bpx.runs.execution import REPORTED

    work = plan(config)
    if after < before:
        raise UserError(f"a resumed run can take more epochs than {before}, not fewer: got {after}")
    _, schedule = work.optimizer(1)
    if schedule.needs_total_steps:
        raise UserError(f"schedule={schedule.name} is laid out over the whole run: epochs must stay {before}")
    if config.max_steps is not None:
        raise UserError(f"max_steps={config.max_steps} ends this run: epochs must stay {before}")
    if -(-before // REPORTED) != -(-after // REPORTED):
        raise UserError(
            f"with epochs={after} a run is evaluated every {-(-after // REPORTED)} epochs, "
            f"this one every {-(-before // REPORTED)}: it can take up to {-(-before // REPORTED) * REPORTED}"
        )


def _outcome(directory: Path) -> str:
    try:
        return str(json.loads((directory / "result.json").read_text(encoding="utf-8"))["outcome"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
