"""One run while it lasts: it is opened or gone on with, trained, recorded and closed."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bpx.config import Plan, flatten
from bpx.data import Batches, Dataset
from bpx.engine.network import Network
from bpx.probes import NonFinite, ReportSchedule
from bpx.records import Outcome
from bpx.runs.console import Console
from bpx.runs.log import RunLog
from bpx.runs.measurement import Measurement
from bpx.runs.resume import Resumed
from bpx.runs.stored import write_config, write_dataset
from bpx.system.files import naming, replaced
from bpx.system.interrupts import Stop
from bpx.system.text import masked
from bpx.training import (
    Checkpoints,
    FlightRecorder,
    Progress,
    Training,
    evaluated,
    evaluation_interval,
    fit,
    numerics_fingerprint,
    save_evaluation,
)

log = logging.getLogger("bpx")


@dataclass(frozen=True)
class RunResult:
    """A run that is over: how it ended, its last metrics, the directory of its record, its final verdict."""

    outcome: Outcome
    metrics: dict[str, float]
    directory: Path
    verdict_final: str


class Watcher(Protocol):
    """Who follows a run from outside: a sweep its trial."""

    @property
    def tags(self) -> dict[str, str]:
        """What the run's tags shall say besides."""

    def started(self, run_id: str | None, directory: Path, dataset: str) -> None:
        """Take note of where the run is kept."""

    def observed(self, metrics: dict[str, float]) -> bool:
        """Take note of what has just been logged; true ends the run as pruned."""


