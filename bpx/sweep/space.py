"""The search space, from Hydra's overrides."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from bpx.system.errors import UserError

Choice = str | int | float | bool | None  # a value as Optuna keeps it
Distribution = CategoricalDistribution | IntDistribution | FloatDistribution
MAX_RANGE = 2.0**53  # beyond, doubles skip integers


@dataclass(frozen=True)
class Dimension:
    """A searched key: its distribution, and its values as overrides.

    ``when`` holds the values of other keys beside which it is searched; without any it always is.
    """

    key: str
    element: str  # the key with Hydra's prefix, as in +key
    distribution: Distribution
    grammar: str  # as it was given
    texts: Mapping[Choice, str] = field(default_factory=dict)
    when: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)

    def applies(self, params: Mapping[str, Choice]) -> bool:
        """Return whether the key is searched given these values of other keys."""
        return all(params.get(key) in allowed for key, allowed in self.when.items())

    def suggest(self, trial: Trial) -> None:
        """Return a value suggested for a trial."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            trial.suggest_categorical(self.key, d.choices)
        elif isinstance(d, IntDistribution):
            trial.suggest_int(self.key, d.low, d.high, step=d.step, log=d.log)
        else:
            trial.suggest_float(self.key, d.low, d.high, step=d.step, log=d.log)

    def holds(self, value: object) -> bool:
        """Return whether the distribution contains a value."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return value in d.choices
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if isinstance(d, IntDistribution) and not isinstance(value, int):
            return False
        steps = 0.0 if d.step is None else (value - d.low) / d.step
        return bool(d.low <= value <= d.high and abs(steps - round(steps)) < 1e-8)

    def override(self, value: Choice) -> str:
        """Return ``key=value``."""
        return f"{self.element}={self.texts.get(value, repr(value))}"

    @property
    def samples(self) -> list[Choice]:
        """All choices, or the ends and the middle of a range."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return list(d.choices)
        return [self.middle, d.low, d.high]

    @property
    def middle(self) -> Choice:
        """A value inside the range."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices[0]
        if isinstance(d, IntDistribution):
            return d.low + (d.high - d.low) // (2 * d.step) * d.step
        return math.sqrt(d.low * d.high) if d.log else (d.low + d.high) / 2

    @property
    def size(self) -> int | None:
        """Number of values, None if unlimited."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return len(d.choices)
        return None if d.step is None else round((d.high - d.low) / d.step) + 1


@dataclass(frozen=True)
class Space:
    """The searched keys, and the overrides common to all trials."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the unconditional keys."""
        return {d.key: d.distribution for d in self.dimensions if not d.when}

    @property
    def size(self) -> int | None:
        """Number of points, None if unlimited."""
        sizes = {d.key: d.size for d in self.dimensions}
        if None in sizes.values():
            return None
        parents = {d.key: d.samples for d in self.dimensions if any(d.key in other.when for other in self.dimensions)}
        total = 0
        for values in product(*parents.values()):
            params = dict(zip(parents, values, strict=True))
            total += math.prod(sizes[d.key] or 0 for d in self.dimensions if d.key not in parents and d.applies(params))
        return total

    def suggest(self, trial: Trial) -> None:
        """Suggest the values of the conditional keys that apply to the trial."""
        for d in self.dimensions:
            if d.when and d.applies(trial.params):
                d.suggest(trial)

    def overrides(self, params: Mapping[str, Choice]) -> list[str]:
        """Return the overrides of the trial with these parameters."""
        return [*self.fixed, *(d.override(params[d.key]) for d in self.dimensions if d.applies(params))]

    def described(self) -> dict[str, str]:
        """Return the grammar of each key, as given."""
        return {d.key: d.grammar for d in self.dimensions}

    def check(self, params: Mapping[str, object], place: str) -> None:
        """Raise UserError if parameters are not (part of) a point of the space."""
        known = {d.key: d for d in self.dimensions}
        for key, value in params.items():
            if key not in known:
                raise UserError(f"{place}: {key} is not searched; searched are {', '.join(known)}")
            if not known[key].holds(value):
                raise UserError(f"{place}: {key} must be in {known[key].grammar}, got {value}")
            for other, allowed in known[key].when.items():
                if params.get(other) not in allowed:
                    raise UserError(f"{place}: {key} needs {other}={' or '.join(map(str, allowed))}")


def space(params: Mapping[str, object], arguments: Iterable[str], loader: ConfigLoader | None = None) -> Space:
    """Return the space of ``params`` (key: grammar) with the command line's ``arguments`` over it.

    ``interval(a,b)`` is continuous, ``range(a,b,step)`` ends before b, ``choice(…)``, ``a,b,c`` and ``glob(…)`` are
    choices, ``tag(log, …)`` is logarithmic. A single value takes its key out of the space. In ``params`` a key may have
    ``{space: grammar, when: {key: value or list}}``: it is searched beside these choices of other keys alone.
    Raises UserError.
    """
    grammars, conditions = _conditions(params)
    parser = OverridesParser.create(config_loader=loader)
    seen: set[str] = set()
    open_: dict[str, Dimension] = {}
    fixed: dict[str, str] = {}
    for override in parser.parse_overrides([*(f"{key}={value}" for key, value in grammars.items()), *arguments]):
        key = override.key_or_group
        open_.pop(key, None)
        fixed.pop(key, None)
        if key in seen:
            conditions.pop(key, None)  # the command line's
        seen.add(key)
        value = override.value()
        if isinstance(value, ChoiceSweep) and len(value.list) == 1:
            (only,) = override.sweep_string_iterator()
            fixed[key] = f"{override.get_key_element()}={only}"
        elif override.is_sweep_override():
            open_[key] = _dimension(override)
        else:
            fixed[key] = override.input_line or ""
    for key, when in conditions.items():
        if key in open_:
            _attach(key, when, open_, fixed)
    if not open_:
        raise UserError(
            "nothing to search: give hydra.sweeper.params, or an override such as "
            "'optimizer.lr=tag(log, interval(1e-4,1))'"
        )
    return Space(tuple(open_.values()), tuple(fixed.values()))


