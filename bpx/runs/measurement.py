"""The measurements of a run: probes, rows of the record, metrics, the finding, the state after training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import final

import numpy as np

from bpx.config.plan import Plan
from bpx.data import Dataset
from bpx.diagnosis import Finding, diagnose_pass, observe, predict_network
from bpx.diagnosis.architecture import activation_functions
from bpx.diagnosis.rows import about, predicted
from bpx.diagnosis.training_state import FinalState, TrainingState
from bpx.engine.arrays import Values
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.probes import ProbeContext, ProbeSet, Reading, ReportSchedule, fit_slope, forward_slope, parse_schedule
from bpx.probes.probe import main_path, weight_layers
from bpx.probes.scales import QUANTITIES
from bpx.probes.sharpness import Sharpness
from bpx.probes.through_time import blank_steps
from bpx.records import Outcome, RecordWriter
from bpx.runs.networks import FromPlan
from bpx.system.files import Json
from bpx.theory import Verdict
from bpx.training import Record

SHARPNESS = frozenset({*Sharpness.other_quantities, "gradient_noise_scale"})
NTK_METRICS = frozenset({"ntk_condition", "ntk_change"})
FLOW = frozenset(
    f"gradient_flow/{name}" for name in ("slope", "abs_slope", "factor", "ratio", "forward_slope", "zero_layers")
)
TIME_FLOW = frozenset({"gradient_flow/time_slope", "gradient_flow/time_ratio"})
N_PROBE_SAMPLES = 256  # of the training part: the fixed set that probes return to


@final
class Measurement:
    """Process the records of a run: store every value, derive metrics, judge the first and the last record.

    Theory's band is computed only if figures are drawn; ``remedies`` are searched unless the run is quiet.

    Attributes
    ----------
    about : dict
        Facts about the network and the data for the record, as JSON, without the finding.
    gone : frozenset of str
        Metrics that the last record should have had, but that are no longer defined.
    """

    def __init__(
        self,
        plan: Plan,
        data: Dataset,
        net: Network,
        optimizer: Optimizer,
        report_schedule: ReportSchedule,
        path: Path,
        *,
        typed: Sequence[str] = (),
        remedies: bool = True,
        interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.net, self._interruptible = net, interruptible
        self._redraw = FromPlan(plan, data, typed) if remedies else None
        self.writer = RecordWriter(path)
        context = ProbeContext(net, optimizer, data.x_train[:N_PROBE_SAMPLES], data.y_train[:N_PROBE_SAMPLES])
        self.probe_set = ProbeSet(
            [(probe(context), parse_schedule(when, report_schedule)) for probe, when in plan.probes.items()]
        )
        self.optimizer = optimizer
        self.finding: Finding | None = None
        self.final: FinalState | None = None
        self._diverged = False
        layers = weight_layers(net)
        self._on_path = main_path(layers)
        inside = frozenset(layer.name for layer in layers if not layer.on_main_path)
        self.state = TrainingState(activation_functions(net), optimizer.rate.base, _largest_class(data), inside)
        self.gone: frozenset[str] = frozenset()
        self.first: Values | None = None  # the scales, (layers, quantities), at the first record
        self.last: Values | None = None
        self._wanted = plan.tracker.per_layer
        self._named: dict[str, list[tuple[int, str, bool]]] = {}
        replica = net.replica(net.batch)
        replica.cost(data.x_train[: net.batch], data.y_train[: net.batch])
        replica.loss.backward()
        self._architecture, _, self._prediction = predict_network(replica, band=bool(plan.tracker.figures))
        self.about = about(net, self._architecture) | {"dataset": data.name}

    def take(self, record: Record) -> dict[str, float]:
        """Store the readings of a record and return its metrics; those of layers only if it is reported."""
        for reading in record.measured:
            self.writer.append(record.step, record.epoch, reading.keys, reading.values)
        scales = next((reading.values for reading in record.measured if reading.probe == "scales"), None)
        if scales is not None:
            self.last = scales.reshape(-1, len(QUANTITIES))
            self.first = self.last if self.first is None else self.first
        metrics: dict[str, float] = {}
        if record.step == 0 and self.finding is None:
            with self._interruptible():  # remedies take seconds
                metrics |= self._judge(record)
        if record.nonfinite is None:
            self.state.take(record.step, self.optimizer.lr, record.metrics, record.measured)
        possible: set[str] = set()
        if record.reported:
            for reading in record.measured:
                metrics |= self._per_layer(reading) | _of_the_run(reading)
                possible |= {name for _, name, _ in self._named[reading.probe]}
            if scales is not None and record.step > 0:
                metrics |= self._flow()
                possible |= FLOW
            if record.step > 0 and any(reading.probe == "through_time" for reading in record.measured):
                metrics |= self._flow_through_time(record)
                possible |= TIME_FLOW
        self.gone = frozenset(possible - set(metrics))
        return record.metrics | metrics

    def facts(self) -> Json:
        """Return what a resumed run needs of the records so far, as JSON."""
        finding = None if self.finding is None else self.finding.as_dict()
        ends = {"first": self.first, "last": self.last}
        kept = {key: None if a is None else a.tolist() for key, a in ends.items()}
        return {"finding": finding, "state": self.state.facts()} | kept

    def recall(self, facts: Json) -> None:
        """Restore what ``facts`` returned; raises ValueError, KeyError or TypeError for anything else."""
        if not facts:  # there was no record
            self.finding = self.first = self.last = None
            return
        self.finding = None if facts["finding"] is None else Finding.from_dict(facts["finding"])
        self.state.recall(facts["state"])
        self.first, self.last = (None if facts[k] is None else np.array(facts[k], float) for k in ("first", "last"))

    def close(self) -> None:
        """Write the record, with the facts about the run in its metadata."""
        finding = None if self.finding is None else self.finding.as_dict()
        final = None if self.final is None else self.final.as_dict()
        self.writer.about = self.about | {"finding": finding, "final": final}
        self.writer.close()

    def judge_last(self, outcome: Outcome, metrics: dict[str, float]) -> FinalState:
        """Judge the last record of a run that has ended with the given outcome and final metrics."""
        self.final = self.state.final(outcome, metrics)
        self._diverged = outcome == Outcome.DIVERGED
        return self.final

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences of the finding: at initialization, then after training; of a diverged run in reverse order."""
        said = ["" if one is None else one.sentence for one in (self.finding, self.final)]
        if self._diverged and all(said):
            return said[1], f"At initialization: {said[0]}"
        return tuple(sentence for sentence in said if sentence)

    def _judge(self, record: Record) -> dict[str, float]:
        """Judge the first pass, whose buffers still hold its gradients, and return the finding's metrics."""
        if record.nonfinite is not None:
            text = f"Undetermined: the first pass is not finite ({record.nonfinite})."
            self.finding = Finding(Verdict.UNDETERMINED, len(self._on_path), sentence=text)
            return {}
        ratios = () if self.first is None else self.first[:, QUANTITIES.index("update_ratio")].tolist()
        observation = observe(self.net, ratios)
        self.finding = diagnose_pass(self.net, observation, self._prediction, self._redraw)
        keys, values = predicted(self._prediction, observation)
        self.writer.append(record.step, record.epoch, keys, values)
        return self.finding.metrics()

    def _flow(self) -> dict[str, float]:
        """Return the metrics of gradient flow from the last record's scales."""
        assert self.last is not None
        hidden = self.last[self._on_path, QUANTITIES.index("delta_l2")]
        line = fit_slope(hidden)
        forward = forward_slope(self.last[self._on_path, QUANTITIES.index("activation_rms")])
        found = {"gradient_flow/zero_layers": float(np.count_nonzero(hidden == 0))}
        found |= {} if line is None else line.metrics()
        return found | ({} if forward is None else {"gradient_flow/forward_slope": forward})

    def _flow_through_time(self, record: Record) -> dict[str, float]:
        """Return the metrics of the gradient through time, from the states of the last recurrent layer."""
        for reading in record.measured:
            if reading.probe == "through_time":
                last = reading.keys[-1][0]
                l2 = reading.values[[key[0] == last for key in reading.keys]]
                line = fit_slope(l2[blank_steps(self.net, l2) :])
                if line is not None and math.isfinite(line.slope):
                    return {"gradient_flow/time_slope": line.slope, "gradient_flow/time_ratio": line.ratio}
        return {}

    def _per_layer(self, reading: Reading) -> dict[str, float]:
        """Return the values of the quantities in ``tracking.per_layer``, named as metrics."""
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


def _of_the_run(reading: Reading) -> dict[str, float]:
    """Return the metrics of the whole network: sharpness, gradient noise scale, tangent kernel."""
    pairs = zip(reading.keys, reading.values.tolist(), strict=True)
    return {
        f"{'sharpness' if quantity in SHARPNESS else 'ntk'}/{quantity.removeprefix('ntk_')}": value
        for (_, _, quantity, _), value in pairs
        if quantity in SHARPNESS | NTK_METRICS and math.isfinite(value)
    }


def _largest_class(data: Dataset) -> float | None:
    """Return the share of the largest class in the training part, None for numbers as targets."""
    if data.n_classes is None:
        return None
    return float(np.bincount(data.y_train.reshape(-1)).max() / data.y_train.size)