@dataclass
class Execution:
    """The parts of one run while it lasts: opened or gone on with, trained, closed."""

    plan: Plan
    data: Dataset
    net: Network
    rngs: dict[str, np.random.Generator]
    directory: Path
    name: str
    overrides: Sequence[str]
    quiet: bool
    watcher: Watcher | None
    stop: Stop
    resume_from: Resumed | None

    def __post_init__(self) -> None:
        s, data, net, directory = self.plan.settings, self.data, self.net, self.directory
        self.batches = Batches(data.x_train, data.y_train, s.batch_size, self.rngs["shuffle"])
        per_epoch = math.ceil(len(data.x_train) / s.batch_size)
        self.total = min(s.epochs * per_epoch, s.max_steps or s.epochs * per_epoch)
        self.epochs = math.ceil(self.total / per_epoch)
        self.evaluate_every = evaluation_interval(self.epochs)
        self.report_schedule = ReportSchedule(per_epoch, self.evaluate_every)
        optimizer, _ = self.plan.optimizer(self.total)
        self.optimizer = optimizer.bind(net.parameters)
        record = directory / "gradient_flow.parquet"
        self.measurement = Measurement(
            self.plan,
            data,
            net,
            self.optimizer,
            self.report_schedule,
            record,
            typed=self.overrides,
            remedies=not self.quiet,
        )
        self.training = Training(net, self.optimizer, self.batches, Progress(), {"probes": self.measurement.probe_set})
        self.recorder = FlightRecorder(self.training)
        self.checkpoints = Checkpoints(
            directory / "checkpoints",
            self.plan.checkpoint,
            self.training,
            self.measurement.writer,
            self.recorder,
            self._facts,
        )
        self.latest: dict[str, float] = {}
        self.pruned = False
        self.stopped = ""  # the rule that ended the run
        self.seconds = 0.0  # of training, in processes that have ended
        self.started = time.perf_counter()
        self.console = Console(s.progress and not self.quiet, self.total, per_epoch, net, self.quiet)
        if self.resume_from is None:
            write_dataset(directory, data)
            self._write_config()
            with replaced(directory / "config" / "overrides.yaml") as file:
                file.write("".join(f"- {masked(o)}\n" for o in self.overrides).encode())
        self.console.terminal.on_closed = lambda: self.stop.ask(signal.SIGPIPE)
        self.log = RunLog(directory / "train.log")
        log.setLevel(logging.INFO)
        log.addHandler(self.log)

    def execute(self) -> RunResult:
        """Train, and return how it ended; a stopped run raises KeyboardInterrupt and leaves its record."""
        try:
            return self._execute()
        finally:
            with suppress(OSError):  # it has been said
                self._close_log()

    def _close_log(self) -> None:
        log.removeHandler(self.log)
        with naming(Path(self.log.path)):
            self.log.close()

    def _execute(self) -> RunResult:
        plan, data, directory, tracker = self.plan, self.data, self.directory, self.plan.tracker
        self._begin()
        if self.watcher:
            self.watcher.started(tracker.run_id, directory, data.name)
        log.info("dataset %s: %s", data.name, data.source)
        log.info("run directory %s", directory)
        self.console.warn(data)
        for line in filter(None, (data.summary, *data.notes)):
            log.info("data: %s", line)
            self.console.data(line)
        seen, training = self.measurement, self.training
        event: NonFinite | None = None
        step, epoch = training.progress.step, training.progress.step / len(self.batches)
        self.started = time.perf_counter()
        validation = None if data.x_val is None else (data.x_val, data.y_val)

        def on_step_end() -> None:
            self.recorder()
            if self.stop.number or self.checkpoints.due:
                self.checkpoints.write()
            self.stop.check()

        def enough() -> bool:
            self.stopped = self.stopped or seen.state.stop(plan.settings.stop_when)
            return bool(self.stopped)

        with self._recorded(), self.console, self.stop.deferred():
            for record in (
                ()
                if self.pruned
                else fit(
                    self.net,
                    self.optimizer,
                    self.batches,
                    epochs=self.epochs,
                    max_steps=plan.settings.max_steps,
                    validation=validation,
                    evaluate_every=self.evaluate_every,
                    report_schedule=self.report_schedule,
                    probe_set=seen.probe_set,
                    patience=plan.settings.early_stopping,
                    progress=training.progress,
                    on_step_end=on_step_end,
                    enough=enough,
                )
            ):
                step, epoch, event = record.step, record.epoch, record.nonfinite
                unjudged = seen.finding is None
                metrics = seen.take(record)
                if unjudged and seen.finding is not None:
                    self._found()
                self.checkpoints.observe(metrics)
                if record.reported:
                    kept = {name: value for name, value in self.latest.items() if name not in seen.gone}
                    self.latest = kept | metrics
                    tracker.log(step, epoch, metrics)
                    self.console.show(record, metrics)
                    if self.watcher and event is None and self.watcher.observed(metrics):
                        self.pruned = True
                        break
            if event is None:
                self.checkpoints.write(overwrite=self.pruned)  # so that a run that is gone on with stays pruned
        final = {"time/train_seconds": self._seconds()} | (
            {} if event is not None or self.pruned else evaluated(self.net, self.data)
        )
        tracker.log(step, epoch, final)
        outcome = Outcome.DIVERGED if event is not None else Outcome.PRUNED if self.pruned else Outcome.FINISHED
        stopped = self.stopped if outcome == Outcome.FINISHED else ""
        judged = seen.judge_last(outcome, final)
        seen.close()
        if event is not None:
            self._diverged(event)
        if stopped:
            tracker.tag("bpx.stopped", stopped)
        self._close(outcome, final, stopped)
        diverged = "" if event is None else str(event)
        self.console.report(data, final, seen, directory, tracker, diverged)
        if stopped:
            self.console.note(f"stop_when ended the run at step {training.progress.step} of {self.total}: {stopped}")
        if tracker.differing:
            self.console.note(f"{tracker.differing} metrics differ from those logged before the interruption")
        return RunResult(outcome, self.latest | final, directory, judged.verdict)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Write the record of a run that is stopped meanwhile, too."""
        try:
            yield
        except KeyboardInterrupt:
            self.measurement.close()
            self._hand_over()
            raise

    def _begin(self) -> None:
        """Open the run in the tracker, or go on with it from its newest checkpoint that is whole."""
        tracker, directory = self.plan.tracker, self.directory
        left_out = [f"not measured: {probe.left_out}" for probe in self.measurement.probe_set.probes if probe.left_out]
        for note in [*self.plan.notes, *tracker.notes, *left_out]:
            self.console.note(note)
        for name in tracker.abandoned:
            self.console.note(f"the run {name} was left by a process that died: it is KILLED now")
        if self.resume_from is not None and self.resume_from.run_id:
            tracker.reopen(self.resume_from.run_id, directory)
        else:
            tracker.start(
                f"{self.name} {directory.name}".strip(),
                flatten(self.plan.config),
                {"bpx.dataset": self.data.name} | (self.watcher.tags if self.watcher else {}),
                self.data,
                directory,
            )
        if self.resume_from is not None:
            if tracker.address:
                self.console.note(f"tracked in {masked(tracker.address)}")
            self._go_on()
            self._write_config()
            (directory / "result.json").unlink(missing_ok=True)

    def _write_config(self) -> None:
        write_config(self.directory / "config" / "config.yaml", self.plan.config)

    def _go_on(self) -> None:
        """Put the state back at which the run stopped, and say so."""

        def check(facts: dict[str, Any]) -> None:
            self.measurement.recall(facts)
            self.latest, self.seconds = dict(facts["latest"]), float(facts["seconds"])
            tracker.non_finite = int(facts["non_finite"])
            self.pruned, self.stopped = bool(facts["pruned"]), str(facts["stopped"])

        tracker = self.plan.tracker
        facts, wrong = self.checkpoints.resume(check)
        for text in wrong:
            self.console.note(text)
        if not facts:  # there is none: once more from the start
            self.measurement.recall({})
            self.latest, self.seconds, tracker.non_finite = {}, 0.0, 0
            self.pruned, self.stopped = False, ""
        tracker.compare(int(facts.get("metrics", 0)))
        step = self.training.progress.step
        self.console.note(f"resumed at step {step} of {self.total}, in {self.directory}")
        for change in self.resume_from.changes if self.resume_from else ():
            self.console.note(f"changed: {change}")
        now = numerics_fingerprint()
        for key, before in dict(facts.get("numerics_fingerprint", {})).items():
            if before != now.get(key):
                self.console.note(f"the last bits may differ: {key} was {before} and is {now.get(key)}")
        log.info("resumed at step %d", step)

    def _facts(self) -> dict[str, Any]:
        """Return what a checkpoint has to know beside the state."""
        return self.measurement.facts() | {
            "metrics": self.plan.tracker.position,
            "non_finite": self.plan.tracker.non_finite,
            "latest": self.latest,
            "pruned": self.pruned,
            "stopped": self.stopped,
            "seconds": self._seconds(),
        }

    def _seconds(self) -> float:
        return self.seconds + time.perf_counter() - self.started

    def _found(self) -> None:
        """Say the finding as soon as it is made."""
        finding, tracker = self.measurement.finding, self.plan.tracker
        assert finding is not None
        log.info("finding: %s", finding)
        self.console.found(finding)
        tracker.tag("bpx.verdict", finding.verdict)
        tracker.tag("bpx.finding", finding.sentence)
        tracker.tag("mlflow.note.content", finding.sentence)

    def _diverged(self, event: NonFinite) -> None:
        """Tell where the first non-finite value came from, and keep the frames of the last steps."""
        log.warning("diverged: %s", event)
        self.plan.tracker.tag("bpx.nonfinite", str(event))
        path = self.directory / "nonfinite.json"
        frames = self.recorder.replay(event.step)
        with replaced(path) as file:
            file.write(json.dumps({"event": asdict(event), "frames": frames}, indent=1).encode() + b"\n")
        self.plan.tracker.artifact(path, "")

    def _close(self, outcome: Outcome, final: dict[str, float], stopped: str) -> None:
        """Draw, store the model, hand everything to the tracker."""
        from bpx.engine.model_files import save_model

        data, directory, tracker = self.data, self.directory, self.plan.tracker
        save_evaluation(directory / "evaluation.npz", self.net, data, final.get("accuracy/test"))
        if tracker.figures:
            from bpx.figures import draw_all

            failed: dict[str, str] = {}
            spec = self.net.spec
            draw_all(directory, failed, spec.own_modules if spec else ())
            self._figures_failed(failed)
            tracker.artifact(directory / "figures", "figures")
        save_model(directory, self.net, data.scaler, data.class_names, data.columns, data.target_scaler)
        seen = self.measurement
        assert seen.final is not None
        result = {
            "outcome": outcome,
            "stopped": stopped or None,
            "dataset": data.name,
            "sha256": data.sha256,
            "metrics": final,
            "finding": None if seen.finding is None else seen.finding.as_dict(),
            "final": seen.final.as_dict(),
        }
        tracker.tag("bpx.verdict_final", seen.final.verdict)
        if seen.sentences:
            tracker.tag("bpx.finding", " ".join(seen.sentences))
            ended = f"{outcome}, stopped for it is {stopped}" if stopped else outcome
            tracker.tag("mlflow.note.content", "\n\n".join([*seen.sentences, f"Outcome: {ended}."]))
        log.info("final: %s %s", seen.final.verdict, seen.final.sentence)
        log.info("outcome %s: %s", outcome, ", ".join(f"{k} {v:.6g}" for k, v in final.items()))
        self._close_log()
        self._hand_over()
        if tracker.model:
            tracker.save_model(directory, data)
        tracker.conclude(outcome)
        with replaced(directory / "result.json") as file:  # from here on there is nothing left but sending
            file.write(json.dumps(result, indent=1).encode())
        tracker.finish(outcome)

    def _figures_failed(self, failed: dict[str, str]) -> None:
        """Tell which figures could not be drawn: the run is whole without them."""
        for name, error in failed.items():
            log.warning("figure %s could not be drawn: %s", name, error)
            self.console.note(f"figure {name} could not be drawn: {error}")
        if failed:
            self.plan.tracker.tag("bpx.figures_failed", ", ".join(failed))

    def _hand_over(self) -> None:
        """Give the tracker what the directory holds of the run, whatever its outcome."""
        for name, folder in (("config", "config"), ("train.log", ""), ("gradient_flow.parquet", "")):
            self.plan.tracker.artifact(self.directory / name, folder)
