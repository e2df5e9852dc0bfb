"""The rules that judge the records of a run: quantity, threshold, sentence and source of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from bpx.diagnosis.snapshot import LEARNED_COST_RATIO, Snapshot
from bpx.engine.arrays import Array, Values

Flagged = dict[str, float]  # value by flagged layer; "" stands for the whole network

MIN_RATE = 0.01  # of the peak learning rate: below it, small updates are what the schedule asks for
MAX_USUAL_SATURATION = 0.25  # share of z ~ N(0, 1) with a slope near zero; it is 0 for tanh and 1/2 for ReLU
CLIPPED_STEPS_THRESHOLD = 0.99
Judge = Callable[[Snapshot, float], Flagged]  # flags layers of a snapshot, given a limit


@final
@dataclass(frozen=True)
class Rule:
    """A rule that judges a record.

    Attributes
    ----------
    name : str
        Name of the rule.
    quantity : str
        Quantity that it reads.
    limit : float
        Limit at which it flags a layer.
    threshold, sentence, source : str
        For people: the limit in words, the sentence of the finding, and the source of the limit.
    judge : callable
        Returns the flagged layers with their values.
    """

    name: str
    quantity: str
    limit: float
    threshold: str
    sentence: str
    source: str
    judge: Judge

    def __call__(self, known: Snapshot) -> Flagged:
        """Return the layers that the rule flags, with their values."""
        return self.judge(known, self.limit)

    def row(self) -> str:
        """Return the rule as a row of the table in docs/concepts.md."""
        threshold = self.threshold.format(limit=self.limit, percent=100 * self.limit)
        sentence = self.sentence.format(layers="`layer_…`", percent="… %", values="…", step="…", rate="…")
        return f"| {self.name} | `{self.quantity}` | {threshold} | {sentence} | {self.source} |"


def _layers(known: Snapshot, quantity: str, mask: Callable[[Values], Array]) -> Flagged:
    if quantity not in known.values:
        return {}
    names, values = known.values[quantity]
    return {names[i]: float(values[i]) for i in mask(values).nonzero()[0]}


def _at_least(quantity: str, unless: Callable[[Snapshot], bool] = lambda known: False) -> Judge:
    """Return the rule that flags layers with a quantity of at least the limit, none if ``unless`` holds."""
    return lambda known, limit: {} if unless(known) else _layers(known, quantity, lambda v: v >= limit)


def _resting(known: Snapshot) -> bool:
    return bool(known.learned) or known.rate < MIN_RATE


def _saturated_anyway(known: Snapshot) -> bool:
    return known.usual_saturation > MAX_USUAL_SATURATION


def _dead(known: Snapshot, limit: float) -> Flagged:
    return dict.fromkeys(known.stopped, limit)


def _dead_units(known: Snapshot, limit: float) -> Flagged:
    return _layers(known, "dead_units", lambda v: (v >= limit) & (v < 1))


def _turned(verdict: str) -> Judge:
    def judge(known: Snapshot, limit: float) -> Flagged:
        if known.learned or known.factor is None or known.verdict != verdict:
            return {}
        return {"": known.factor}

    return judge


def _diverging(known: Snapshot, limit: float) -> Flagged:
    grown = known.grown
    return {"": grown} if grown is not None and grown >= limit else {}


def _stalled(known: Snapshot, limit: float) -> Flagged:
    ratios = known.of("update_ratio")
    if _resting(known) or known.stopped or not (ratios < limit).all():
        return {}
    return _layers(known, "update_ratio", lambda v: v < limit)


def _clipped(known: Snapshot, limit: float) -> Flagged:
    if not (known.of("clipped_steps") >= CLIPPED_STEPS_THRESHOLD).any():
        return {}
    return _layers(known, "clip_coefficient", lambda v: v < limit)


def _not_learned(known: Snapshot, limit: float) -> Flagged:
    return {"": known.grown} if known.learned is False and known.grown is not None else {}


_RULES = (
    Rule(
        name="dead",
        quantity="delta_l2",
        limit=0,
        threshold="exactly {limit:g} in a hidden layer while the loss sends back a delta that is not",
        sentence="delta is exactly zero in {layers} since step {step}",
        source="Lu et al. 2020, section 3",
        judge=_dead,
    ),
    Rule(
        name="dead layer",
        quantity="dead_units",
        limit=1,
        threshold="{percent:g} % of a layer",
        sentence="every unit of {layers} is dead since step {step}",
        source="Lu et al. 2020, section 3",
        judge=_at_least("dead_units"),
    ),
    Rule(
        name="exploding",
        quantity="gradient_flow/slope",
        limit=1,
        threshold="slope · (hidden layers − 1) above {limit:g}: a decade; not learned",
        sentence="gradients explode, ×{values} per layer",
        source="the rule of the finding",
        judge=_turned("exploding"),
    ),
    Rule(
        name="vanishing",
        quantity="gradient_flow/slope",
        limit=-1,
        threshold="slope · (hidden layers − 1) below {limit:g}: a decade; not learned",
        sentence="gradients vanish, ×{values} per layer",
        source="the rule of the finding",
        judge=_turned("vanishing"),
    ),
    Rule(
        name="diverging",
        quantity="cost/train",
        limit=10,
        threshold="at least {limit:g} times its start",
        sentence="the cost is {values} times its start",
        source="healthy runs stay below 1.6 (`benchmarks/alarms.py`)",
        judge=_diverging,
    ),
    Rule(
        name="stalled",
        quantity="update_ratio",
        limit=1e-6,
        threshold="below {limit:g} in every layer, not learned, the learning rate at least 1 % of its peak",
        sentence="the steps are too small to matter (update ratio {values})",
        source="a thousandth of the usual 1e-3 (Karpathy 2015, CS231n)",
        judge=_stalled,
    ),
    Rule(
        name="lost updates",
        quantity="lost_updates",
        limit=0.1,
        threshold="at least {percent:g} % of a layer, not learned, the learning rate at least 1 % of its peak",
        sentence="rounding loses {percent} of the updates of {layers}",
        source="Micikevicius et al. 2018, section 3.1",
        judge=_at_least("lost_updates", unless=_resting),
    ),
    Rule(
        name="clipped",
        quantity="clip_coefficient",
        limit=0.1,
        threshold="below {limit:g}, and `clipped_steps` at least 99 %",
        sentence="clipping shortens every step (coefficient {values})",
        source="Pascanu et al. 2013, section 3.2: the limit is half to ten times the mean norm",
        judge=_clipped,
    ),
    Rule(
        name="clipped entries",
        quantity="clipped_entries",
        limit=0.5,
        threshold="at least {percent:g} %",
        sentence="clipping cuts {percent} of the gradient's entries",
        source="beyond half of them the gradient is little more than its sign",
        judge=_at_least("clipped_entries"),
    ),
    Rule(
        name="saturated",
        quantity="saturation",
        limit=0.8,
        threshold="at least {percent:g} % of a layer, for activations that show less than 25 % for z ~ N(0, 1)",
        sentence="{percent} of {layers} is saturated",
        source="Glorot & Bengio 2010, section 3",
        judge=_at_least("saturation", unless=_saturated_anyway),
    ),
    Rule(
        name="dead units",
        quantity="dead_units",
        limit=0.5,
        threshold="at least {percent:g} % of a layer",
        sentence="{percent} of the units of {layers} are dead",
        source="Lu et al. 2020, section 3",
        judge=_dead_units,
    ),
    Rule(
        name="thrown",
        quantity="update_ratio",
        limit=1,
        threshold="at least {limit:g} in a layer at any record; said beside dead and saturated units",
        sentence="lr {rate} threw the weights (update ratio {values} at step {step})",
        source="a step as long as the weights; usual is 1e-3 (Karpathy 2015, CS231n)",
        judge=_at_least("update_ratio"),
    ),
    Rule(
        name="not learned",
        quantity="cost/train",
        limit=LEARNED_COST_RATIO,
        threshold="above {percent:g} % of its start, or the accuracy less than 5 % of the way from the share of the "
        "largest class to 1, or R² below 0.05",
        sentence="the network has not learned",
        source="the constant answer reaches as much",
        judge=_not_learned,
    ),
)
RULES = {rule.name: rule for rule in _RULES}


def table() -> str:
    """Return the rules as the table in docs/concepts.md."""
    head = "| rule | quantity | threshold | sentence | source |\n|---|---|---|---|---|"
    return "\n".join([head, *(rule.row() for rule in RULES.values())])
