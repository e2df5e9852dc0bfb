"""Find stored runs by directory, by MLflow run id, or by a search in MLflow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, final

import numpy as np

from bpx.engine.building import DEFAULT_DEPTH, DEFAULT_WIDTH
from bpx.records import Records, Series, read, read_metrics
from bpx.stored.config import read_config
from bpx.stored.keys import Use, uses
from bpx.stored.naming import parameters
from bpx.stored.provenance import read_provenance
from bpx.system.errors import UserError
from bpx.system.files import Json
from bpx.system.run_files import CONFIG, METRICS, OUTPUTS, RECORD, RESULT, RUN_ID

T = TypeVar("T")


@final
@dataclass(frozen=True)
class StoredRun:
    """A run read from its directory or from MLflow.

    Attributes
    ----------
    name : str
        Experiment and unique id, or its name in MLflow.
    config : dict
        Value of every key of the configuration by full name, and the option of every group.
    outcome : str
        The outcome, or "not ended".
    finding : str
        Sentences of the finding.
    verdict_final : str
        Verdict after training, empty if the run has not ended.
    metrics : dict
        Last value of every metric.
    series : dict
        Steps and values of every metric; of a run that only MLflow has, the last value.
    records : Records or None
        The tidy record, if the run has one.
    provenance : dict
        Command, code version, libraries and machine.
    """

    name: str
    config: Json
    outcome: str
    finding: str
    verdict_final: str
    metrics: dict[str, float]
    series: Series
    records: Records | None
    provenance: Json = field(default_factory=dict)


def find_runs(word: str) -> list[StoredRun]:
    """Return the runs that ``word`` names.

    Parameters
    ----------
    word : str
        A run directory; a directory with several runs (of a trial, a study or an experiment), or its name in
        ``outputs``; the id of a run in MLflow; a search in MLflow, such as ``params.activation = 'tanh'``.

    Raises
    ------
    UserError
        There is no such run, or one of its files is damaged.
    """
    directory = find_directory(word)
    if directory is not None:
        return [from_directory(path) for path in run_directories(directory, word)]
    if Path(word).name != word and not _is_search(word):
        raise UserError(_unknown(word))
    ids = _search(word) if _is_search(word) else [word]
    local = directories_by_id()
    return [from_directory(local[one]) if one in local else _download(one) for one in ids]


def find_directory(word: str) -> Path | None:
    """Return the directory given by its path, its name in ``outputs`` or its MLflow id; None if there is none."""
    if Path(word).is_dir():
        return Path(word)
    if Path(word).name == word:
        return OUTPUTS / word if (OUTPUTS / word).is_dir() else directories_by_id().get(word)
    return None


def run_directories(directory: Path, word: str = "") -> list[Path]:
    """Return ``directory`` if it is a run directory, else the run directories in it; raises UserError if none."""
    if (directory / CONFIG).is_file():
        return [directory]
    found = sorted(path.parent.parent for path in directory.rglob(str(CONFIG)))
    if not found:
        raise UserError(f"{word or directory} holds no run: there is no {CONFIG}")
    return found


def from_directory(directory: Path) -> StoredRun:
    """Return the run in a run directory; raises UserError if there is none, or a file is damaged."""
    config, records = _config(directory, str(directory)), _records(directory)
    result: Json = _whole(directory / RESULT, lambda path: json.loads(path.read_text())) or {}
    series = _whole(directory / METRICS, read_metrics) or {}
    parts = ("finding", "final")
    found = [result.get(part) or (records.about.get(part) if records else None) or {} for part in parts]
    return StoredRun(
        name="/".join(directory.absolute().parts[-2:]),
        config=config,
        outcome=result.get("outcome", "not ended"),
        finding=" ".join(said for one in found if (said := one.get("sentence"))),
        verdict_final=found[-1].get("verdict", ""),
        metrics=_existing({name: float(values[-1]) for name, (_, values) in series.items()}),
        series=series,
        records=records,
        provenance=read_provenance(directory),
    )


def differences(runs: Sequence[StoredRun]) -> dict[str, list[str]]:
    """Return the keys in which runs differ, with the value of each run, – if it has no such key."""
    keys = dict.fromkeys(key for run in runs for key in run.config if Use.COMPARISON in uses(key))
    values = {key: [written(run.config.get(key, "–")) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}


def written(value: object) -> str:
    """Return a value of a configuration as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_search(word: str) -> bool:
    return any(sign in word for sign in "=<>") or " LIKE " in word.upper()


def _search(word: str) -> list[str]:
    from bpx.tracking.download import search

    ids = search(word)
    if not ids:
        raise UserError(f"no run in MLflow's store is found by {word}")
    return ids


def directories_by_id() -> dict[str, Path]:
    """Return the run directories in ``outputs`` by MLflow run id."""
    files = sorted(OUTPUTS.rglob(RUN_ID))
    return {file.read_text(encoding="utf-8", errors="replace").strip(): file.parent for file in files}


def _download(run_id: str) -> StoredRun:
    from bpx.tracking.download import download

    with tempfile.TemporaryDirectory() as scratch:
        stored = download(run_id, Path(scratch))
        if stored is None:
            raise UserError(_unknown(run_id))
        tags = stored.tags
        return StoredRun(
            name=f"{stored.name} {run_id[:8]}",
            config=_config(Path(scratch), run_id),
            outcome=tags.get("bpx.outcome", stored.status.lower()),
            finding=tags.get("bpx.finding", ""),
            verdict_final=tags.get("bpx.verdict_final", ""),
            metrics=_existing(stored.metrics),
            series={name: (np.array([0]), np.array([value])) for name, value in stored.metrics.items()},
            records=_records(Path(scratch)),
            provenance=read_provenance(Path(scratch)),
        )


def _unknown(word: str) -> str:
    return f"{word} is neither a run directory nor the id of a run in {OUTPUTS}/ or in MLflow's store"


def _existing(metrics: dict[str, float]) -> dict[str, float]:
    """Return the last metrics without the slope if layers are dead: it is undefined at the last record."""
    if not metrics.get("gradient_flow/zero_layers"):
        return metrics
    stopped = [f"gradient_flow/{name}" for name in ("slope", "abs_slope", "factor", "ratio")]
    return {name: value for name, value in metrics.items() if name not in stopped}


def _config(directory: Path, name: str) -> Json:
    from omegaconf import OmegaConf

    config = _whole(directory / CONFIG, lambda path: parameters(OmegaConf.create(read_config(path))))
    if config is None:
        raise UserError(f"{name} holds no run: there is no {CONFIG}")
    if config.get("model.hidden") is None:
        for key, default in (("model.depth", DEFAULT_DEPTH), ("model.width", DEFAULT_WIDTH)):
            if key in config and config[key] is None:
                config[key] = default
    return config


def _records(directory: Path) -> Records | None:
    return _whole(directory / RECORD, read)


def _whole(path: Path, reader: Callable[[Path], T]) -> T | None:
    """Return ``reader(path)``, None if there is no file; raises UserError if it is damaged."""
    if not path.is_file():
        return None
    try:
        return reader(path)
    except UserError:
        raise
    except Exception as error:  # what a damaged file raises depends on the damage
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
