"""What a run measures of its gradients: the panel of probes, rows for the record, metrics, and the finding."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from bpx.config import Plan
from bpx.data import Dataset
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.findings import Finding, find, observe, predict_network
from bpx.probes import PROBES, Measured, Panel, Sparse, Subject, flow, schedule
from bpx.probes.probe import Key
from bpx.probes.scales import QUANTITIES
from bpx.records import RecordWriter
from bpx.training import Record

SAMPLES = 256  # of the training part: the fixed set that probes return to
PREDICTED = (
    "predicted_delta_rms",
    "predicted_delta_rms_low",
    "predicted_delta_rms_high",
    "predicted_preactivation_rms",
)


@final
class Measurement:
    """Take in the records of a run: keep every value, name the metrics, and judge the first pass."""

    def __init__(self, work: Plan, data: Dataset, net: Network, optimizer: Optimizer, due: Sparse, path: Path) -> None:
        self.net = net
        self.writer = RecordWriter(path)
        subject = Subject(net, optimizer, data.x_train[:SAMPLES])
        self.panel = Panel([(PROBES[family](subject), schedule(when, due)) for family, when in work.probes.items()])
        self.finding: Finding | None = None
        self.first: NDArray[np.float64] | None = None  # the scales, (layers, quantities), at the first record
        self.last: NDArray[np.float64] | None = None
        self._wanted = work.tracker.per_layer
        self._named: dict[str, list[tuple[int, str, bool]]] = {}
        twin = net.twin(net.batch)
        twin.forward(data.x_train[: net.batch], train=True)
        self._seen, self._q1, self._prediction = predict_network(twin, band=work.tracker.figures)
        self.about: dict[str, Any] = {"dataset": data.name, "batch_size": net.batch, "dtype": str(net.dtype)}
        if self._seen is not None:
            self.about |= {
                "activation": {"name": self._seen.activation.name, **vars(self._seen.activation)},
                "normalization": self._seen.normalization,
                "residual": self._seen.residual,
                "keep": self._seen.keep,
                "sigma_b": self._seen.bias_std,
                "sigma_w": self._sigma_w(),
            }

    def take(self, record: Record) -> dict[str, float]:
        """Keep what a record measured, and return its metrics: those that go to the tracker, if it is sparse."""
        for seen in record.measured:
            self.writer.append(record.step, record.epoch, seen.keys, seen.values)
        scales = next((seen.values for seen in record.measured if seen.probe == "scales"), None)
        if scales is not None:
            self.last = scales.reshape(-1, len(QUANTITIES))
            self.first = self.last if self.first is None else self.first
        metrics: dict[str, float] = {}
        if record.step == 0 and self.finding is None and record.nonfinite is None:
            metrics |= self._judge(record)
        if record.sparse:
            for seen in record.measured:
                metrics |= self._per_layer(seen)
            metrics |= {} if scales is None or record.step == 0 else self._flow()
        return record.metrics | metrics

    def close(self) -> None:
        """Write the record, with what it is about."""
        finding = None if self.finding is None else self.finding.as_dict()
        self.writer.about = self.about | {"finding": finding}
        self.writer.close()

    def trained(self) -> str:
        """Say in a sentence what the last record shows, empty where nothing can be said."""
        line = None if self.last is None else flow(self.last[:-1, 0])
        if line is None or not math.isfinite(line.slope) or self.last is self.first:
            return ""
        return f"At the last record delta changes ×{line.factor:.3f} per layer, first over last {line.ratio:.2g}."

    def _judge(self, record: Record) -> dict[str, float]:
        """Judge the step whose buffers stand as backward left them."""
        self.finding = find(observe(self.net), self._seen, self._q1, self._prediction)
        p, last = self._prediction, observe(self.net).delta_rms[-1:]
        if p.slope is not None and last.size:
            columns = [last[0] * 10 ** np.array(x) for x in (p.log10_delta, p.low, p.high)]
            columns.append(np.sqrt(np.array(p.q)))
            names = [f"layer_{i:02d}" for i in range(1, len(p.q) + 1)]
            keys: tuple[Key, ...] = tuple((name, "", quantity, 0) for quantity in PREDICTED for name in names)
            self.writer.append(record.step, record.epoch, keys, np.concatenate(columns))
        return self.finding.metrics()

    def _flow(self) -> dict[str, float]:
        assert self.last is not None
        line = flow(self.last[:-1, 0])
        if line is None:
            return {}
        return {
            "gradient_flow/slope": line.slope,
            "gradient_flow/abs_slope": abs(line.slope),
            "gradient_flow/ratio": line.ratio,
        }

    def _per_layer(self, seen: Measured) -> dict[str, float]:
        """Return the values that tracking.per_layer asks for, named as metrics."""
        if seen.probe not in self._named:
            self._named[seen.probe] = [
                (i, f"{prefix}{quantity}/{layer}", bool(prefix))
                for i, (layer, _, quantity, _) in enumerate(seen.keys)
                for prefix in ("", "log10_")
                if layer and f"{prefix}{quantity}" in self._wanted
            ]
        values = seen.values
        found = {}
        for i, name, log in self._named[seen.probe]:
            if not log:
                found[name] = float(values[i])
            elif values[i] > 0:
                found[name] = math.log10(values[i])
        return found

    def _sigma_w(self) -> float | None:
        """Return sigma_w of the hidden layers: std times the root of fan_in, their root mean square."""
        assert self._seen is not None
        if self._seen.weight_std is None:
            return None
        pairs = zip(self._seen.fans[:-1], self._seen.weight_std, strict=True)
        squares = [n * s * s for n, s in pairs][1:-1]
        return math.sqrt(sum(squares) / len(squares)) if squares else None
