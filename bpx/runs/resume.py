"""Resuming: find the run, read its configuration, and check the changes that the command line makes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bpx.config.plan import make_plan
from bpx.engine.parts import is_allowed
from bpx.records import Outcome
from bpx.stored.config import read_config
from bpx.stored.keys import Use, uses
from bpx.stored.lookup import directories_by_id
from bpx.system.errors import UserError
from bpx.system.files import Json, inside
from bpx.system.run_files import CHECKPOINTS, CONFIG, DELIVERY, METRICS, OUTPUTS, RESULT, RUN_ID
from bpx.system.text import one_line
from bpx.system.tree import CONF, flatten, walk
from bpx.tracking.spool import Spool
from bpx.tracking.tracker import logged
from bpx.training.cadence import MAX_EVALUATIONS, evaluation_interval
from bpx.training.checkpoint import newest_facts

LATEST = "latest"  # the word for the newest run


@dataclass(frozen=True)
class Resumed:
    """A run to resume.

    Attributes
    ----------
    directory
        The run directory.
    config
        Its configuration with the changes of the command line.
    changes
        The changes, as text.
    address, run_id
        The tracking store and the run's id there; empty if it is not tracked.
    outcome, metrics
        Outcome and last metrics of a run that has ended; None and empty otherwise.
    """

    directory: Path
    config: DictConfig
    changes: tuple[str, ...]
    address: str
    run_id: str
    outcome: Outcome | None
    metrics: dict[str, float]

    @property
    def name(self) -> str:
        """The run's name without its id."""
        return self.directory.absolute().parent.name


def find_run_to_resume(word: str, overrides: Sequence[str]) -> Resumed:
    """Return the run that ``resume=word`` names, changed by the other overrides; raises UserError."""
    directory = _directory(word)
    path = directory / CONFIG
    wanted = _changes(overrides)
    try:
        inside(directory)
    except ValueError as error:
        raise UserError(f"resume={word}: {error}") from error
    try:
        held = read_config(path)
        held.pop("allow", None)  # only the command that resumes says what may be imported
        _check_targets(path, held, _allowed(wanted))
        before = OmegaConf.create(held)
        after = before.copy()
        for key, value in wanted:
            if key != "allow" and OmegaConf.select(after, key) is None and key not in flatten(after):
                raise UserError(f"resume: unknown key {key}")
            OmegaConf.update(after, key, value)
        old, new = flatten(before), flatten(after)
    except UserError:
        raise
    except Exception as error:  # what a damaged file raises depends on the damage
        raise UserError(f"{path} cannot be read: {one_line(' '.join(str(error).split()))}") from error
    changed = [key for key in new if new[key] != old.get(key)]
    words = {key: f"{key} {old.get(key)} -> {new[key]}" for key in changed}
    for key in changed:
        if Use.RESUMED in uses(key):
            raise UserError(f"a resumed run keeps its configuration, and this changes {words[key]}")
    if "epochs" in changed:
        _check_epochs(after, old["epochs"], new["epochs"])
    outcome, metrics = _result(directory)
    if outcome in (Outcome.DIVERGED, Outcome.PRUNED) and "epochs" in changed:
        raise UserError(f"{directory} is {outcome}: more epochs change nothing")
    over = outcome if "epochs" not in changed else None
    if over is None:
        _check_metrics(directory)
    address, run_id = _tracked(directory)
    return Resumed(directory, after, tuple(words.values()), address, run_id, over, metrics)


def _directory(word: str) -> Path:
    directory = _latest() if word == LATEST else Path(word)
    if (directory / CONFIG).is_file():
        return directory
    if re.fullmatch(r"[0-9a-f]{32}", word):
        if found := directories_by_id().get(word):
            return found
    raise UserError(f"resume={word}: there is no such run directory, and no run of that id under {OUTPUTS}/")