def _conditions(params: Mapping[str, object]) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    """Return the grammar of every key, and the conditions of conditional keys."""
    grammars, conditions = dict(params), {}
    for key, given in params.items():
        if isinstance(given, Mapping):
            when = given.get("when")
            if set(given) != {"space", "when"} or not isinstance(when, Mapping) or not when:
                raise UserError(
                    f"hydra.sweeper.params.{key} must be a grammar or {{space: grammar, when: {{key: value}}}}"
                )
            grammars[key] = given["space"]
            conditions[key.lstrip("+~")] = {str(other): value for other, value in when.items()}
    return grammars, conditions


def _attach(key: str, when: Mapping[str, object], open_: dict[str, Dimension], fixed: Mapping[str, str]) -> None:
    """Return a dimension with its conditions; a condition on a fixed key drops itself or the dimension."""
    needed: dict[str, tuple[Choice, ...]] = {}
    for other, value in when.items():
        allowed = cast(list[Choice], value if isinstance(value, list) else [value])
        place = f"hydra.sweeper.params.{key}.when: {other}"
        if other in fixed:
            if fixed[other].partition("=")[2] not in map(str, allowed):
                del open_[key]
                return
        elif (
            other not in open_
            or open_[other].when
            or not isinstance(open_[other].distribution, CategoricalDistribution)
        ):
            raise UserError(f"{place} must be a key with choices of its own, searched in every trial")
        else:
            for choice in allowed:
                if not open_[other].holds(choice):
                    raise UserError(f"{place} must be one of {open_[other].grammar}, got {choice}")
            needed[other] = tuple(allowed)
    said = " and ".join(f"{other}={'|'.join(map(str, allowed))}" for other, allowed in needed.items())
    grammar = f"{open_[key].grammar} when {said}" if needed else open_[key].grammar
    open_[key] = replace(open_[key], when=needed, grammar=grammar)


def _dimension(override: Override) -> Dimension:
    key, sweep = override.key_or_group, override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    grammar = re.sub(r"\s*([(),])\s*", r"\1", (override.input_line or "").partition("=")[2])
    if tags - {"log"}:
        raise UserError(f"{key}: unknown tag {', '.join(sorted(tags - {'log'}))}; known is log")
    texts: dict[Choice, str] = {}
    distribution: Distribution
    try:
        if isinstance(sweep, IntervalSweep):
            assert sweep.start is not None and sweep.end is not None
            if isinstance(sweep.start, int) and isinstance(sweep.end, int):  # int(interval(a,b))
                distribution = IntDistribution(sweep.start, sweep.end, log="log" in tags)
            else:
                distribution = FloatDistribution(sweep.start, sweep.end, log="log" in tags)
        elif isinstance(sweep, RangeSweep):
            distribution = _range(sweep, "log" in tags)
        else:
            values = [v.text if isinstance(v, QuotedString) else v for v in override.sweep_iterator()]
            strings = list(override.sweep_string_iterator())
            keys = [v if isinstance(v, (str, int, float)) else s for v, s in zip(values, strings, strict=True)]
            texts = dict(zip(keys, strings, strict=True))
            if "log" in tags:
                raise ValueError("choices cannot be logarithmic")
            if not keys or len(texts) < len(keys):
                raise ValueError("choices must differ, and there must be one at least")
            distribution = CategoricalDistribution(keys)
    except ValueError as error:
        raise UserError(f"{key}={grammar}: {' '.join(str(error).split())}") from error
    return Dimension(key, override.get_key_element(), distribution, grammar, texts)


def _range(sweep: RangeSweep, log: bool) -> Distribution:
    assert sweep.start is not None and sweep.stop is not None
    n = math.ceil((sweep.stop - sweep.start) / sweep.step) if sweep.step else 0
    if n < 1:
        raise ValueError("the range is empty")
    low, high = sorted((sweep.start, sweep.start + (n - 1) * sweep.step))
    if abs(high) > MAX_RANGE or abs(low) > MAX_RANGE:
        raise ValueError(f"a range must stay within ±{MAX_RANGE:g}")
    whole = isinstance(low, int) and isinstance(high, int) and isinstance(sweep.step, int)
    if log and (not whole or abs(sweep.step) != 1):  # Optuna's logarithmic distributions have no steps
        raise ValueError("a logarithmic range must be of integers, one apart; interval(a,b) takes any number")
    if whole:
        return IntDistribution(int(low), int(high), log=log, step=abs(int(sweep.step)))
    return FloatDistribution(low, high, step=abs(float(sweep.step)))
