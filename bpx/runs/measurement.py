"""What a run measures of its gradients: the probe_set of probes, rows for the record, metrics, and the finding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from bpx.config import Plan
from bpx.data import Dataset
from bpx.diagnosis import Finding, find, observe, predict_network
from bpx.diagnosis.rows import about, predicted
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.probes import PROBES, ProbeContext, ProbeSet, Reading, ReportSchedule, fit_slope, forward_slope, parse_schedule
from bpx.probes.scales import QUANTITIES
from bpx.records import RecordWriter
from bpx.training import Record

SAMPLES = 256  # of the training part: the fixed set that probes return to


@final
class Measurement:
    """Take in the records of a run: keep every value, name the metrics, and judge the first pass."""

    def __init__(
        self, work: Plan, data: Dataset, net: Network, optimizer: Optimizer, report_schedule: ReportSchedule, path: Path
    ) -> None:
        self.net = net
        self.writer = RecordWriter(path)
        context = ProbeContext(net, optimizer, data.x_train[:SAMPLES])
        self.probe_set = ProbeSet(
            [(PROBES[family](context), parse_schedule(when, report_schedule)) for family, when in work.probes.items()]
        )
        self.finding: Finding | None = None
        self.first: NDArray[np.float64] | None = None  # the scales, (layers, quantities), at the first record
        self.last: NDArray[np.float64] | None = None
        self._wanted = work.tracker.per_layer
        self._named: dict[str, list[tuple[int, str, bool]]] = {}
        replica = net.replica(net.batch)
        replica.forward(data.x_train[: net.batch], train=True)
        self._seen, self._q1, self._prediction = predict_network(replica, band=work.tracker.figures)
        self._about = about(net, self._seen) | {"dataset": data.name}

    def take(self, record: Record) -> dict[str, float]:
        """Keep what a record measured, and return its metrics: those that go to the tracker, if it is reported."""
        for seen in record.measured:
            self.writer.append(record.step, record.epoch, seen.keys, seen.values)
        scales = next((seen.values for seen in record.measured if seen.probe == "scales"), None)
        if scales is not None:
            self.last = scales.reshape(-1, len(QUANTITIES))
            self.first = self.last if self.first is None else self.first
        metrics: dict[str, float] = {}
        if record.step == 0 and self.finding is None:
            metrics |= self._judge(record)
        if record.reported:
            for seen in record.measured:
                metrics |= self._per_layer(seen)
            metrics |= {} if scales is None or record.step == 0 else self._flow()
        return record.metrics | metrics

    def facts(self) -> dict[str, Any]:
        """Return, as JSON, what a resumed run has to know of the records so far."""
        finding = None if self.finding is None else self.finding.as_dict()
        ends = {"first": self.first, "last": self.last}
        return {"finding": finding} | {key: None if a is None else a.tolist() for key, a in ends.items()}

    def recall(self, facts: dict[str, Any]) -> None:
        """Take what ``facts`` returned; raises ValueError or TypeError where it is none."""
        self.finding = None if facts["finding"] is None else Finding.from_dict(facts["finding"])
        self.first, self.last = (None if facts[k] is None else np.array(facts[k], float) for k in ("first", "last"))

    def close(self) -> None:
        """Write the record, with what it is about."""
        finding = None if self.finding is None else self.finding.as_dict()
        self.writer.about = self._about | {"finding": finding}
        self.writer.close()

    def trained(self) -> str:
        """Say in a sentence what the last record shows, empty where nothing can be said."""
        line = None if self.last is None else fit_slope(self.last[:-1, QUANTITIES.index("delta_l2")])
        if line is None or not math.isfinite(line.slope) or self.last is self.first:
            return ""
        return f"At the last record delta changes ×{line.factor:.3f} per layer, first over last {line.ratio:.2g}."

    def _judge(self, record: Record) -> dict[str, float]:
        """Judge the step whose buffers stand as backward left them."""
        if record.nonfinite is not None:
            text = f"Undetermined: the first pass is not finite ({record.nonfinite})."
            self.finding = Finding.undetermined(len(self.net.dense) - 1, text)
            return {}
        seen = observe(self.net)
        self.finding = find(seen, self._seen, self._q1, self._prediction)
        keys, values = predicted(self._prediction, seen)
        self.writer.append(record.step, record.epoch, keys, values)
        return self.finding.metrics()

    def _flow(self) -> dict[str, float]:
        """Return what the last record's scales say of the flow, by the names of metrics."""
        assert self.last is not None
        line = fit_slope(self.last[:-1, QUANTITIES.index("delta_l2")])
        forward = forward_slope(self.last[:-1, QUANTITIES.index("activation_rms")])
        found = {} if line is None else {"slope": line.slope, "abs_slope": abs(line.slope), "ratio": line.ratio}
        found |= {} if forward is None else {"forward_slope": forward}
        return {f"gradient_flow/{name}": value for name, value in found.items()}

    def _per_layer(self, reading: Reading) -> dict[str, float]:
        """Return the values that tracking.per_layer asks for, named as metrics."""
        if reading.probe not in self._named:
            self._named[reading.probe] = [
                (i, f"{prefix}{quantity}/{layer}", bool(prefix))
                for i, (layer, _, quantity, _) in enumerate(reading.keys)
                for prefix in ("", "log10_")
                if layer and f"{prefix}{quantity}" in self._wanted
            ]
        values = reading.values
        found = {}
        for i, name, log in self._named[reading.probe]:
            if not log:
                found[name] = float(values[i])
            elif values[i] > 0:
                found[name] = math.log10(values[i])
        return found
