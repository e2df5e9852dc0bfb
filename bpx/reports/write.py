"""The reports of a run, a comparison, a sweep and a study."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from bpx.figures.layers import number
from bpx.figures.trials import best_trial, read_trials
from bpx.records import Outcome, Records
from bpx.reports.charts import layers_chart, metrics_chart, trials_chart
from bpx.reports.page import Section, command, page, paragraph, pictures, table, write_page
from bpx.stored.groups import Group, metrics_table
from bpx.stored.lookup import StoredRun, differences, from_directory, written
from bpx.stored.study_data import StudyResult
from bpx.system.run_files import FIGURES, OVERRIDES, PROVENANCE, REPORT
from bpx.system.text import counted

FOR_TRIALS = ("tracking.", "progress=", "checkpoint.")  # what a search adds for its trials
LAYER_TABLE = ("delta_l2", "grad_norm", "activation_std", "update_ratio")


def write_run_report(directory: Path, outcome: Outcome | None = None) -> Path:
    """Write the report of the run in ``directory`` from its files, and return its path; raises UserError.

    ``outcome`` is that of a run whose ``result.json`` is not written yet.
    """
    run = from_directory(directory)
    run = run if outcome is None else replace(run, outcome=outcome)
    group = Group(run.name, (run,))
    about = run.records.about if run.records else {}
    sections = [
        Section("Finding", paragraph(run.finding)),
        Section("Cost, accuracy and the other metrics", "", metrics_chart([group])),
        Section("Layers", "", layers_chart([group])),
        Section("Layers at the start and at the end", _layer_table(run.records), folded=True),
        Section("Last metrics", table({k: [_short(v)] for k, v in run.metrics.items() if "/layer_" not in k})),
        Section("Figures", pictures(sorted((directory / FIGURES).glob("*.png"))), folded=True),
        *_reproduction(directory, run),
    ]
    subtitle = f"dataset {about.get('dataset', '?')} · {run.outcome}"
    return write_page(directory / REPORT, page(run.name, subtitle, sections))


def write_comparison_report(groups: Sequence[Group], picture: Path | None, path: Path) -> Path:
    """Write the report of runs that are compared and return its path."""
    names = [group.label for group in groups]
    different = differences([group.runs[0] for group in groups])
    findings = "".join(paragraph(f"{group.label}: {group.runs[0].finding or 'no finding'}") for group in groups)
    runs = [run for group in groups for run in group.runs]
    sections = [
        Section("Findings", findings),
        Section("Keys that differ", table(different, ("", *names))),
        Section("Cost, accuracy and the other metrics", "", metrics_chart(groups)),
        Section("Layers", "", layers_chart(groups)),
        Section("Last metrics (median ± standard deviation over seeds)", table(metrics_table(groups), ("", *names))),
        Section("Figure", pictures([picture] if picture and picture.suffix == ".png" else [])),
        Section("Runs", table({run.name: [run.outcome, run.verdict_final] for run in runs}), folded=True),
    ]
    return write_page(
        path, page("Runs compared", f"{counted(len(runs), 'run')} in {counted(len(groups), 'group')}", sections)
    )


def write_sweep_report(directory: Path) -> Path:
    """Write the report of the sweep in ``directory`` from its trials.csv and study.json, and return its path."""
    trials = read_trials(directory)
    about, columns = trials.about, trials.columns
    count = len(columns.get("trial", []))
    best = best_trial(trials) if count else None
    keys = [*about["space"], *about["objective"]]
    shown = [name for name in ("outcome", *keys) if name in columns]
    rows = {f"trial {columns['trial'][i]}": [columns[name][i] for name in shown] for i in range(count)}
    said = f"No single best trial of {count}: see the table."
    if best is not None:
        values = ", ".join(f"{name} {columns[name][best]}" for name in keys if name in columns)
        said = f"Best of {counted(count, 'trial')}: trial {columns['trial'][best]}, {values}."
    sections = [
        Section("Finding", paragraph(said)),
        Section("Trials", "", trials_chart(trials) if count else {}),
        Section("Every trial", table(rows, ("", *shown)), folded=True),
        Section("Figures", pictures(sorted((directory / FIGURES).glob("*.png"))), folded=True),
        Section("Space", table({key: [str(value)] for key, value in about["space"].items()})),
    ]
    if best is not None and columns.get("directory", [""])[best]:
        sections += _reproduction(Path(columns["directory"][best]), None, "The best trial again, by itself")
    direction = ", ".join(f"{d} {o}" for o, d in zip(about["objective"], about["direction"], strict=True))
    return write_page(directory / REPORT, page(f"Sweep {about['name']}", f"{about['dataset']} · {direction}", sections))


def write_study_report(result: StudyResult, groups: Sequence[Group], words: Sequence[str]) -> Path:
    """Write the report of a study beside its figure, and return its path.

    ``groups`` are its trained runs, ``words`` its command after ``python -m``.
    """
    metrics = {name: [_short(value)] for name, value in result.metrics.items()}
    sections = [
        Section("Finding", paragraph(result.finding)),
        Section("Figure", pictures([result.figure])),
        Section("Numbers", table(metrics), folded=len(metrics) > 20),
        Section("Runs: median over seeds", "", metrics_chart(groups) if groups else {}),
        Section("Command", command(shlex.join(["python", "-m", *words]))),
    ]
    subtitle = f"study {result.name} · {counted(result.seeds, 'seed')}"
    return write_page(result.figure.with_name(REPORT), page(result.question, subtitle, sections))


def _reproduction(directory: Path, run: StoredRun | None, title: str = "Command") -> list[Section]:
    """Return the command that made a run, where and with what it ran, and its configuration."""
    found = []
    typed = directory / OVERRIDES
    if typed.is_file():
        words = [str(word) for word in yaml.safe_load(typed.read_text(encoding="utf-8")) or []]
        found.append(Section(title, command(shlex.join(["python", "-m", "bpx.train", *_alone(words)]))))
    provenance = directory / PROVENANCE
    if provenance.is_file():
        held = json.loads(provenance.read_text(encoding="utf-8"))
        found.append(Section("Provenance", table({str(k): [_text(v)] for k, v in held.items()}), folded=True))
    if run is not None:
        rows = {key: [written(value)] for key, value in run.config.items()}
        found.append(Section("Configuration", table(rows), folded=True))
    return found


def _alone(words: Sequence[str]) -> list[str]:
    """Return the words that make a run again by itself, be it one of a search."""
    if not any(word.startswith("+sweep=") for word in words):
        return list(words)
    kept = [word for word in words if not word.startswith(FOR_TRIALS)]
    return [*kept, "hydra.mode=RUN"]


def _layer_table(records: Records | None) -> str:
    if records is None:
        return ""
    rows: dict[str, list[str]] = {}
    head = [""]
    for quantity in (q for q in LAYER_TABLE if q in records.quantities):
        head += [f"{quantity} at start", "at end"]
        _, layers, values = records.grid(quantity)
        for layer, row in zip(layers, values, strict=True):
            rows.setdefault(f"layer {number(layer)}", []).extend((_short(row[0]), _short(row[-1])))
    return table(rows, head)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(value: float) -> str:
    return f"{value:.4g}"
