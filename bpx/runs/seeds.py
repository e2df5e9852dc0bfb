"""A multirun over seeds: runs under one parent, with mean and standard deviation of their metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import final

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict

from bpx.cli.command import terminal
from bpx.cli.overrides import in_quotes
from bpx.config.plan import make_plan
from bpx.figures.seeds import Band, bands
from bpx.records import Outcome, aligned, read_metrics
from bpx.runs.hydra_job import as_given, child_overrides, in_start_directory
from bpx.runs.job import RunResult
from bpx.runs.outputs import run_directory
from bpx.runs.run import train_run
from bpx.stored.naming import output_folder, parameters, run_name
from bpx.stored.provenance import write_provenance
from bpx.system.files import write_csv
from bpx.system.run_files import DATASET, FIGURES, METRICS, PROVENANCE, SEEDS
from bpx.system.text import counted
from bpx.system.tree import without
from bpx.tracking import Tracker

KEY = "seed"
LAST = ("accuracy/test", "cost/test", "rmse/test", "r2/test", "cost/train", "cost/val", "accuracy/val")  # in the table


@final
@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ only in the seed.

    Attributes
    ----------
    label
        Values of the other swept keys; empty if only the seed is swept.
    seeds, runs
        The seeds as typed, and their runs.
    """

    label: str
    seeds: tuple[str, ...]
    runs: tuple[RunResult, ...]

    @property
    def finished(self) -> list[RunResult]:
        """The runs that did not diverge."""
        return [run for run in self.runs if run.outcome == Outcome.FINISHED]

    @property
    def dataset(self) -> str:
        """Name of the data."""
        return str(json.loads((self.runs[0].directory / DATASET).read_text(encoding="utf-8"))["name"])

    def statistics(self) -> dict[str, tuple[float, float]]:
        """Return the mean and the standard deviation of each last metric that every finished run has."""
        metrics = [run.metrics for run in self.finished]
        shared = [name for name in (metrics[0] if metrics else ()) if all(name in m for m in metrics)]
        names = [name for name in shared if _of_the_result(name)]
        return {name: _mean_and_std([m[name] for m in metrics]) for name in names}

    def series(self) -> dict[str, Band]:
        """Return mean and standard deviation of each metric of the finished runs, at steps that two or more share."""
        logged = [read_metrics(run.directory / METRICS) for run in self.finished]
        found = {}
        for name in dict.fromkeys(name for one in logged for name in one if _of_the_result(name)):
            steps, values = aligned([one[name] for one in logged if name in one])
            shared = (~np.isnan(values)).sum(axis=0) > 1
            if shared.any():
                kept = values[:, shared]
                found[name] = Band(steps[shared], np.nanmean(kept, axis=0), np.nanstd(kept, axis=0, ddof=1))
        return found


def run_seeds(arguments: Sequence[str], context: HydraContext, config: DictConfig) -> list[RunResult]:
    """Train every combination of the overrides' values and summarize over the seeds; raises UserError."""
    fixed, swept = _dimensions(arguments, context)
    seeds = swept.pop(KEY)
    combinations = [list(values) for values in product(*swept.values())]
    folder = output_folder("experiment", config.hydra.runtime.choices.get("experiment") or "default")
    sample = context.config_loader.load_sweep_config(config, [*fixed, *combinations[0], seeds[0]])
    sample = without(sample, "hydra")
    plan, directory = make_plan(sample), run_directory(folder)
    name = f"{run_name(config.hydra.runtime.choices, fixed)} {counted(len(seeds), 'seed')}".strip()
    params = {key: value for key, value in parameters(sample).items() if key not in (KEY, *swept)}
    params |= {key: ",".join(word.partition("=")[2] for word in words) for key, words in (*swept.items(), (KEY, seeds))}
    tags = {"bpx.seeds": str(len(seeds)), **write_provenance(directory)}
    with plan.tracker.begin_study(name, params, tags, directory) as parent:
        jobs = [[*fixed, *values, seed, *child_overrides(parent)] for values in combinations for seed in seeds]
        done = iter(_launch(jobs, directory, context, config))
        groups = [
            SeedGroup(
                " ".join(values), tuple(seed.partition("=")[2] for seed in seeds), tuple(next(done) for _ in seeds)
            )
            for values in combinations
        ]
        _keep(groups, parent, directory)
    _report(groups, parent, directory)
    return [run for group in groups for run in group.runs]


def train_seed(config: DictConfig) -> RunResult:
    """Train one run of the multirun in the parent's directory."""
    hydra = HydraConfig.get()
    words = as_given(hydra.overrides.task)
    with in_start_directory():
        return train_run(config, run_name(hydra.runtime.choices, words), Path(hydra.sweep.dir, "runs"), words)


