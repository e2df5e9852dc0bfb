"""One run, from its configuration to its report: data, network, training, record, figures."""

from __future__ import annotations

import json
import logging
import math
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from threadpoolctl import threadpool_limits

from bpx.config import Plan, UserError, flatten, plan, streams
from bpx.data import Batches, DataError, Dataset
from bpx.engine.network import Network
from bpx.measurement import Measurement
from bpx.probes import NonFinite, Sparse
from bpx.report import Console
from bpx.tracking import TrackingError
from bpx.training import FlightRecorder, Progress, Training, fit, save_evaluation

REPORTED = 200  # records a run sends to the tracking server, at most about
log = logging.getLogger("bpx")


@dataclass(frozen=True)
class Done:
    """A run that is over: how it ended, its last metrics, the directory that holds its record."""

    outcome: str
    metrics: dict[str, float]
    directory: Path


class Watcher(Protocol):
    """Who follows a run from outside: a sweep its trial."""

    @property
    def tags(self) -> dict[str, str]:
        """What the run's tags shall say besides."""

    def started(self, run_id: str | None, directory: Path, dataset: str) -> None:
        """Take note of where the run is kept."""

    def observed(self, metrics: dict[str, float]) -> bool:
        """Take note of what has just been logged; true ends the run as pruned."""


def run(config: DictConfig) -> dict[str, float]:
    """Train what ``config`` describes and return the last metrics; raises UserError before anything is begun."""
    choices, overrides = _hydra()
    name = choices.get("experiment") or "default"
    return perform(config, name, Path("outputs") / name, overrides).metrics


def perform(
    config: DictConfig,
    name: str,
    parent: Path,
    overrides: Sequence[str],
    *,
    data: Dataset | None = None,
    quiet: bool = False,
    watcher: Watcher | None = None,
) -> Done:
    """Train what ``config`` describes, in a new directory under ``parent``, on ``data`` if they are loaded already.

    Raises UserError before anything is begun. ``quiet`` prints nothing.
    """
    work = plan(config)
    work.tracker.connect()
    try:
        rngs = streams(work.settings.seed)
        if data is None:
            data = work.source.load(rngs["data"], np.dtype(work.settings.dtype))
        net = build_network(work, data, rngs)
        work.tracker.ready()
        directory = run_directory(parent)
        try:
            # what is not finite is found and traced: NumPy need not warn of it
            with threadpool_limits(work.settings.threads), np.errstate(all="ignore"):
                return _Run(work, data, net, rngs, directory, name, overrides, quiet, watcher).execute()
        except BaseException as error:
            work.tracker.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "crashed")
            raise
    except (DataError, TrackingError) as error:
        raise UserError(str(error)) from error


def _hydra() -> tuple[dict[str, Any], list[str]]:
    if not HydraConfig.initialized():
        return {}, []
    hydra = HydraConfig.get()
    return dict(hydra.runtime.choices), list(hydra.overrides.task)


def build_network(work: Plan, data: Dataset, rngs: dict[str, np.random.Generator]) -> Network:
    """Return a plan's network for these data, initialized and bound; raises UserError where they do not fit."""
    size = work.settings.batch_size
    if size > len(data.x_train):
        raise UserError(f"batch_size must be at most the {len(data.x_train)} training samples, got {size}")
    net = work.network(data.n_in, data.n_out)
    if data.n_classes is None and net.loss.classifies:
        raise UserError(f"dataset {data.name} has numbers as targets: use loss=mean_squared_error")
    net.initialize(work.initializer, rngs["initialization"])
    net.bind(size, rngs["dropout"])
    work.initializer.tune(net, data.x_train[:size])
    return net


def run_directory(parent: Path) -> Path:
    """Make a directory of its own under ``parent``, with a folder for the configuration; raises UserError."""
    path = parent / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    try:
        path.mkdir(parents=True)
        (path / "config").mkdir()
    except OSError as error:
        raise UserError(f"cannot write the run directory {path}: {error.strerror}") from error
    return path


