"""The overrides of a command line, checked and normalized before Hydra composes them."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from bpx.cli.errors import explain
from bpx.system.errors import UserError
from bpx.system.text import listed
from bpx.system.tree import CONF, load_option, options_of

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

MAX_JOBS = 10_000  # of a multirun
MAX_CHECKED = 300  # compositions before a multirun begins
BESIDE = frozenset({"tensorboard", "wandb"})  # trackers that stand beside another
OPTIONAL = ("experiment", "sweep")  # groups that the defaults list does without
Checks = Callable[[], Callable[[DictConfig], object]]  # make what checks a configuration, and raises UserError
WITHOUT_EFFECT = {
    key: "every run has its own directory, outputs/<experiment>/<id>, every trial one in its study's"
    for key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
}


def prepared(
    words: Sequence[str], multirun: bool, extended: bool, check: Checks, config_dir: str | None = None
) -> list[str]:
    """Return the overrides as Hydra expects them; raises UserError.

    A key of a swept group becomes a sweep of one value: Hydra then looks it up in each swept option, not in the default
    one. ``extended``: other folders may hold options as well, ``config_dir`` for instance.
    """
    from hydra.core.override_parser.types import IntervalSweep

    words = [choice_in_quotes(at_home(word)) for word in words]
    parsed = [parse(word) for word in words]
    swept = {o.key_or_group for o in parsed if o.is_sweep_override()}
    searched = any(o.key_or_group in ("hydra/sweeper", "sweep") for o in parsed)
    n_jobs, out = 1.0, []
    for word, override in zip(words, parsed, strict=True):
        key = override.key_or_group
        if key in WITHOUT_EFFECT:
            raise UserError(f"{key} has no effect: {WITHOUT_EFFECT[key]}")
        if key == "hydra.verbose" and not isinstance(override.value(), (bool, str, list)):
            raise UserError(f"hydra.verbose must be true, false or the name of a logger, got {word.partition('=')[2]}")
        if key == "hydra.sweeper.params" and not searched:
            raise UserError(f"{key} needs a search, hydra/sweeper=bpx_optuna; elsewhere write key=choice(...)")
        if options_of(key):
            _check_options(override, extended)
        elif multirun and key.partition(".")[0] in swept and not (override.is_sweep_override() or override.is_delete()):
            left, _, value = word.partition("=")
            word = f"{left}=choice({value})"
        if override.is_sweep_override():
            n_jobs *= number_of_values(override.value()) or 1
        out.append(_with_record(word) if key == "tracking" else word)
    if multirun and not searched:
        endless = [o for o in parsed if isinstance(o.value(), IntervalSweep)]
        if endless:
            raise UserError(f"{endless[0].input_line}: interval needs a search: hydra/sweeper=bpx_optuna")
        if n_jobs > MAX_JOBS:
            raise UserError(
                f"{', '.join(sorted(swept))}: {n_jobs:,.0f} combinations are more than {MAX_JOBS:,}; "
                "hydra/sweeper=bpx_optuna searches among them"
            )
        check_values(out, check, config_dir)
    return out


def _with_record(word: str) -> str:
    """Return ``tracking=[tensorboard,...]`` with ``none``, the local record, added unless it or MLflow is named."""
    left, _, value = word.partition("=")
    names = [name.strip() for name in value.strip("[] ").split(",")]
    return f"{left}=[none,{','.join(names)}]" if BESIDE.issuperset(names) else word


def parse(word: str) -> Override:
    """Return an argument parsed as Hydra's override; raises UserError, with the correct quoting if there is one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    try:
        return parser.parse_override(word)
    except HydraException as error:
        key, equals, value = word.partition("=")
        quoted = f"{key}={in_quotes(value)}"
        try:
            parser.parse_override(quoted)
        except HydraException:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UserError(f"{word}: {lines[0] if lines else 'not understood'}; write key=value") from error
        if not equals or not value.strip():
            raise UserError(f"{word}: not understood; write key=value") from error
        raise UserError(f"{key}: {value} needs quotes: {shlex.quote(quoted)}") from error


