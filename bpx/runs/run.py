"""One run: load the data, build the network, train it in a new or a resumed run directory."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from threadpoolctl import threadpool_limits

from bpx.cli.command import terminal
from bpx.config.plan import Plan, make_plan, spawn_rngs
from bpx.data import Dataset
from bpx.records import Outcome
from bpx.runs.execution import Execution
from bpx.runs.hydra_job import choices_and_overrides, config_flags, in_start_directory
from bpx.runs.job import Job, RunResult, Watcher
from bpx.runs.networks import build_network
from bpx.runs.outputs import run_directory
from bpx.runs.precheck import check_samples
from bpx.runs.resume import Resumed, find_run_to_resume
from bpx.stored.config import check_dataset
from bpx.stored.naming import output_folder, run_name
from bpx.system.errors import WriteError
from bpx.system.files import remove_temporaries
from bpx.system.interrupts import Interrupted, Stop
from bpx.system.run_files import CHECKPOINTS, DELIVERY, RESULT
from bpx.tracking.delivery import sync
from bpx.training.checkpoint import checkpoint_paths

GRACE = 1.0  # seconds that an interrupted run waits for its tracking server


@in_start_directory()
def run(config: DictConfig) -> dict[str, float]:
    """Train the network of a composed configuration and return the last metrics; raises UserError.

    With ``config.resume`` set, the stored run is resumed, or sent if only that is left.
    """
    choices, overrides = choices_and_overrides()
    if config.resume is None:
        folder = output_folder("experiment", choices.get("experiment") or "default")
        return train_run(config, run_name(choices, overrides), folder, overrides).metrics
    stored = find_run_to_resume(str(config.resume), overrides)
    if stored.outcome:
        return send_rest(stored)
    return train_run(stored.config, stored.name, stored.directory.parent, overrides, resume_from=stored).metrics


def train_run(
    config: DictConfig,
    name: str,
    parent: Path,
    overrides: Sequence[str],
    *,
    load: Callable[[Plan], Dataset] = Plan.load,
    quiet: bool = False,
    watcher: Watcher | None = None,
    resume_from: Resumed | None = None,
) -> RunResult:
    """Train the network of a configuration in a run directory and return the result.

    Parameters
    ----------
    config : DictConfig
        The composed configuration.
    name : str
        The run's name without its id.
    parent : Path
        Where the run's directory is created.
    overrides : sequence of str
        Arguments of the command line, as typed.
    load : callable, optional
        Returns the data of a plan; by default they are loaded from the plan's source.
    quiet : bool
        Print nothing.
    watcher : Watcher, optional
        Notified of every record; may prune the run.
    resume_from : Resumed, optional
        The run to resume, in its own directory.

    Returns
    -------
    RunResult
        Outcome, last metrics and directory.

    Raises
    ------
    UserError
        The configuration is invalid (nothing has been written then), or a file cannot be written.
    Interrupted
        SIGINT or SIGTERM was received.
    """
    with Stop() as stop:
        plan = make_plan(config)
        try:
            if resume_from is not None:
                plan.tracker.claim(resume_from.directory)
                remove_temporaries(resume_from.directory)
            rngs = spawn_rngs(plan.settings.seed)
            data = load(plan)
            if resume_from is not None:
                check_dataset(resume_from.directory, data)
            plan = plan.decided(data.n_classes is not None, len(data.x_train))
            net = build_network(plan, data, rngs)
            check_samples(plan, data)
            if plan.tracker.to_make:
                terminal(quiet).print(f"note      making {plan.tracker.to_make}, once")
            plan.tracker.connect(resume_from.address if resume_from else "")
            directory = run_directory(parent) if resume_from is None else resume_from.directory
            job = Job(plan, data, net, rngs, directory, name, overrides, resume_from, config_flags())
            # what is not finite is found and traced: NumPy need not warn of it
            with threadpool_limits(plan.settings.threads), np.errstate(all="ignore"), _failures_reported(job):
                return Execution(job, stop, watcher, quiet).execute()
        finally:
            plan.tracker.finish(Outcome.CRASHED)  # does nothing where the run has ended


def send_rest(resume_from: Resumed) -> dict[str, float]:
    """Send the rest of a finished run to its tracking server, and return its last metrics; raises UserError."""
    out, directory = terminal().print, resume_from.directory
    if (directory / DELIVERY).is_file():
        sync(directory)
    more = (
        f"; to train on, give epochs above {resume_from.config.epochs}"
        if resume_from.outcome == Outcome.FINISHED
        else ""
    )
    out(f"note      {directory} is {resume_from.outcome}, and nothing is left to do{more}")
    return resume_from.metrics


@contextmanager
def _failures_reported(job: Job) -> Iterator[None]:
    """Turn an interrupt into Interrupted, which says how to resume, and an OSError into WriteError."""
    tracker, directory = job.plan.tracker, job.directory
    try:
        yield
    except KeyboardInterrupt as error:
        tracker.finish(Outcome.INTERRUPTED, within=GRACE)
        resume = f"`python -m bpx.train resume={shlex.quote(str(directory))}`"
        if (directory / RESULT).is_file():
            text = f"interrupted; {resume} sends the rest" if tracker.unsent else "interrupted; the run has ended"
        elif checkpoint_paths(directory / CHECKPOINTS):
            text = f"interrupted; {resume} resumes it"
        else:
            text = f"interrupted without a checkpoint; {resume} starts over"
        raise Interrupted(getattr(error, "number", signal.SIGINT), text) from error
    except OSError as error:
        raise WriteError(f"cannot write {error.filename or directory}: {error.strerror or error}") from error
