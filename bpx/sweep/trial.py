"""One trial, in the process that Hydra's launcher has started: trained, reported, pruned, ended."""

from __future__ import annotations

import math
import os
import traceback
from contextlib import suppress
from pathlib import Path

import optuna
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from bpx.records import Outcome
from bpx.runs.hydra_job import as_given, in_start_directory
from bpx.runs.outputs import run_directory
from bpx.runs.precheck import LoadedOnce
from bpx.runs.run import train_run
from bpx.stored.naming import MAX_NAME, parameters
from bpx.sweep.library import trial_of
from bpx.sweep.objective import MISSING
from bpx.sweep.options import Options, parse_options
from bpx.sweep.progress import short
from bpx.sweep.repeats import Repeat, Repeats
from bpx.sweep.storage import open_store
from bpx.sweep.study import RESULT, RUN, SEEDS, SPREAD
from bpx.system.errors import NoAnswerError, UserError, WriteError
from bpx.system.run_files import OUTPUTS

UNDEFINED = "gradient_flow/"  # what some networks have none of: no gradient, no slope
NUMBER = "BPX_TRIAL"  # the environment variable that tells a job its trial
LOADED = LoadedOnce()  # a process's trials share their data
WORST = 1e9  # what a diverged trial is worth where several objectives are searched: Optuna prunes none of them there


def run_trial(config: DictConfig) -> None:
    """Train the network of the trial's configuration; its outcome is stored in Optuna's storage only."""
    with in_start_directory():
        _run_trial(config)


