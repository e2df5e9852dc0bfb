"""The search: ask for trials, launch them, and wait, until the budget is used."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import TextIO

import optuna
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from optuna.trial import TrialState

from bpx.cli.command import terminal
from bpx.cli.overrides import in_quotes, refused_value
from bpx.config.plan import Plan
from bpx.records import Outcome
from bpx.runs.hydra_job import child_overrides
from bpx.runs.precheck import Precheck
from bpx.stored.naming import output_folder, parameters
from bpx.stored.provenance import write_provenance
from bpx.sweep.composition import TrialComposition
from bpx.sweep.library import id_of, keep_quiet
from bpx.sweep.objective import MISSING, check_objectives
from bpx.sweep.options import Options, parse_options
from bpx.sweep.progress import SweepProgress
from bpx.sweep.results import Results
from bpx.sweep.space import Space, space
from bpx.sweep.storage import open_store
from bpx.sweep.study import FAILURES, RESULT, WITHOUT_VALUE, SweepStudy, open_study, outcome_of
from bpx.sweep.trial import NUMBER, run_trial
from bpx.system.errors import EveryTrialFailed, UserError, WriteError
from bpx.system.interrupts import Interrupted, Stop
from bpx.system.tree import flatten, without

POLL = 1.0  # seconds between two looks at what other workers do
MIN_TRIALS = 5  # trials from which max_failure_rate is a rate
MIN_FAILURES = 3  # trials that fail at the start before it is clear that all would
ONE_BY_ONE = "BasicLauncher"
FOR_TRIALS = {"tracking.figures": "false", "tracking.model": "false", "progress": "false", "checkpoint.keep": "0"}


def search(given: DictConfig, arguments: list[str], context: HydraContext, config: DictConfig) -> float | None:
    """Run a study to its budget and return the best value; raises UserError."""
    keep_quiet()
    context = HydraContext(config_loader=TrialComposition(context.config_loader), callbacks=context.callbacks)
    options = parse_options(given)
    where = space(options.params, arguments, context.config_loader)
    choices = config.hydra.runtime.choices
    name = options.study_name or f"{choices.get('experiment') or 'default'}-{choices.get('sweep') or 'sweep'}"
    home = output_folder("hydra.sweeper.study_name", name)
    _check(options, where, str(config.hydra.launcher._target_))
    with open_dict(config):
        config.hydra.sweep.dir, config.hydra.sweep.subdir = str(home), "."
    launcher = Plugins.instance().instantiate_launcher(context, run_trial, config)
    base = without(config, "hydra")
    sample = _sample(context, config, where)
    check_objectives(options, sample)
    options = options.seeded(sample.settings.seed)
    options.try_out(where.distributions)
    storage = options.storage or str(Path(home, "optuna.journal"))
    storage = storage if "://" in storage else os.path.abspath(storage)
    store = open_store(storage, options.heartbeat)
    if store.note:
        terminal().print(f"note      {store.note}")
    try:
        study = open_study(options, name, where, store, flatten(base) | {"activation": choices.get("activation")})
        with store.exclusively():
            tracker = sample.tracker.begin_study(
                name,
                parameters(base) | where.described(),
                {"bpx.study": name, **write_provenance(home)},
                home / "workers" / store.worker,  # what it tells waits there, apart from what other workers tell
                study.parent,
            )
            if tracker.run_id is not None:
                study.parent = tracker.run_id
        typed = {override.partition("=")[0] for override in where.fixed}
        shared = [
            f"hydra.sweep.dir={in_quotes(str(home))}",
            "hydra.sweep.subdir=.",
            f"++hydra.sweeper.storage={in_quotes(storage)}",
            f"++hydra.sweeper.study_name={in_quotes(name)}",
            *(f"{key}={value}" for key, value in for_trials(options).items() if key not in typed),
            *child_overrides(tracker),
        ]
        results = Results(study, options, tracker, home, sample)
        return Search(study, options, launcher, results, shared).run()
    finally:
        store.close()


def _check(options: Options, where: Space, launcher: str) -> None:
    """Raise UserError where the options do not go together with the space, or with the ``launcher``."""
    if options.repeats > 1 and "seed" in where.distributions:
        raise UserError(
            f"seed cannot be searched with hydra.sweeper.repeats={options.repeats}, which counts from seed on"
        )
    if options.n_jobs > 1 and launcher.endswith(ONE_BY_ONE):
        raise UserError(
            f"hydra.sweeper.n_jobs={options.n_jobs} needs a launcher that runs jobs side by side: give "
            f"hydra/launcher=joblib, or start this command {options.n_jobs} times"
        )
    for i, params in enumerate(options.enqueue):
        where.check(params, f"hydra.sweeper.enqueue[{i}]")
    endless = next((d for d in where.dimensions if d.size is None), None)
    if endless is not None and options.is_grid:
        raise UserError(
            f"hydra/sweeper/sampler=grid needs values that can be listed, not {endless.key}={endless.grammar}: "
            "give choice(…) or range(…), or another sampler"
        )
    options.budget(where.size)


def for_trials(options: Options) -> dict[str, str]:
    """Return the default overrides of trials; they log per layer only the quantities that are objectives."""
    quantities = dict.fromkeys(name.rpartition("/")[0] for name in options.objectives if "/layer_" in name)
    return FOR_TRIALS | {"tracking.per_layer": f"[{','.join(quantities)}]"}


def _sample(context: HydraContext, config: DictConfig, where: Space) -> Plan:
    """Check, with their data, a configuration from the middle of the space and every value of every choice.

    What no trial can do is said at once: a value that fails whatever the other keys are.
    """
    check = Precheck()

    def composed(chosen: Sequence[str]) -> Plan:
        sample = context.config_loader.load_sweep_config(config, [*where.fixed, *chosen])
        return check(without(sample, "hydra"))

    for when in [{}, *(d.when for d in where.dimensions if d.when)]:
        parts = [d for d in where.dimensions if d.when in ({}, when)]
        refused = refused_value({d.key: [d.override(v) for v in when.get(d.key, d.samples)] for d in parts}, composed)
        if refused is not None:
            raise refused
    middle = {d.key: d.middle for d in where.dimensions}
    return composed([d.override(d.middle) for d in where.dimensions if d.applies(middle)])


@contextmanager
def warned_once() -> Iterator[None]:
    """Show repeated warnings of trials once."""
    shown, show = set(), warnings.showwarning

    def once(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
        line: str | None = None,
    ) -> None:  # fmt: skip
        if (category, str(message)) not in shown:
            shown.add((category, str(message)))
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = once
    try:
        yield
    finally:
        warnings.showwarning = show


def _raise_disk_error(job: JobReturn) -> None:
    """Reraise the OSError of a job: a full disk is not a failure of its trial, and affects the next ones."""
    try:
        with redirect_stderr(io.StringIO()):  # Hydra announces an error before it raises it
            job.return_value  # noqa: B018 (a property that raises)
    except (OSError, WriteError):
        raise
    except Exception:  # told by the trial itself
        pass


class Search:
    """The trials that one process runs of a study."""

    def __init__(
        self, study: SweepStudy, options: Options, launcher: Launcher, results: Results, shared: Sequence[str]
    ) -> None:
        self.study, self.options, self.launcher, self.results, self.shared = study, options, launcher, results, shared
        self.progress = SweepProgress(study, options)
        self.running: list[optuna.Trial] = []
        self.ended: list[str] = []  # the outcomes of this process's trials

    def run(self) -> float | None:
        """Run trials until the budget is used and no process runs any, then close the study."""
        deadline = time.monotonic() + (self.options.timeout or float("inf"))
        try:
            with Stop(), self.progress.bar, warned_once():
                self.progress.begin()
                while time.monotonic() < deadline:
                    self._requeue_lost()
                    self.running = self.study.ask(self.options.n_jobs)
                    if self.running:
                        self._take()
                    elif self.study.trials(TrialState.RUNNING):
                        self.progress.show()
                        time.sleep(POLL)
                    else:
                        break
                else:
                    self.progress.timed_out()
            value = self.results.close()
        except (KeyboardInterrupt, BrokenPipeError) as error:
            self._abort(Outcome.INTERRUPTED)
            if isinstance(error, BrokenPipeError):
                raise
            number = getattr(error, "number", signal.SIGINT)
            raise Interrupted(number, "interrupted; the same command continues the study") from error
        except (OSError, WriteError) as error:
            self._abort(Outcome.INTERRUPTED)
            text = str(error)
            if isinstance(error, OSError):
                text = f"cannot write {error.filename or self.results.home}: {error.strerror}"
            raise UserError(f"{text}; the same command continues it") from error
        except BaseException:
            self._abort(Outcome.CRASHED)
            raise
        if self.study.without_value():
            raise EveryTrialFailed(f"every trial of the study failed; the last one: {self._last_error()}")
        return value

    def _take(self) -> None:
        """Launch the asked trials, collect their results, and decide whether to continue."""
        new = [trial for trial in self.running if not self.study.repeat(trial)]
        if new:
            with self._beating():
                self._launch(new)
        numbers = {trial.number for trial in self.running}
        self.running = []
        ended = [t for t in self.study.trials() if t.number in numbers]
        crashes = [t.user_attrs[RESULT] for t in ended if outcome_of(t) in FAILURES]
        self.ended += [outcome_of(t) for t in ended]
        self.progress.show(ended)
        self.results.step()
        self._requeue_lost(always=bool(crashes))
        self._judge(crashes)

    def _launch(self, trials: Sequence[optuna.Trial]) -> None:
        """Run trials through Hydra's launcher; each reports its own end unless its process dies."""
        jobs = [
            [
                *self.study.space.overrides(trial.params),
                *self.shared,
                f"++hydra.job.env_set.{NUMBER}='{trial.number}'",
            ]
            for trial in trials
        ]
        error = "its process died"
        try:
            for job in self.launcher.launch(jobs, initial_job_idx=trials[0].number):
                _raise_disk_error(job)
        except (OSError, WriteError):
            raise
        except Exception as died:  # a process of joblib or submitit has, and has taken the whole batch along
            error = f"{type(died).__name__}: {' '.join(str(died).split())}"
        left = [trial for trial in trials if self.study.under_way(trial)]
        if len(trials) == 1:
            for trial in left:
                self.study.fail(trial, Outcome.CRASHED, error)
        else:
            for trial in left:  # one by one, so that only the trial that kills its process is told as crashed
                self._launch([trial])

    def _judge(self, crashes: list[dict[str, str]]) -> None:
        """Raise UserError if too many trials fail for the search to continue."""
        if not crashes:
            return
        last = crashes[-1]["error"]
        unlogged = last.startswith(MISSING)
        kind = EveryTrialFailed if self.study.without_value() and not unlogged else UserError
        if unlogged or (len(self.ended) >= MIN_FAILURES and set(self.ended) == {Outcome.FAILED}):
            raise kind(last)
        failed = sum(self.ended.count(how) for how in FAILURES)
        if failed > self.options.max_failure_rate * max(MIN_TRIALS, len(self.ended)):
            raise kind(
                f"{failed} of {len(self.ended)} trials failed or crashed, more than hydra.sweeper.max_failure_rate="
                f"{self.options.max_failure_rate:g} allows; the last one: {last}"
            )

    def _last_error(self) -> str:
        errors = [t.user_attrs[RESULT]["error"] for t in self.study.trials() if outcome_of(t) in WITHOUT_VALUE]
        return str(errors[-1])

    def _requeue_lost(self, always: bool = False) -> None:
        """Requeue the trials of dead processes, and end their runs in MLflow."""
        if self.study.store.lost(self.study.study) or always:
            self.results.end_orphans()

    def _abort(self, how: Outcome) -> None:
        with suppress(OSError):  # a full disk has no place for that; the next start finds what is left
            for trial in self.running:
                self.study.fail(trial, Outcome.INTERRUPTED)
            self.results.abandon(how)

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Send heartbeats of this process's trials, and update the display, inside the context."""
        done = threading.Event()
        ids = [id_of(trial) for trial in self.running]

        def beat() -> None:
            while not done.wait(self.options.heartbeat):
                self.study.store.beat(ids)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
