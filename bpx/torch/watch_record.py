"""What ``watch`` writes: a directory with config, record and result, and the tracker beside it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from torch import Tensor

from bpx.diagnosis.finding import Finding
from bpx.diagnosis.judge import measured_finding
from bpx.diagnosis.rows import predicted
from bpx.diagnosis.sentence import sentence
from bpx.diagnosis.training_state import FinalState, TrainingState
from bpx.diagnosis.trials import Causes
from bpx.probes import Reading, fit_slope
from bpx.probes.nonfinite import NonFinite
from bpx.probes.scales import QUANTITIES
from bpx.records import Outcome, RecordWriter
from bpx.system.files import leaves, replaced, unique_name, write_json
from bpx.system.run_files import CONFIG, OUTPUTS, RECORD, RESULT
from bpx.torch.diagnosis import about, activation_functions
from bpx.torch.measure import PassMeasurement
from bpx.torch.preserved import kept_buffers
from bpx.torch.theory import predict_pass
from bpx.tracking import ActiveRun, LocalTracker, MLflowTracker, Tracker, run_is_active

log = logging.getLogger(__name__)
PER_LAYER = ("grad_norm", "log10_delta_l2", "activation_std", "log10_update_ratio")
Config = dict[str, Any]  # plain values, nested


@final
class WatchRecord:
    """The directory of a watched training and its tracker.

    Attributes
    ----------
    directory : Path
        Where config, record, metrics and result are.
    finding : Finding or None
        Of the first measured step.
    final : FinalState or None
        Of the last measured step, once the record is closed.
    metrics : dict of str to float or Tensor
        What is kept for the next step that is measured.
    """

    def __init__(self, name: str, config: Config, directory: Path | None, tracking: str | Tracker) -> None:
        self.name, self.config, self.tracker = name, config, _tracker(tracking)
        self.directory = directory or OUTPUTS / "torch" / unique_name()
        self.finding: Finding | None = None
        self.final: FinalState | None = None
        self.metrics: dict[str, float | Tensor] = {}
        self._costs: list[float | Tensor] = []
        self._state: TrainingState | None = None
        self._about: dict[str, Any] = {}

    def open(self) -> None:
        """Make the directory, which has to be new, and start the tracker's run."""
        (self.directory / CONFIG.parent).mkdir(parents=True, exist_ok=False)
        with replaced(self.directory / CONFIG) as file:
            file.write(json.dumps(self.config, indent=1, default=str).encode())  # JSON is YAML
        self._writer = RecordWriter(self.directory / RECORD)
        self.tracker.connect()
        self.tracker.start(self.name, dict(leaves(self.config)), {}, None, self.directory)

    def take(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Keep metrics for the next step that is measured: the mean of ``cost/train``, the last of others.

        What is on a device is read there, when that step is, for reading waits for the device.
        """
        kept = {key: value.detach().clone() if isinstance(value, Tensor) else value for key, value in metrics.items()}
        if "cost/train" in kept:
            self._costs.append(kept["cost/train"])
        self.metrics |= kept

    def judge(self, measured: PassMeasurement, step: int, epoch: float, rate: float) -> None:
        """Keep the finding of the first measured step, with its gains and theory."""
        observation = measured.observation()
        with kept_buffers(measured.capture.model):  # reading a parametrized weight may change them
            known, prediction = predict_pass(measured)
        found = measured_finding(observation, prediction, Causes((), {}))
        self.finding = replace(found, sentence=sentence(found, observation))
        self._about = about(measured, known) | {"dataset": f"of {self.name}"}
        self._writer.append(step, epoch, *measured.gains())
        self._writer.append(step, epoch, *predicted(prediction, observation))
        self._state = TrainingState(activation_functions(measured), rate, None, rate_key="lr")
        self.tracker.tag("bpx.verdict", self.finding.verdict)
        self.tracker.tag("bpx.finding", self.finding.sentence)
        self.metrics |= self.finding.metrics()

    def keep(self, readings: list[Reading], step: int, epoch: float, rate: float) -> None:
        """Write what was measured of a step, and the metrics kept for it."""
        metrics = {key: float(value) for key, value in self.metrics.items()} | {"lr": rate}
        if self._costs:
            metrics["cost/train"] = math.fsum(map(float, self._costs)) / len(self._costs)
        self.metrics, self._costs = {}, []
        for reading in readings:
            self._writer.append(step, epoch, reading.keys, reading.values)
        scales = readings[0]
        line = fit_slope(scales.values.reshape(-1, len(QUANTITIES))[:-1, QUANTITIES.index("delta_l2")])
        if step > 0 and line is not None:
            metrics |= line.metrics()
        for (layer, _, quantity, _), value in zip(scales.keys, scales.values.tolist(), strict=True):
            if quantity in PER_LAYER and math.isfinite(value):
                metrics[f"{quantity}/{layer}"] = value
            if f"log10_{quantity}" in PER_LAYER and value > 0:
                metrics[f"log10_{quantity}/{layer}"] = math.log10(value)
        if self._state is not None:
            self._state.take(step, rate, metrics, readings)
        self.tracker.log(step, epoch, metrics)

    def close(self, outcome: Outcome, nonfinite: NonFinite | None) -> None:
        """Write the record and the result, and end the tracker's run."""
        finding = None if self.finding is None else self.finding.as_dict()
        self.final = None if self._state is None else self._state.final(outcome, {})
        last = None if self.final is None else self.final.as_dict()
        self._writer.about = self._about | {"finding": finding, "final": last}
        if nonfinite is not None:
            self._writer.about["nonfinite"] = str(nonfinite)
        self._writer.close()
        write_json(self.directory / RESULT, {"outcome": outcome, "finding": finding, "final": last})
        self.tracker.tag("bpx.outcome", outcome)
        if self.final is not None:
            self.tracker.tag("bpx.verdict_final", self.final.verdict)
        self.tracker.artifact(self._writer.path)
        self._write_report()
        self.tracker.finish(outcome)

    def _write_report(self) -> None:
        from bpx.figures.canvas import noting_failure
        from bpx.reports.write import write_run_report

        failed: dict[str, str] = {}
        with noting_failure(failed, "report"):
            self.tracker.artifact(write_run_report(self.directory), "")
        for error in failed.values():
            log.warning("the report could not be written: %s", error)


def _tracker(tracking: str | Tracker) -> Tracker:
    if isinstance(tracking, Tracker):
        return tracking
    if tracking not in ("auto", "mlflow", "none"):
        raise ValueError(f"tracking: expected auto, mlflow, none or a Tracker, got {tracking!r}")
    if run_is_active() and tracking != "none":
        return ActiveRun()
    return MLflowTracker() if tracking == "mlflow" else LocalTracker()
