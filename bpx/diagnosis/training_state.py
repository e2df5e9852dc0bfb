"""The state of a network after training: what its records show, judged by the table of rules, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import final

import numpy as np

from bpx.diagnosis.judge import usual_saturation
from bpx.diagnosis.rules import RULES, Flagged
from bpx.diagnosis.snapshot import Snapshot
from bpx.engine.activation import ActivationFunction
from bpx.engine.parts import Json
from bpx.probes import Reading
from bpx.records import Outcome
from bpx.theory import Verdict

USUAL_LARGEST_RATIO = 0.01  # of an update in the first step of a run that trains
STOP_RULES = ("dead", "diverging", "stalled")  # the rules that can end a run
QUANTITIES = frozenset(rule.quantity for rule in RULES.values()) | {"clipped_steps"}
_DEAD_RULES = ("dead layer", "dead")
_SLOPE_RULES = ("exploding", "vanishing")  # said of a network that learned, too, which is no alarm
_THROWN_EXPLAINS = ("dead", "dead layer", "dead units", "saturated")  # a step that threw the weights may be why
_OUTCOME_WORDS = {Outcome.DIVERGED: "diverged", Outcome.PRUNED: "was pruned"}
_SNAPSHOT_FIELDS = ("cost_start", "cost", "accuracy", "rate")  # of what is known, beside the values


@final
@dataclass(frozen=True)
class Alarm:
    """A rule that flags layers at the last record: which, with what values, and since which step."""

    rule: str
    layers: tuple[str, ...]
    values: tuple[float, ...]
    since: int
    sentence: str


@final
@dataclass(frozen=True)
class FinalState:
    """The state after training.

    Attributes
    ----------
    verdict : healthy, vanishing, exploding or dead, from the last record; undetermined where it holds no such thing
    step : the step of that record
    factor : factor of delta's L2 norm per layer, going backward; None where there is none
    learned : whether the network learned; None where that is not known
    alarms : the rules that speak
    sentence : all of it in words
    """

    verdict: str
    step: int
    factor: float | None
    learned: bool | None
    alarms: tuple[Alarm, ...]
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def as_dict(self) -> Json:
        """Return everything as plain JSON."""
        return asdict(self)


@final
class TrainingState:
    """Process the records of a run, and judge the last one.

    ``functions`` are the network's activations, ``inside`` the names of its layers inside residual branches;
    ``largest_class`` is the share of the largest class in the training part, None for numbers as targets;
    ``peak`` the highest learning rate that is foreseen, ``rate_key`` what whoever trains writes to set it.
    """

    def __init__(
        self,
        functions: Iterable[ActivationFunction],
        peak: float,
        largest_class: float | None,
        inside: frozenset[str] = frozenset(),
        rate_key: str = "optimizer.lr",
    ) -> None:
        saturation = max((usual_saturation(function) for function in functions), default=0.0)
        self.known = Snapshot(largest_class=largest_class, usual_saturation=saturation, inside=inside)
        self.peak, self.rate_key = peak, rate_key
        self.judged: dict[str, int] = {}  # by rule: the step of the last record that could show it
        self.since: dict[str, dict[str, int]] = {}  # by rule and layer: the first record of those without a gap
        self.thrown: tuple[float, int, float] | None = None  # largest update ratio, its step, its learning rate
        self.first: tuple[float, float] | None = None  # largest update ratio at the first record, its learning rate
        self.curvature: tuple[float, float] | None = None  # lr * lambda_max at the first record, and its bound
        self._places: dict[str, list[tuple[str, tuple[str, ...], list[int]]]] = {}

    def take(self, step: int, lr: float, metrics: Mapping[str, float], measured: Sequence[Reading]) -> None:
        """Process a record: the metrics of the run and the readings of the probes."""
        known = self.known
        self.peak = max(lr, self.peak)
        known.rate = lr / self.peak if self.peak > 0 else 1.0
        known.cost = metrics.get("cost/train", known.cost)
        known.cost_start = known.cost if known.cost_start is None else known.cost_start
        known.accuracy = metrics.get("accuracy/val", known.accuracy)
        shown = set(metrics)
        for one in measured:
            for quantity, layers, at in self._placed(one):
                known.values[quantity] = layers, one.values[at]
                shown.add(quantity)
            if one.probe == "sharpness" and step == 0:
                found = {
                    quantity: float(value) for (_, _, quantity, _), value in zip(one.keys, one.values, strict=True)
                }
                self.curvature = found["lr_lambda_max"], found["stability_bound"]
        if "delta_l2" in shown:
            shown.add("gradient_flow/slope")
        for name, rule in RULES.items():
            if rule.quantity in shown:
                before = self.since.get(name, {})
                self.judged[name], self.since[name] = step, {at: before.get(at, step) for at in rule(known)}
        if "update_ratio" in shown:
            ratios = known.of("update_ratio")
            exploding = known.verdict == Verdict.EXPLODING  # where the remedy is another network
            if self.first is None and step == 0 and len(ratios) and not exploding:
                self.first = float(ratios.max()), lr
            for ratio in RULES["thrown"](known).values():
                if self.thrown is None or ratio > self.thrown[0]:
                    self.thrown = ratio, step, lr

    def stop(self, wanted: Sequence[str]) -> str:
        """Return which of the ``wanted`` rules two records in succession have shown, empty for none."""
        for name in wanted:
            if any(since < self.judged[name] for since in self.since.get(name, {}).values()):
                return name
        return ""

    def final(self, outcome: Outcome, metrics: Mapping[str, float]) -> FinalState:
        """Judge the last record of a run that ended with ``outcome``; ``metrics`` may hold its ``accuracy/train``."""
        known = self.known
        known.accuracy = metrics.get("accuracy/train", known.accuracy)
        known.r2 = metrics.get("r2/train")
        found = {name: flagged for name, rule in RULES.items() if name != "thrown" and (flagged := rule(known))}
        learned = known.learned
        if outcome == Outcome.DIVERGED:
            found.pop("not learned", None)
            learned = False
        alarms = {name: self._alarm(name, flagged) for name, flagged in found.items()}
        verdict, factor = known.verdict, known.factor
        state = ", and ".join(alarms[name].sentence for name in _DEAD_RULES if name in alarms)
        if factor is not None and verdict != Verdict.DEAD:  # dead in a branch, the main path has a slope
            flow = RULES[verdict].sentence if verdict in RULES else "gradients are healthy, ×{values} per layer"
            state = f"{state}, " * bool(state) + flow.format(values=f"{factor:.3g}")
        first = (*_DEAD_RULES, *_SLOPE_RULES, "not learned")
        clauses = [state, *(alarm.sentence for name, alarm in alarms.items() if name not in first)]
        if self.thrown is not None and any(name in found for name in _THROWN_EXPLAINS):
            ratio, at, lr = self.thrown
            clauses.append(RULES["thrown"].sentence.format(rate=f"{lr:g}", values=f"{ratio:.2g}", step=at))
        if outcome == Outcome.DIVERGED and self.curvature is not None and self.curvature[0] > self.curvature[1]:
            product, bound = self.curvature
            clauses.append(f"lr·λ was {product:.3g} at the start, the optimizer is stable below {bound:.3g}")
        if outcome == Outcome.DIVERGED and self.first is not None and 0 < self.first[0] < math.inf:
            ratio, lr = self.first
            rate = min(lr * USUAL_LARGEST_RATIO / ratio, lr / 2)
            clauses.append(
                f"the first step had an update ratio of {ratio:.2g} at lr {lr:g}: try {self.rate_key}={rate:.1g}"
            )
        if learned is not None and outcome != Outcome.DIVERGED:
            clauses.append(self._learning(learned, "training" if "accuracy/train" in metrics else "validation"))
        step = self.judged.get("dead", self.judged.get("diverging", 0))
        before = (
            f"At step {step}, the last record before it {_OUTCOME_WORDS[outcome]}," if outcome in _OUTCOME_WORDS else ""
        )
        told = "; ".join(clause for clause in clauses if clause)
        sentence = f"{before or 'After training'} {told}." if told else ""
        return FinalState(verdict, step, factor, learned, tuple(alarms.values()), sentence)

    def facts(self) -> Json:
        """Return what a resumed run needs of the records so far, as JSON."""
        known = self.known
        values = {name: [list(layers), found.tolist()] for name, (layers, found) in known.values.items()}
        ends = {key: getattr(known, key) for key in _SNAPSHOT_FIELDS}
        own = {
            "peak": self.peak,
            "judged": self.judged,
            "since": self.since,
            "thrown": self.thrown,
            "first": self.first,
            "curvature": self.curvature,
        }
        return own | ends | {"values": values}

    def recall(self, facts: Json) -> None:
        """Restore what ``facts`` returned."""
        self.peak, self.judged, self.since = float(facts["peak"]), dict(facts["judged"]), dict(facts["since"])
        self.thrown = None if facts["thrown"] is None else tuple(facts["thrown"])
        self.first = None if facts.get("first") is None else tuple(facts["first"])
        self.curvature = None if facts.get("curvature") is None else tuple(facts["curvature"])
        for key in _SNAPSHOT_FIELDS:
            setattr(self.known, key, facts[key])
        self.known.values = {q: (tuple(layers), np.array(v, float)) for q, (layers, v) in facts["values"].items()}

    def _placed(self, one: Reading) -> list[tuple[str, tuple[str, ...], list[int]]]:
        """Return the quantities that the rules read in what a probe measured, with their layers and places."""
        if one.probe not in self._places:
            found: dict[str, list[tuple[str, int]]] = {}
            for i, (layer, operation, quantity, index) in enumerate(one.keys):
                if quantity in QUANTITIES and not operation and index == 0:
                    found.setdefault(quantity, []).append((layer, i))
            self._places[one.probe] = [
                (quantity, tuple(layer for layer, _ in at), [i for _, i in at]) for quantity, at in found.items()
            ]
        return self._places[one.probe]

    def _alarm(self, name: str, flagged: Flagged) -> Alarm:
        low, high = min(flagged.values()), max(flagged.values())
        since = min(self.since.get(name, {}).get(layer, self.judged.get(name, 0)) for layer in flagged)
        sentence = RULES[name].sentence.format(
            layers=named([layer for layer in flagged if layer]),
            percent=f"{_span(f'{100 * low:.0f}', f'{100 * high:.0f}')} %",
            values=_span(f"{low:.2g}", f"{high:.2g}"),
            step=since,
        )
        return Alarm(name, tuple(flagged), tuple(flagged.values()), since, sentence)

    def _learning(self, learned: bool, part: str) -> str:
        known, numbers = self.known, []
        if known.accuracy is not None and known.largest_class is not None:
            numbers.append(f"{part} accuracy {100 * known.accuracy:.2f} %")
            numbers.append(f"share of the largest class {100 * known.largest_class:.2f} %")
        if known.r2 is not None:
            numbers.append(f"training R² {known.r2:.3g}")
        numbers.append(f"cost {known.cost_start:.3g} to {known.cost:.3g}")
        said = "has learned little" if known.learned_little else "has learned" if learned else "has not learned"
        return f"the network {said} ({', '.join(numbers)})"


def named(layers: Sequence[str]) -> str:
    """Return ``layers``, in order, as text: layer_01, layer_03 to layer_05 and layer_07."""
    runs: list[list[str]] = []
    for layer in layers:
        if runs and int(layer.rpartition("_")[2]) == int(runs[-1][-1].rpartition("_")[2]) + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else " and ".join(run) for run in runs]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
