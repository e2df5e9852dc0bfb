"""The execution of a run: open or resume it, train, evaluate, write the outputs, and close it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import final

from bpx.data import Batches
from bpx.probes import NonFinite
from bpx.records import Outcome
from bpx.runs.console import Console
from bpx.runs.job import Job, RunResult, RunState, Watcher
from bpx.runs.live import LivePictures
from bpx.runs.measurement import Measurement
from bpx.runs.networks import chosen_settings
from bpx.runs.outputs import Outputs
from bpx.runs.resume import Resumed
from bpx.stored.naming import PLAIN, parameters
from bpx.stored.provenance import write_provenance
from bpx.system.files import Json
from bpx.system.interrupts import Stop
from bpx.system.run_files import CHECKPOINTS
from bpx.system.text import masked, printable
from bpx.training import (
    Cadence,
    Checkpoints,
    FlightRecorder,
    Progress,
    Record,
    Training,
    evaluated,
    fit,
    numerics_fingerprint,
)

log = logging.getLogger("bpx")


@final
class Execution:
    """Train a job, and report to its tracker, terminal, log and watcher.

    Nothing is written before ``execute`` is called.
    """

    def __init__(self, job: Job, stop: Stop, watcher: Watcher | None = None, quiet: bool = False) -> None:
        plan, data, net = job.plan, job.data, job.net
        settings = plan.settings
        self.job, self.plan, self.data, self.net = job, plan, data, net
        self.tracker, self.stop, self.watcher = plan.tracker, stop, watcher
        self.outputs = Outputs(job.directory, plan.tracker)
        batches = Batches(data.x_train, data.y_train, settings.batch_size, job.rngs["shuffle"], settings.replacement)
        self.cadence = Cadence(settings.epochs, len(batches), settings.max_steps)
        optimizer = plan.bound_optimizer(self.cadence.total_steps, net)
        self.measurement = Measurement(
            plan, data, net, optimizer, self.cadence.report_schedule, self.outputs.record,
            typed=[*job.flags, *job.overrides], remedies=not quiet, interruptible=stop.interruptible,
        )  # fmt: skip
        self.training = Training(net, optimizer, batches, Progress(), {"probes": self.measurement.probe_set})
        self.recorder = FlightRecorder(self.training)
        self.checkpoints = Checkpoints(
            job.directory / CHECKPOINTS,
            plan.checkpoint,
            self.training,
            self.measurement.writer,
            self.recorder,
            self._facts,
        )
        self.state = RunState()
        self.started = time.perf_counter()
        self.console = Console(settings.progress and not quiet, self.cadence.total_steps, len(batches), net, quiet)
        self.console.terminal.on_closed = lambda: stop.ask(signal.SIGPIPE)

    def execute(self) -> RunResult:
        """Train and return the result; an interrupted run writes its record and raises KeyboardInterrupt."""
        try:
            self._open()
            self._announce_data()
            return self._close(self._train())
        finally:
            with suppress(OSError):  # it has been reported
                self.outputs.close_log()

    def _open(self) -> None:
        """Open a new run, or reopen a resumed one, in its directory and in the tracker."""
        job, tracker, resume_from = self.job, self.tracker, self.job.resume_from
        if resume_from is None:
            self.outputs.begin(self.plan.config, job.overrides, self.data)
        source = write_provenance(job.directory)
        self.outputs.open_log()
        left_out = [f"not measured: {probe.left_out}" for probe in self.measurement.probe_set.probes if probe.left_out]
        for note in [*self.plan.notes, *chosen_settings(self.plan, job.net), *tracker.notes, *left_out]:
            self.console.note(note)
        for name in tracker.abandoned:
            self.console.note(f"the run {name} was left by a process that died: it is KILLED now")
        if resume_from is not None and resume_from.run_id:
            tracker.reopen(resume_from.run_id, job.directory)
        else:
            tags = {"bpx.dataset": self.data.name, **source} | (self.watcher.tags if self.watcher else {})
            tracker.start(job.name or PLAIN, parameters(self.plan.config), tags, self.data, job.directory)
        if resume_from is not None:
            if tracker.address:
                self.console.note(f"tracked in {masked(tracker.address)}")
            self._resume(resume_from)
            self.outputs.write_config(self.plan.config)
            self.outputs.remove_result()
        if self.watcher:
            self.watcher.started(tracker.run_id, job.directory, self.data.name)

    def _resume(self, resume_from: Resumed) -> None:
        """Restore the newest undamaged checkpoint, and print what differs from the interrupted run."""
        facts, wrong = self.checkpoints.resume(self._recall)
        for text in wrong:
            self.console.note(text)
        if not facts:  # no checkpoint: start over
            self.measurement.recall({})
            self.state, self.tracker.non_finite = RunState(), 0
        self.tracker.compare(int(facts.get("metrics", 0)))
        step = self.training.progress.step
        self.console.note(f"resumed at step {step} of {self.cadence.total_steps}, in {self.job.directory}")
        for change in resume_from.changes:
            self.console.note(f"changed: {change}")
        now = numerics_fingerprint()
        for key, before in dict(facts.get("numerics_fingerprint", {})).items():
            if before != now.get(key):
                self.console.note(f"the last bits may differ: {key} was {before} and is {now.get(key)}")
        self.console.recall(self.state.latest, self.measurement.last)
        log.info("resumed at step %d", step)

    def _facts(self) -> Json:
        """Return what a checkpoint stores besides the state of training, as JSON."""
        own = vars(self.state) | {"seconds": self._seconds()}
        tracked = {"metrics": self.tracker.position, "non_finite": self.tracker.non_finite}
        return self.measurement.facts() | tracked | own

    def _recall(self, facts: Json) -> None:
        """Restore what ``_facts`` returned; raises ValueError, KeyError or TypeError for anything else."""
        self.measurement.recall(facts)
        latest, seconds = dict(facts["latest"]), float(facts["seconds"])
        self.state = RunState(latest, bool(facts["pruned"]), str(facts["stopped"]), seconds)
        self.tracker.non_finite = int(facts["non_finite"])

    def _announce_data(self) -> None:
        """Print and log the data and the run directory."""
        log.info("dataset %s: %s", self.data.name, self.data.source)
        log.info("run directory %s", self.job.directory)
        self.console.warn(self.data)
        for line in filter(None, (self.data.summary, *self.data.notes)):
            line = printable(" ".join(line.split()))  # a name may hold whatever a quoted cell does
            log.info("data: %s", line)
            self.console.data(line)

    def _train(self) -> NonFinite | None:
        """Train to the end; return the first non-finite value, or None."""
        self.started = time.perf_counter()
        self.live = LivePictures(self.job.directory, self.tracker, self.cadence.total_steps)
        event: NonFinite | None = None
        with self._recorded(), self.console.bar, self.stop.deferred():
            for record in () if self.state.pruned else self._records():
                event = record.nonfinite
                self._take(record)
                if self.state.pruned:
                    break
            if event is None:
                self.checkpoints.write(final=self.state.pruned)  # so that a run that is gone on with stays pruned
        return event

    def _records(self) -> Iterator[Record]:
        return fit(
            self.training,
            self.cadence,
            probe_set=self.measurement.probe_set,
            validation=self.data.validation,
            patience=self.plan.settings.early_stopping,
            enough=self._enough,
            on_step_end=self._on_step_end,
            interruptible=self.stop.interruptible,
        )

    def _take(self, record: Record) -> None:
        """Store a record, and report its metrics to the tracker, the terminal and the watcher."""
        measurement, judged = self.measurement, self.measurement.finding is not None
        metrics = measurement.take(record)
        if not judged and measurement.finding is not None:
            self._announce_finding()
        self.checkpoints.observe(metrics)
        if not record.reported:
            return
        kept = {name: value for name, value in self.state.latest.items() if name not in measurement.gone}
        self.state.latest = kept | metrics
        self.tracker.log(record.step, record.epoch, metrics)
        self.console.show(record, metrics)
        if record.nonfinite is None and any(reading.probe == "scales" for reading in record.measured):
            self.live.observe(record.step, measurement.writer, measurement.about)
        if self.watcher and record.nonfinite is None:
            self.state.pruned = bool(self.watcher.observed(metrics))  # a pruner may return NumPy's

    def _enough(self) -> bool:
        """Return whether a rule of ``stop_when`` ends the run."""
        self.state.stopped = self.state.stopped or self.measurement.state.stop(self.plan.settings.stop_when)
        return bool(self.state.stopped)

    def _on_step_end(self) -> None:
        self.recorder()
        if self.stop.number or self.checkpoints.due:
            self.checkpoints.write()
        self.stop.check()

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Write the record also if the run is interrupted inside the context."""
        try:
            yield
        except KeyboardInterrupt:
            self.measurement.close()
            self.outputs.upload()
            raise

    def _seconds(self) -> float:
        return self.state.seconds + time.perf_counter() - self.started

    def _announce_finding(self) -> None:
        """Print, log and tag the finding at initialization."""
        finding = self.measurement.finding
        assert finding is not None
        log.info("finding: %s", finding)
        self.console.found(finding)
        with self.tracker.together():
            self.tracker.tag("bpx.verdict", finding.verdict)
            if finding.verdict_time is not None:
                self.tracker.tag("bpx.verdict_time", finding.verdict_time)
            self.tracker.tag("bpx.finding", finding.sentence)
            self.tracker.tag("mlflow.note.content", finding.sentence)

    def _close(self, event: NonFinite | None) -> RunResult:
        """Evaluate and judge the trained network, write the outputs, and print the report."""
        state, measurement, tracker = self.state, self.measurement, self.tracker
        step = self.training.progress.step
        final = {"time/train_seconds": self._seconds()}
        if event is None and not state.pruned:
            final |= evaluated(self.net, self.data)
        tracker.log(step, step / len(self.training.batches), final)
        outcome = Outcome.DIVERGED if event is not None else Outcome.PRUNED if state.pruned else Outcome.FINISHED
        stopped = state.stopped if outcome == Outcome.FINISHED else ""
        judged = measurement.judge_last(outcome, final)
        measurement.close()
        if event is not None:
            log.warning("diverged: %s", event)
            tracker.tag("bpx.nonfinite", str(event))
            self.outputs.write_nonfinite(event, self.recorder.replay(event.step))
        if stopped:
            tracker.tag("bpx.stopped", stopped)
        self._write_outputs(outcome, final, stopped)
        diverged = "" if event is None else str(event)
        self.console.report(self.data, final, measurement, self.job.directory, tracker, diverged)
        if stopped:
            self.console.note(f"stop_when ended the run at step {step} of {self.cadence.total_steps}: {stopped}")
        if tracker.differing:
            self.console.note(f"{tracker.differing} metrics differ from those logged before the interruption")
        return RunResult(outcome, state.latest | final, self.job.directory, judged.verdict)

    def _write_outputs(self, outcome: Outcome, final: dict[str, float], stopped: str) -> None:
        """Write figures, model and result, upload them, and end the run in the tracker."""
        outputs, tracker, measurement, data = self.outputs, self.tracker, self.measurement, self.data
        assert measurement.final is not None
        self.live.close(measurement.writer, measurement.about)
        outputs.write_evaluation(self.net, data, final)
        if tracker.figure_format:
            for name, error in outputs.draw_figures(self.net).items():
                self.console.note(f"figure {name} could not be drawn: {error}")
            if why := outputs.write_report(outcome):
                self.console.note(f"the report could not be written: {why}")
        outputs.write_model(self.net, data)
        log.info("final: %s %s", measurement.final.verdict, measurement.final.sentence)
        log.info("outcome %s: %s", outcome, ", ".join(f"{k} {v:.6g}" for k, v in final.items()))
        outputs.close_log()
        with tracker.together():
            tracker.tag("bpx.verdict_final", measurement.final.verdict)
            if measurement.sentences:
                ended = f"{outcome}, stopped for it is {stopped}" if stopped else outcome
                tracker.tag("bpx.finding", " ".join(measurement.sentences))
                tracker.tag("mlflow.note.content", "\n\n".join([*measurement.sentences, f"Outcome: {ended}."]))
            outputs.upload()
            if tracker.model:
                tracker.save_model(self.job.directory, data)
            tracker.conclude(outcome)
        outputs.write_result(outcome, stopped, data, final, measurement.finding, measurement.final)
        self.checkpoints.discard()
        tracker.finish(outcome)