def _run_trial(config: DictConfig) -> None:
    hydra = HydraConfig.get()
    trial = Trial(parse_options(hydra.sweeper), int(os.environ[NUMBER]))
    try:
        words = as_given(hydra.overrides.task)
        base = int(config.seed)
        while not trial.repeats.over:
            seed = trial.next_seed(base)
            if seed != config.seed:
                config = config.copy()
                config.seed = seed
            name = trial.name + (f" seed {config.seed}" if trial.options.repeats > 1 else "")
            done = train_run(config, name, trial.home, words, load=LOADED, quiet=True, watcher=trial)
            trial.ended(done.outcome, done.metrics, done.verdict_final)
    except UpdateFinishedTrialError:
        pass  # another worker held this one for dead and has queued its trial again
    except (OSError, WriteError):
        raise  # a full disk, which ends the search; the trial is run again
    except NoAnswerError as error:
        trial.record(config, Outcome.UNDEFINED, str(error))
        trial.failed(Outcome.UNDEFINED, str(error))
    except UserError as error:
        trial.record(config, Outcome.FAILED, str(error))
        trial.failed(Outcome.FAILED, str(error))
    except Exception as error:
        trial.home.mkdir(parents=True, exist_ok=True)
        (trial.home / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        trial.record(config, Outcome.CRASHED, text)
        trial.failed(Outcome.CRASHED, text)


class Trial:
    """The ``bpx.runs.job.Watcher`` that reports a run to Optuna."""

    def __init__(self, options: Options, number: int) -> None:
        assert options.storage is not None and options.study_name is not None
        storage = open_store(options.storage, options.heartbeat).storage
        pruner = options.make("pruner")
        study = optuna.load_study(study_name=options.study_name, storage=storage, pruner=pruner)
        self.study, self.trial, self.options = study, trial_of(study, number), options
        self.number = number
        self.home = Path(OUTPUTS, options.study_name, f"trial_{number:04d}")
        self.reports = 0
        self.repeats, self.seed = Repeats(options), 0
        self.logged: set[str] = set()  # the objectives that had a value at any record

    @property
    def name(self) -> str:
        """Name of the trial's run: its parameters and number."""
        params = self.study.get_trials(deepcopy=False)[self.number].params
        words = [f"{key.rpartition('.')[2]}={short(value)}" for key, value in params.items()]
        return f"{' '.join(words)[:MAX_NAME]} trial {self.number}"

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the trial's run."""
        return {"bpx.study": self.study.study_name, "bpx.trial": str(self.number)}

    def next_seed(self, base: int) -> int:
        """Return the next seed of the trial, counted from ``base``."""
        self.seed = base + len(self.repeats.ended)
        return self.seed

    def started(self, run_id: str | None, directory: Path, dataset: str) -> None:
        """Store where the first seed of the trial runs."""
        if self.repeats.ended:
            return
        where = {"run_id": run_id, "directory": os.fspath(directory.absolute()), "dataset": dataset}
        self.trial.set_user_attr(RUN, where)

    def record(self, config: DictConfig, outcome: Outcome, error: str) -> None:
        """Record a trial without a run as a run in the store, so that every trial has one."""
        if RUN in self.trial.user_attrs:
            return
        with suppress(Exception):  # what has ended the trial may stop this, too, and is what has to be told
            tracker = instantiate(config.tracking)
            if tracker.address:
                tracker.connect()
                directory, tags = run_directory(self.home), self.tags | {"bpx.error": error}
                try:
                    tracker.start(self.name, parameters(config), tags, None, directory)
                    self.started(tracker.run_id, directory, "")
                finally:
                    tracker.finish(outcome)

    def observed(self, metrics: dict[str, float]) -> bool:
        """Report the objective if it is among the metrics; return whether the pruner ends the trial."""
        self.logged.update(name for name in self.options.objectives if name in metrics)
        value = metrics.get(self.options.objectives[0])
        if value is None or not math.isfinite(value) or len(self.options.objectives) > 1:
            return False
        shared = self.repeats.observe(value)
        if shared is None:
            return False
        self.trial.report(shared, self.reports)
        self.reports += 1
        return self.trial.should_prune()

    def ended(self, outcome: Outcome, metrics: dict[str, float], verdict_final: str = "") -> None:
        """Note the end of a seed, and with the last one report that of the trial; raises UserError.

        It raises where an objective was never logged. One that stopped existing (a slope of dead layers) has no final
        value: the seed counts as diverged.
        """
        error = ""
        if outcome == Outcome.FINISHED:
            missing = [name for name in self.options.objectives if name not in metrics]
            if missing and (missing[0] in self.logged or metrics.get("gradient_flow/zero_layers")):
                outcome, error = Outcome.DIVERGED, f"{missing[0]} has no final value, the network ended {verdict_final}"
            elif missing:
                known = ", ".join(sorted(name for name in metrics if "/layer_" not in name and name != "lr"))
                kind = NoAnswerError if missing[0].startswith(UNDEFINED) else UserError
                raise kind(f"{MISSING} {missing[0]}; it logs {known}")
            elif not all(math.isfinite(metrics[name]) for name in self.options.objectives):
                outcome = Outcome.DIVERGED
        self.repeats.ended.append(Repeat(self.seed, outcome, error, metrics, verdict_final))
        if self.repeats.over:
            self._tell()

    def _tell(self) -> None:
        """Report the aggregate over the seeds to Optuna."""
        repeats = self.repeats
        outcome, metrics = repeats.outcome, repeats.metrics
        kept = {k: v for k, v in metrics.items() if "/layer_" not in k and math.isfinite(v)}
        error = repeats.error if outcome == Outcome.DIVERGED else ""
        result = {"outcome": outcome, "verdict_final": repeats.verdict_final, "metrics": kept, "error": error}
        if self.options.repeats > 1:
            self.trial.set_user_attr(SPREAD, repeats.spread)
            self.trial.set_user_attr(SEEDS, {str(r.seed): r.outcome for r in repeats.ended})
        self.trial.set_user_attr(RESULT, result)
        if outcome == Outcome.FINISHED:
            self.study.tell(self.trial, [metrics[name] for name in self.options.objectives])
        elif len(self.options.objectives) > 1:
            self.study.tell(self.trial, [WORST if d == "minimize" else -WORST for d in self.options.directions])
        else:
            self.study.tell(self.trial, state=TrialState.PRUNED)

    def failed(self, outcome: Outcome, error: str) -> None:
        """Report to Optuna that the trial ``failed``, ``crashed`` or is ``undefined``: it has no value."""
        self.trial.set_user_attr(RESULT, {"outcome": outcome, "metrics": {}, "error": error})
        self.study.tell(self.trial, state=TrialState.FAIL)
