"""Progress of a search in the terminal: trials done, the best so far, the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import timedelta
from textwrap import shorten

from optuna.trial import FrozenTrial
from rich.progress import BarColumn, Progress, TextColumn

from bpx.cli.command import terminal
from bpx.records import Outcome
from bpx.sweep.options import Options
from bpx.sweep.study import COUNTED, RESULT, RUN, SAME_AS, SPREAD, WITHOUT_VALUE, SweepStudy, outcome_of
from bpx.system.text import counted

MAX_ERROR = 200  # characters
REPORTED = (Outcome.RUNNING, Outcome.PRUNED, Outcome.DIVERGED, *WITHOUT_VALUE)


class SweepProgress:
    """A progress bar in a terminal, and a line for each trial of this process."""

    def __init__(self, study: SweepStudy, options: Options) -> None:
        self.study, self.options = study, options
        self.console = terminal()
        columns = [
            TextColumn("{task.fields[state]}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[rest]}", markup=False),
        ]
        self.bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        total = study.budget if math.isfinite(study.budget) else None
        self.task = self.bar.add_task("", total=total, state="", rest="")
        self.began, self.done_before = time.monotonic(), self._done()
        self.fallback = False

    @property
    def budget(self) -> str:
        """The budget as text."""
        return counted(int(self.study.budget), "trial") if math.isfinite(self.study.budget) else "any number of trials"

    def begin(self) -> None:
        """Print the search space, and whether an earlier study is continued."""
        name, done = self.study.study.study_name, self.done_before
        if done:
            self.console.print(f"the study {name} continues after {done} of {self.budget}")
        else:
            self.console.print(f"the study {name}: {self.budget}")
        for key, grammar in self.study.space.described().items():
            self.console.print(f"  {key} = {grammar}")

    def show(self, ended: Sequence[FrozenTrial] = ()) -> None:
        """Print a line for each trial that has ended, and update the bar."""
        counts, done = self.study.counts(), self._done()
        parts = [f"{counts[how]} {how}" for how in REPORTED if counts[how]]
        rest = " · ".join([*parts, *self._best(), *self._left(done)])
        share = f"{done}/{self.study.budget:g}" if math.isfinite(self.study.budget) else f"{done}"
        for trial in ended:
            self._warn(trial)
            self.console.print(line(trial, self.options))
        if ended and not self.console.is_terminal:
            self.console.print(f"  {share} done · {rest}")
        self.bar.update(self.task, completed=done, state=share, rest=rest)

    def timed_out(self) -> None:
        """Print that the timeout ended the search, unless the budget is used up as well."""
        if self.study.used() < self.study.budget:
            self.console.print(
                f"timeout   hydra.sweeper.timeout={self.options.timeout:g} ended the search after "
                f"{self._done()} of {self.budget}; the same command continues it"
            )

    def _done(self) -> int:
        counts = self.study.counts()
        return sum(counts[how] for how in COUNTED)

    def _warn(self, trial: FrozenTrial) -> None:
        dataset = trial.user_attrs.get(RUN, {}).get("dataset", "")
        if "fallback" in dataset and not self.fallback:
            self.fallback = True
            self.console.print(f"NOT THE DATA ASKED FOR: the trials train on {dataset}", style="bold red")

    def _best(self) -> list[str]:
        best = self.study.best()
        if len(self.options.objectives) > 1:
            return [f"{len(best)} on the Pareto front"] if best else []
        return [f"best {short(best[0].value)} (trial {best[0].number})"] if best else []

    def _left(self, done: int) -> list[str]:
        fresh, rest = done - self.done_before, self.study.budget - done
        if fresh < 1 or rest < 1:
            return []
        spent = time.monotonic() - self.began
        seconds = min(spent / fresh * rest, (self.options.timeout or math.inf) - spent)
        return [f"{timedelta(seconds=max(0, round(seconds)))} left"]


def line(trial: FrozenTrial, options: Options) -> str:
    """Return a trial as one line: parameters, objectives, and the outcome unless it finished."""
    params = "  ".join(f"{key.rpartition('.')[2]} {short(value)}" for key, value in trial.params.items())
    result = trial.user_attrs.get(RESULT, {})
    how, metrics = outcome_of(trial), result.get("metrics", {})
    spread = trial.user_attrs.get(SPREAD, {})
    values = [
        f"{name} {short(metrics[name])}" + (f" ± {short(spread[name])}" if name in spread else "")
        for name in options.objectives
        if name in metrics
    ]
    if SAME_AS in trial.user_attrs:
        values.append(f"as trial {trial.user_attrs[SAME_AS]}")
    if result.get("error"):
        values.append(f"{how}: {shorten(result['error'], MAX_ERROR)}")
    elif how != Outcome.FINISHED:
        values.append(how)
    return f"trial {trial.number:<4} {params}  ->  {'  '.join(values)}"


def short(value: object) -> str:
    """Return a number in four digits, anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