def _dimensions(arguments: Sequence[str], context: HydraContext) -> tuple[list[str], dict[str, list[str]]]:
    """Return the overrides common to all runs, and the overrides of each swept key."""
    fixed, swept = [], {}
    for override in OverridesParser.create(config_loader=context.config_loader).parse_overrides(list(arguments)):
        if not override.is_sweep_override():
            fixed.append(override.input_line or "")
            continue
        element = override.get_key_element()
        swept[override.key_or_group] = [f"{element}={text}" for text in override.sweep_string_iterator()]
    return fixed, swept


def _launch(
    jobs: Sequence[Sequence[str]], directory: Path, context: HydraContext, config: DictConfig
) -> list[RunResult]:
    with open_dict(config):
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(directory), "."
        config.hydra.overrides.hydra += [f"hydra.sweep.dir={in_quotes(str(directory))}", "hydra.sweep.subdir=."]
    launcher = Plugins.instance().instantiate_launcher(context, train_seed, config)
    return [job.return_value for job in launcher.launch(jobs, initial_job_idx=0)]


def _keep(groups: Sequence[SeedGroup], parent: Tracker, directory: Path) -> None:
    """Write the table of runs, draw the bands, and log mean and standard deviation to the parent."""
    from bpx.figures.canvas import save

    rows = [
        {"runs": group.label, "seed": seed, "outcome": run.outcome, "directory": run.directory}
        | {name: value for name, value in run.metrics.items() if "/layer_" not in name}
        for group in groups
        for seed, run in zip(group.seeds, group.runs, strict=True)
    ]
    write_csv(directory / SEEDS, rows)
    for kept in (SEEDS, PROVENANCE):
        parent.artifact(directory / kept)
    series = {group.label: group.series() for group in groups}
    if any(series.values()):
        (directory / FIGURES).mkdir(exist_ok=True)
        save(
            bands(series, f"mean ± std over {counted(len(groups[0].seeds), 'seed')}", groups[0].dataset),
            _figure(directory),
        )
        parent.artifact(directory / FIGURES, FIGURES)
    if len(groups) == 1:
        _log(groups[0], parent)
    lines = [f"**{group.label or counted(len(group.seeds), 'seed')}**: {', '.join(_words(group))}" for group in groups]
    parent.tag("mlflow.note.content", "\n\n".join(lines))


def _log(group: SeedGroup, parent: Tracker) -> None:
    """Log mean and standard deviation at every step, and of the last metrics."""
    by_step: dict[int, dict[str, float]] = {}
    for name, series in group.series().items():
        for step, mean, std in zip(series.steps.tolist(), series.mean.tolist(), series.std.tolist(), strict=True):
            by_step.setdefault(step, {}).update({f"mean/{name}": mean, f"std/{name}": std})
    for step, metrics in sorted(by_step.items()):
        parent.log(step, 0.0, metrics)
    diverged = float(sum(run.outcome == Outcome.DIVERGED for run in group.runs))
    ended = {"seeds/finished": float(len(group.finished)), "seeds/diverged": diverged}
    parent.log(max(by_step, default=0), 0.0, ended)


def _report(groups: Sequence[SeedGroup], parent: Tracker, directory: Path) -> None:
    out = terminal()
    for group in groups:
        seeds = counted(len(group.seeds), "seed")
        out.print(f"seeds     {f'{group.label} ({seeds})' if group.label else seeds}", style="bold")
        for line in _words(group):
            out.print(f"          {line}")
    if _figure(directory).exists():
        out.print(f"figure    {_figure(directory)}", soft_wrap=True)
    out.print(f"record    {directory}", soft_wrap=True)
    for line in parent.directions:
        out.print(line, soft_wrap=True)


def _words(group: SeedGroup) -> list[str]:
    """Return mean ± standard deviation of the last metrics of a group, and the number of diverged runs."""
    found = group.statistics()
    lines = [f"{name} {found[name][0]:.4g} ± {found[name][1]:.2g}" for name in LAST if name in found]
    n_diverged = sum(run.outcome == Outcome.DIVERGED for run in group.runs)
    return [*lines, f"{n_diverged} of {len(group.runs)} diverged"] if n_diverged else lines


def _figure(directory: Path) -> Path:
    return directory / FIGURES / "seeds.png"


def _of_the_result(metric: str) -> bool:
    """Return whether a metric is of the whole network, not of a layer, the time or the machine."""
    return "/layer_" not in metric and not metric.startswith(("time/", "system/"))


def _mean_and_std(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of a sample, 0 of a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
