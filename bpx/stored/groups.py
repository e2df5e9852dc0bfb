"""Groups of runs that differ only in the seed, their labels and statistics, for comparisons."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from bpx.stored.keys import Use, uses
from bpx.stored.lookup import StoredRun, differences, from_directory, run_directories, written
from bpx.system.errors import UserError

MAX_LABEL = 40  # characters


@final
@dataclass(frozen=True)
class Group:
    """Runs of one configuration with different seeds, and their ``label``."""

    label: str
    runs: tuple[StoredRun, ...]

    @property
    def metrics(self) -> dict[str, tuple[float, float]]:
        """Median and standard deviation (NaN for one run) of every last metric over the runs.

        Metrics of layers and of the machine are excluded.
        """
        known = dict.fromkeys(name for run in self.runs for name in run.metrics)
        names = [name for name in known if "/layer_" not in name and not name.startswith("system/")]
        values = {name: [run.metrics[name] for run in self.runs if name in run.metrics] for name in names}
        return {
            name: (float(np.median(v)), float(np.std(v, ddof=1)) if len(v) > 1 else float("nan"))
            for name, v in values.items()
        }


def group_runs(runs: Sequence[StoredRun], labels: Sequence[str] = ()) -> list[Group]:
    """Return the runs in groups, in the order of each group's first run.

    A group is labelled by the values of the keys in which it differs from the others, unless ``labels`` are given, one
    for each group. Raises UserError where they differ in number from the groups.
    """
    groups: dict[tuple[tuple[str, str], ...], list[StoredRun]] = {}
    for run in runs:
        settings = {k: written(v) for k, v in run.config.items() if Use.COMPARISON in uses(k) and k != "seed"}
        groups.setdefault(tuple(sorted(settings.items())), []).append(run)
    found = list(groups.values())
    if labels and len(labels) != len(found):
        raise UserError(f"labels: expected {len(found)}, one for each group of runs, got {len(labels)}")
    words = list(labels) or _labels([group[0] for group in found])
    return [Group(word, tuple(group)) for word, group in zip(words, found, strict=True)]


def metrics_table(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Return the last metrics as text by name: median ± standard deviation of each group, – where undefined."""
    rows = [group.metrics for group in groups]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_spread(*row[name]) if name in row else "–" for row in rows] for name in names}


def trained_groups(directory: Path) -> list[Group]:
    """Return the runs that a study trained in its ``directory``, one group per setup."""
    folders = sorted(path for path in (directory / "runs").glob("*") if path.is_dir())
    return [Group(f.name, tuple(from_directory(path) for path in run_directories(f))) for f in folders]


def _spread(median: float, std: float) -> str:
    return f"{median:.4g}" if math.isnan(std) else f"{median:.4g} ± {std:.2g}"


def _labels(firsts: Sequence[StoredRun]) -> list[str]:
    """Return short labels from the keys that differ: values of group options, ``key=value`` of other keys."""
    if len(firsts) == 1:
        return [firsts[0].name]
    rows = differences(firsts)
    rows.pop("seed", None)
    rows = {key: values for key, values in rows.items() if not _comes_along(key, values, rows)}
    named = [[_word(key, values[i]) for key, values in rows.items()] for i in range(len(firsts))]
    words = [" ".join(filter(None, parts)) for parts in named]
    short = [word if len(word) <= MAX_LABEL else f"{word[: MAX_LABEL - 1]}…" for word in words]
    return [word if word and short.count(word) == 1 else run.name for word, run in zip(short, firsts, strict=True)]


def _comes_along(key: str, values: Sequence[str], rows: Collection[str]) -> bool:
    """Return whether a key is there with some options of its group alone, which differ, and always with one value."""
    group = key.partition(".")[0]
    option = next((name for name in (group, f"{group}.name") if name in rows and name != key), None)
    return option is not None and "–" in values and len(set(values) - {"–"}) == 1


def _word(key: str, value: str) -> str:
    """Return a key's part of a label: the name of a group option, ``key=value`` of another key, empty for probes."""
    if key.startswith("probes.") or value in ("–", "None", "none"):
        return ""
    plain = key.endswith(".name") or ("." not in key and not _number(value))
    return value if plain else f"{key.rpartition('.')[2]}={value}"


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