def _latest() -> Path:
    """Return the directory of the run started or resumed last, trials of a search excluded; raises UserError."""
    configs = [path for path in OUTPUTS.rglob(str(CONFIG)) if "trial_" not in str(path.parent.parent)]
    if not configs:
        raise UserError(f"resume={LATEST}: there is no run under {OUTPUTS}/ in this directory")
    return max(configs, key=lambda path: path.stat().st_mtime_ns).parent.parent


def _changes(overrides: Sequence[str]) -> list[tuple[str, object]]:
    """Return the keys to change, with their values; raises UserError for a group."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found: list[tuple[str, object]] = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key == "resume":
            continue
        if (CONF / key).is_dir() or override.is_delete() or override.is_sweep_override():
            raise UserError(f"a resumed run keeps its configuration, and this changes {override.input_line}")
        found.append((key, override.value()))
    return found


def _allowed(wanted: Sequence[tuple[str, object]]) -> list[str]:
    """Return the modules that the command line allows to import; raises UserError."""
    for value in (value for key, value in wanted if key == "allow"):
        if not isinstance(value, list):
            raise UserError(f"allow must be a list, got {value}: for instance allow=[{value}]")
        return [str(name) for name in value]
    return []


def _check_targets(path: Path, held: Json, allow: Sequence[str]) -> None:
    """Raise UserError for a ``_target_`` that is neither part of bpx nor in a module of ``allow``."""
    known = {target for each in CONF.glob("**/*.yaml") for target in re.findall(r"_target_: (\S+)", each.read_text())}
    for here, value in walk(held):
        if here.rpartition(".")[2] == "_target_" and value not in known and not is_allowed(str(value), allow):
            root = str(value).partition(".")[0]
            raise UserError(f"{path}: {here}={value} is not part of bpx; to import its module, give allow=[{root}]")


def _check_epochs(config: DictConfig, before: int, after: int) -> None:
    plan = make_plan(config)
    if after < before:
        raise UserError(f"a resumed run can take more epochs than {before}, not fewer: got {after}")
    _, schedule = plan.optimizer(1)
    if schedule.needs_total_steps:
        raise UserError(f"schedule={schedule.name} is laid out over the whole run: epochs must stay {before}")
    if config.max_steps is not None:
        raise UserError(f"max_steps={config.max_steps} ends this run: epochs must stay {before}")
    every, wanted = evaluation_interval(before), evaluation_interval(after)
    if every != wanted:
        raise UserError(
            f"with epochs={after} a run is evaluated every {wanted} epochs, "
            f"this one every {every}: it can take up to {every * MAX_EVALUATIONS}"
        )


def _check_metrics(directory: Path) -> None:
    """Raise UserError where the metrics are damaged, or shorter than at the newest checkpoint."""
    path, least = directory / METRICS, newest_facts(directory / CHECKPOINTS).get("metrics", 0)
    if least or path.exists():
        try:
            logged(path, least)
        except ValueError as error:
            raise UserError(str(error)) from error


def _result(directory: Path) -> tuple[Outcome | None, dict[str, float]]:
    """Return the outcome and the last metrics of a run that has ended, else None and no metrics."""
    try:
        held = json.loads((directory / RESULT).read_text(encoding="utf-8"))
        return Outcome(held["outcome"]), {str(key): float(value) for key, value in held["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}


def _tracked(directory: Path) -> tuple[str, str]:
    """Return the address of the store and the run's id there, empty if untracked; raises UserError."""
    identity, address = directory / RUN_ID, ""
    if (directory / DELIVERY).is_file():
        with suppress(ValueError):  # a damaged spool is replaced
            address = Spool.load(directory).target["uri"]
    run_id = identity.read_bytes().decode(errors="replace").strip() if identity.is_file() else ""
    if run_id and not re.fullmatch(r"[0-9a-f]{32}", run_id):
        raise UserError(f"{identity} is damaged: expected a run id of 32 hexadecimal digits, got {run_id[:40]!r}")
    return address, run_id