def in_quotes(text: str) -> str:
    r"""Return text between double quotes as Hydra reads it: a backslash is escaped before a quote alone.

    >>> print(in_quotes(r'a\b"c'))
    "a\b\"c"
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.double).with_quotes()


def choice_in_quotes(word: str) -> str:
    """Return ``key=choice("a b","c")`` as ``key="a b","c"`` where Hydra would drop quotes that its values need."""
    from hydra.core.override_parser.types import ChoiceSweep
    from hydra.errors import HydraException

    override = parse(word)
    sweep = override.value()
    if not isinstance(sweep, ChoiceSweep) or sweep.simple_form or sweep.tags or sweep.shuffle or len(sweep.list) < 2:
        return word
    texts = []
    for value, text in zip(sweep.list, override.sweep_string_iterator(), strict=True):
        try:
            kept = not isinstance(value, str) or parse(f"key={text}").value() == value
        except (HydraException, UserError):
            kept = False
        texts.append(text if kept else in_quotes(str(value)))
    return f"{override.get_key_element()}={','.join(texts)}"


def at_home(word: str) -> str:
    """Return a word with ``~`` at the start of its value expanded, as a shell does where no ``key=`` precedes it.

    >>> at_home("seed=1")
    'seed=1'
    """
    key, _, value = word.partition("=")
    path = os.path.expanduser(value)
    if path == value or "," in value:  # of several values each is the user's to quote
        return word
    return f"{key}={in_quotes(path)}"


def number_of_values(sweep: object) -> int | None:
    """Return the number of values of a sweep, without listing them; None if unlimited."""
    from hydra.core.override_parser.types import ChoiceSweep, RangeSweep

    if isinstance(sweep, ChoiceSweep):
        return len(sweep.list)
    if isinstance(sweep, RangeSweep):
        if not sweep.step or sweep.start is None or sweep.stop is None:
            return 0
        span = (sweep.stop - sweep.start) / sweep.step
        return max(0, math.ceil(span)) if math.isfinite(span) else None
    return None


def check_values(words: Sequence[str], check: Checks, config_dir: str | None = None) -> None:
    """Compose and ``check`` each value of each sweep of a multirun, the other keys at their first; raises UserError.

    Options are looked for in ``config_dir``, too.
    """
    import hydra
    from hydra.core.override_parser.types import Glob

    dimensions: dict[str, list[str]] = {}
    for word in words:
        override = parse(word)
        if not override.is_sweep_override():
            continue
        element, sweep = override.get_key_element(), override.value()
        if isinstance(sweep, Glob):
            if config_dir is not None:
                return  # options that only Hydra finds
            texts: Iterable[str] = sweep.filter(options_of(override.key_or_group))
        elif number_of_values(sweep) is None:
            raise UserError(f"{word}: the range has no end")
        else:
            texts = override.sweep_string_iterator()
        dimensions[element] = [f"{element}={text}" for text in texts]
        if not dimensions[element]:
            what = "no option matches" if isinstance(sweep, Glob) else "the range is empty"
            raise UserError(f"{override.key_or_group}: {what}")
    if sum(map(len, dimensions.values())) > MAX_CHECKED or not dimensions:
        return
    fixed = [word for word in words if word.partition("=")[0] not in dimensions]
    if config_dir is not None:
        if any(word.startswith("hydra.searchpath") for word in words):
            return  # two places that Hydra joins, and composes from for each run
        fixed.append(f"hydra.searchpath=[{in_quotes(f'file://{os.path.abspath(config_dir)}')}]")
    from hydra.core.global_hydra import GlobalHydra

    checks = check()

    def composed(chosen: list[str]) -> None:
        checks(hydra.compose("config", overrides=[*fixed, *chosen]))

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        refused = refused_value(dimensions, composed)
    GlobalHydra.instance().clear()
    if refused is not None:
        raise refused


def refused_value(dimensions: dict[str, list[str]], check: Callable[[list[str]], object]) -> UserError | None:
    """Return why a value of a sweep can never run: it fails with every value of each other key."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    def failure(chosen: list[str]) -> str:
        try:
            check(chosen)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            return conditional(explain(error), chosen)
        except Exception:  # Hydra reports it when it composes the run
            return ""
        return ""

    first = {key: values[0] for key, values in dimensions.items()}
    for key, values in dimensions.items():
        for value in values:
            why = failure(list((first | {key: value}).values()))
            if why and all(
                failure(list((first | {key: value, other: beside}).values()))
                for other, besides in dimensions.items()
                if other != key
                for beside in besides[1:13]
            ):
                return UserError(why)
    return None


def conditional(text: str, chosen: Sequence[str]) -> str:
    """Return the message for a key that only another option of the group has, with the way to write it."""
    for word in chosen:
        group, _, option = word.lstrip("+").partition("=")
        key = text.removeprefix("unknown key ").partition(";")[0]
        if options_of(group) and key.startswith(f"{group}."):
            name = key.partition(".")[2]
            having = [o for o in options_of(group) if name in load_option(group, o)]
            if not having:
                return text
            return (
                f"{group}={option} has no key {name}: sweep {group} without {key}, or {key} with one {group}; a search "
                f"takes +hydra.sweeper.params={{{key}: {{space: …, when: {{{group}: {having[0]}}}}}}}"
            )
    return text


def sweeps_seeds(words: Sequence[str]) -> bool:
    """Return whether a multirun sweeps the seed and names no sweeper."""
    parsed = {o.key_or_group: o for o in map(parse, words)}
    seed = parsed.get("seed")
    elsewhere = any(key in ("hydra/sweeper", "sweep", "resume") or key.startswith("hydra.sweeper.") for key in parsed)
    return seed is not None and not elsewhere and (number_of_values(seed.value()) or 0) > 1


def _check_options(override: Override, extended: bool) -> None:
    """Raise UserError if a group is set to an unknown option."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString

    group, known = override.key_or_group, options_of(override.key_or_group)
    allowed = f"{group} must be one of {listed(known)}"
    if override.is_delete():
        if group not in OPTIONAL:
            raise UserError(f"{allowed}; it cannot be removed")
        return
    sweep = override.value()
    if isinstance(sweep, Glob) or (override.is_sweep_override() and not isinstance(sweep, ChoiceSweep)):
        if number_of_values(sweep) is None and not hasattr(sweep, "start"):
            return  # glob
        raise UserError(f"{allowed}, got {str(override.input_line).partition('=')[2]}")
    values: list[object] = list(sweep.list) if isinstance(sweep, ChoiceSweep) else [sweep]
    if group == "tracking":  # which takes a list of options
        values = [name for value in values for name in (value if isinstance(value, list) and value else [value])]
    for value in values:
        name = value.text if isinstance(value, QuotedString) else value
        if isinstance(name, list) and group == "experiment":
            continue
        if not isinstance(name, str) or "${" in name or not name:
            raise UserError(f"{allowed}, got {'null' if name is None else str(name)[:80]}")
        if name not in known and not extended:
            raise UserError(f"{group}={name[:80]}: there is no such option; known are {listed(known)}")
