"""python -m bpx.compare RUN RUN ...: runs side by side: profiles, keys that differ, findings, last metrics."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeVar, final

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process, run_cli, terminal
from bpx.config import DEFAULT_DEPTH, DEFAULT_WIDTH, UserError, flatten
from bpx.records import Records, read, read_metrics
from bpx.runs.keys import Use, uses

OUTPUTS = Path("outputs")
FOLDER = OUTPUTS / "compare"
RUN_LABELS = ascii_uppercase[:10]  # one for each run, and a colour
T = TypeVar("T")


@final
@dataclass(frozen=True)
class Run:
    """A run as it is compared: its configuration and last metrics by key; no record where it has none.

    ``finding`` are its sentences, ``verdict_final`` is empty where it has not ended.
    """

    name: str
    config: dict[str, Any]
    outcome: str
    finding: str
    verdict_final: str
    metrics: dict[str, float]
    records: Records | None


def main(words: Sequence[str] | None = None) -> int:
    """Compare the runs named on the command line: run directories, or MLflow run ids."""
    words = sys.argv[1:] if words is None else words
    if set(words) & {"-h", "--help"}:
        print(f"{__doc__}\n\nRUN is a run directory, or the id of a run in MLflow.")
        return 0
    return run_cli(lambda: compare(words))


def compare(words: Sequence[str]) -> None:
    """Print the runs side by side and save their profiles in one figure; raises UserError."""
    if not 2 <= len(words) <= len(RUN_LABELS):
        raise UserError(
            f"python -m bpx.compare takes 2 to {len(RUN_LABELS)} runs, each a directory or an MLflow run id"
        )
    runs = [find_run(word) for word in words]
    for i, run in enumerate(runs):
        if run.name in (other.name for other in runs[:i]):  # the name holds the run's id
            raise UserError(f"python -m bpx.compare: {words[i]} is given twice; give different runs")
    report(runs)
    pairs = ((letter, run.records) for letter, run in zip(RUN_LABELS, runs, strict=False) if run.records is not None)
    drawn = {letter: records for letter, records in pairs if "delta_l2" in records.quantity}
    if drawn:
        print(f"figure    {draw(drawn)}")
    else:
        print("no figure: none of these runs has measured delta")


def find_run(word: str) -> Run:
    """Return the run that ``word`` means; raises UserError."""
    from bpx.tracking import TrackingError
    from bpx.tracking.download import download

    if Path(word).is_dir():
        return from_directory(Path(word))
    if Path(word).name == word:
        for file in sorted(OUTPUTS.rglob("mlflow_run_id")):
            if file.read_text(encoding="utf-8", errors="replace").strip() == word:
                return from_directory(file.parent)
        with tempfile.TemporaryDirectory() as scratch:
            try:
                stored = download(word, Path(scratch))
            except TrackingError as error:
                raise UserError(str(error)) from error
            if stored is not None:
                tags = stored.tags
                return Run(
                    stored.name,
                    _config(Path(scratch), word),
                    tags.get("bpx.outcome", stored.status.lower()),
                    tags.get("bpx.finding", ""),
                    tags.get("bpx.verdict_final", ""),
                    _existing(stored.metrics),
                    _records(Path(scratch)),
                )
    raise UserError(f"{word} is neither a run directory nor the id of a run in {OUTPUTS}/ or in MLflow's store")


def from_directory(directory: Path) -> Run:
    """Return the run whose directory this is; raises UserError where it is none."""
    config, records = _config(directory, str(directory)), _records(directory)
    result: dict[str, Any] = _whole(directory / "result.json", lambda path: json.loads(path.read_text())) or {}
    series = _whole(directory / "metrics.jsonl", read_metrics) or {}
    parts = ("finding", "final")
    found = [result.get(part) or (records.about.get(part) if records else None) or {} for part in parts]
    return Run(
        name="/".join(directory.absolute().parts[-2:]),
        config=config,
        outcome=result.get("outcome", "not ended"),
        finding=" ".join(said for one in found if (said := one.get("sentence"))),
        verdict_final=found[-1].get("verdict", ""),
        metrics=_existing({name: float(values[-1]) for name, (_, values) in series.items()}),
        records=records,
    )


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the keys whose values are not the same in all runs, with the values; – where a run has no such key."""
    keys = dict.fromkeys(key for run in runs for key in run.config if Use.COMPARISON in uses(key))
    values = {key: [_word(run.config.get(key, "–")) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}


def report(runs: Sequence[Run]) -> None:
    """Print names, outcomes and findings, the table of keys that differ, the table of last metrics."""
    from rich.table import Table

    out = terminal()
    for letter, run in zip(RUN_LABELS, runs, strict=False):
        verdict = f", final verdict {run.verdict_final}" if run.verdict_final else ""
        out.print(f"{letter}         {run.name} ({run.outcome}{verdict})", style="bold")
        out.print(f"          {run.finding or 'no finding'}")
    metrics = dict.fromkeys(name for run in runs for name in run.metrics if "/layer_" not in name and name != "lr")
    rows = {
        "keys that differ": differences(runs),
        "last metrics": {m: [f"{r.metrics[m]:.4g}" if m in r.metrics else "–" for r in runs] for m in metrics},
    }
    for title, row in rows.items():
        if not row:
            out.print(f"{title}: none")
            continue
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for letter, _ in zip(RUN_LABELS, runs, strict=False):
            table.add_column(letter, justify="right")
        for key, values in row.items():
            table.add_row(key, *values)
        out.print(table)


def draw(runs: dict[str, Records]) -> Path:
    """Draw the profiles over each other and return the picture's path."""
    from bpx.figures.canvas import save
    from bpx.figures.comparison import profiles

    FOLDER.mkdir(parents=True, exist_ok=True)
    return save(profiles(runs), FOLDER / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}.png")


def _existing(metrics: dict[str, float]) -> dict[str, float]:
    """Return the last metrics without the slope of dead layers, which stopped existing before the last record."""
    if not metrics.get("gradient_flow/zero_layers"):
        return metrics
    stopped = ("gradient_flow/slope", "gradient_flow/abs_slope", "gradient_flow/ratio")
    return {name: value for name, value in metrics.items() if name not in stopped}


def _config(directory: Path, name: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    from bpx.runs.stored import read_config

    path = directory / "config" / "config.yaml"
    config = _whole(path, lambda path: flatten(OmegaConf.create(read_config(path))))
    if config is None:
        raise UserError(f"{name} holds no run: there is no config/config.yaml")
    if config.get("model.hidden") is None:
        for key, default in (("model.depth", DEFAULT_DEPTH), ("model.width", DEFAULT_WIDTH)):
            if key in config and config[key] is None:
                config[key] = default
    return config


def _records(directory: Path) -> Records | None:
    return _whole(directory / "gradient_flow.parquet", read)


def _whole(path: Path, reader: Callable[[Path], T]) -> T | None:
    """Return what ``reader`` makes of a file, None where there is none; raises UserError if it is damaged."""
    if not path.is_file():
        return None
    try:
        return reader(path)
    except UserError:
        raise
    except Exception as error:  # a damaged file raises whatever its damage runs into
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    exit_process(main())