class _Run:
    """The parts of one run while it lasts."""

    def __init__(
        self,
        work: Plan,
        data: Dataset,
        net: Network,
        rngs: dict[str, np.random.Generator],
        directory: Path,
        name: str,
        overrides: Sequence[str],
        quiet: bool,
        watcher: Watcher | None,
    ) -> None:
        self.watcher = watcher
        self.work, self.data, self.net, self.directory, self.name = work, data, net, directory, name
        s = work.settings
        self.batches = Batches(data.x_train, data.y_train, s.batch_size, rngs["shuffle"])
        per_epoch = math.ceil(len(data.x_train) / s.batch_size)
        self.total = min(s.epochs * per_epoch, s.max_steps or s.epochs * per_epoch)
        self.epochs = math.ceil(self.total / per_epoch)
        self.due = Sparse(per_epoch, max(1, math.ceil(self.epochs / REPORTED)))
        optimizer, _ = work.optimizer(self.total)
        self.optimizer = optimizer.bind(net.store)
        record = directory / "gradient_flow.parquet"
        self.measurement = Measurement(work, data, net, self.optimizer, self.due, record)
        self.console = Console(s.progress and not quiet, self.total, per_epoch, net, quiet)
        OmegaConf.save(work.config, directory / "config" / "config.yaml")
        (directory / "config" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides))
        self.handler = logging.FileHandler(directory / "train.log")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.setLevel(logging.INFO)
        log.addHandler(self.handler)

    def execute(self) -> Done:
        work, data, directory, tracker = self.work, self.data, self.directory, self.work.tracker
        tracker.start(
            f"{self.name} {directory.name}",
            flatten(work.config),
            {"bpx.dataset": data.name, "bpx.run_directory": os.fspath(directory.absolute())}
            | (self.watcher.tags if self.watcher else {}),
            data,
            directory,
        )
        if self.watcher:
            self.watcher.started(tracker.run_id, directory, data.name)
        log.info("dataset %s: %s", data.name, data.source)
        log.info("run directory %s", directory)
        self.console.warn(data)
        seen, progress = self.measurement, Progress()
        training = Training(self.net, self.optimizer, self.batches, progress, {"probes": seen.panel})
        recorder = FlightRecorder(training)
        latest: dict[str, float] = {}
        event: NonFinite | None = None
        pruned, step, epoch = False, 0, 0.0
        started = time.perf_counter()
        validation = None if data.x_val is None else (data.x_val, data.y_val)
        with self.console:
            for record in fit(
                self.net,
                self.optimizer,
                self.batches,
                epochs=self.epochs,
                max_steps=work.settings.max_steps,
                validation=validation,
                due=self.due,
                panel=seen.panel,
                patience=work.settings.early_stopping,
                progress=progress,
                between=recorder,
            ):
                step, epoch, event = record.step, record.epoch, record.nonfinite
                unjudged = seen.finding is None
                metrics = seen.take(record)
                if unjudged and seen.finding is not None:
                    self._found()
                if record.sparse:
                    latest |= metrics
                    tracker.log(step, epoch, metrics)
                    self.console.show(record, metrics)
                    if self.watcher and event is None and self.watcher.observed(metrics):
                        pruned = True
                        break
        seen.close()
        seconds = time.perf_counter() - started
        final = {"time/train_seconds": seconds} | ({} if event is not None or pruned else self._test())
        tracker.log(step, epoch, final)
        outcome = "diverged" if event is not None else "pruned" if pruned else "finished"
        if event is not None:
            self._diverged(event, recorder)
        self._close(outcome, final)
        diverged = "" if event is None else str(event)
        self.console.report(data, final, seen, directory, tracker, diverged)
        return Done(outcome, latest | final, directory)

    def _found(self) -> None:
        """Say the finding as soon as it is made."""
        finding, tracker = self.measurement.finding, self.work.tracker
        assert finding is not None
        log.info("finding: %s", finding)
        self.console.found(finding)
        tracker.tag("bpx.verdict", finding.verdict)
        tracker.tag("bpx.finding", finding.sentence)
        tracker.tag("mlflow.note.content", finding.sentence)

    def _diverged(self, event: NonFinite, recorder: FlightRecorder) -> None:
        """Tell where the first non-finite value came from, and keep the frames of the last steps."""
        log.warning("diverged: %s", event)
        self.work.tracker.tag("bpx.nonfinite", str(event))
        path = self.directory / "nonfinite.json"
        frames = recorder.replay(event.step)
        path.write_text(json.dumps({"event": asdict(event), "frames": frames}, indent=1) + "\n")
        self.work.tracker.artifact(path, "")

    def _test(self) -> dict[str, float]:
        final = {}
        for part, x, y in (
            ("test", self.data.x_test, self.data.y_test),
            ("train", self.data.x_train, self.data.y_train),
        ):
            cost, hits = self.net.evaluate(x, y)
            if part == "test":
                final["cost/test"] = cost
            if hits is not None:
                final[f"accuracy/{part}"] = hits
        return final

    def _close(self, outcome: str, final: dict[str, float]) -> None:
        """Draw, store the model, hand everything to the tracker."""
        from bpx.engine.model_files import save_model

        data, directory, tracker = self.data, self.directory, self.work.tracker
        save_evaluation(directory / "evaluation.npz", self.net, data, final.get("accuracy/test"))
        if tracker.figures:
            from bpx.figures import draw_all

            draw_all(directory)
            tracker.artifact(directory / "figures", "figures")
        save_model(directory, self.net, data.scaler.shift, data.scaler.scale, data.class_names)
        finding = self.measurement.finding
        result = {
            "outcome": outcome,
            "dataset": data.name,
            "sha256": data.sha256,
            "metrics": final,
            "finding": None if finding is None else finding.as_dict(),
        }
        (directory / "result.json").write_text(json.dumps(result, indent=1))
        if finding is not None:
            note = f"{finding.sentence}\n\n{self.measurement.trained()}\n\nOutcome: {outcome}."
            tracker.tag("mlflow.note.content", note)
        log.info("outcome %s: %s", outcome, ", ".join(f"{k} {v:.6g}" for k, v in final.items()))
        log.removeHandler(self.handler)
        self.handler.close()
        for path, folder in (
            (directory / "config", "config"),
            (directory / "train.log", ""),
            (directory / "gradient_flow.parquet", ""),
        ):
            tracker.artifact(path, folder)
        if tracker.model:
            tracker.save_model(directory, data)
        tracker.finish(outcome)
