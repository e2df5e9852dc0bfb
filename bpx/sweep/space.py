"""From Hydra's overrides to the space that is searched."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, Quote, QuotedString, RangeSweep
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from bpx.config import UserError

Choice = str | int | float | bool | None  # a value as Optuna keeps it
MAX_RANGE = 2.0**53  # beyond, doubles skip integers


@dataclass(frozen=True)
class Dimension:
    """One key that is searched: its distribution, and how a value of it is written as an override."""

    key: str
    element: str  # the key with Hydra's prefix, as in +key
    distribution: BaseDistribution
    grammar: str  # as it was given
    texts: Mapping[Choice, str] = field(default_factory=dict)

    def override(self, value: Choice) -> str:
        """Return ``key=value``."""
        return f"{self.element}={self.texts.get(value, repr(value))}"

    @property
    def samples(self) -> list[Choice]:
        """The choices, or the ends and the middle of a range."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return list(d.choices)
        assert isinstance(d, (IntDistribution, FloatDistribution))
        return [self.middle, d.low, d.high]

    @property
    def middle(self) -> Choice:
        """A value that is not at the end."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return d.choices[0]
        assert isinstance(d, (IntDistribution, FloatDistribution))
        if isinstance(d, IntDistribution):
            return d.low + (d.high - d.low) // (2 * d.step) * d.step
        return math.sqrt(d.low * d.high) if d.log else (d.low + d.high) / 2

    @property
    def size(self) -> int | None:
        """The number of values, None where there is no end to them."""
        d = self.distribution
        if isinstance(d, CategoricalDistribution):
            return len(d.choices)
        if isinstance(d, (IntDistribution, FloatDistribution)) and d.step is not None:
            return round((d.high - d.low) / d.step) + 1
        return None


@dataclass(frozen=True)
class Space:
    """What is searched, and the overrides that every trial shares."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions by key."""
        return {d.key: d.distribution for d in self.dimensions}

    @property
    def size(self) -> int | None:
        """The number of points, None where there is no end to them."""
        sizes = [d.size for d in self.dimensions]
        return None if None in sizes else math.prod(n for n in sizes if n is not None)

    def overrides(self, params: Mapping[str, Choice]) -> list[str]:
        """Return the overrides of the trial with these parameters."""
        return [*self.fixed, *(d.override(params[d.key]) for d in self.dimensions)]

    def described(self) -> dict[str, str]:
        """Return each key with its part of the space, in the words in which it was given."""
        return {d.key: d.grammar for d in self.dimensions}


def quoted(text: str) -> str:
    """Return ``text`` as Hydra's grammar takes it, whatever is in it."""
    return QuotedString(text, Quote.single).with_quotes()


def space(params: Mapping[str, object], arguments: Iterable[str], loader: ConfigLoader | None = None) -> Space:
    """Return the space of ``params`` (key: grammar) with the command line's ``arguments`` over it.

    ``interval(a,b)`` is continuous, ``range(a,b,step)`` ends before b, ``choice(…)``, ``a,b,c`` and ``glob(…)`` are
    choices, ``tag(log, …)`` is logarithmic. A single value takes its key out of the space. Raises UserError.
    """
    parser = OverridesParser.create(config_loader=loader)
    open_: dict[str, Dimension] = {}
    fixed: dict[str, str] = {}
    for override in parser.parse_overrides([*(f"{key}={value}" for key, value in params.items()), *arguments]):
        key = override.key_or_group
        open_.pop(key, None)
        fixed.pop(key, None)
        value = override.value()
        if isinstance(value, ChoiceSweep) and len(value.list) == 1:
            (only,) = override.sweep_string_iterator()
            fixed[key] = f"{override.get_key_element()}={only}"
        elif override.is_sweep_override():
            open_[key] = _dimension(override)
        else:
            fixed[key] = override.input_line or ""
    if not open_:
        raise UserError(
            "nothing to search: give hydra.sweeper.params, or an override such as "
            "'optimizer.lr=tag(log, interval(1e-4,1))'"
        )
    return Space(tuple(open_.values()), tuple(fixed.values()))


def _dimension(override: Override) -> Dimension:
    key, sweep = override.key_or_group, override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    grammar = re.sub(r"\s*([(),])\s*", r"\1", (override.input_line or "").partition("=")[2])
    if tags - {"log"}:
        raise UserError(f"{key}: unknown tag {', '.join(sorted(tags - {'log'}))}; known is log")
    texts: dict[Choice, str] = {}
    distribution: BaseDistribution
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


def _range(sweep: RangeSweep, log: bool) -> BaseDistribution:
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
