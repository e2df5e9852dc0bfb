"""Call the ``_target_`` of a group with the group's keys, checked against its annotations."""

from __future__ import annotations

import inspect
import logging
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence

from omegaconf import DictConfig

from bpx import engine
from bpx.data import SupportsLoad
from bpx.engine.initializers import Initializer
from bpx.engine.losses import Loss
from bpx.engine.normalization import Normalization
from bpx.engine.optimizers import Optimizer
from bpx.engine.schedules import LRSchedule
from bpx.system.errors import UserError
from bpx.system.text import brief
from bpx.system.tree import RENAMED, plain
from bpx.tracking.tracker import Tracker

T = typing.TypeVar("T")
KINDS: dict[str, type] = {
    "model": engine.Network,
    "activation": engine.ActivationFunction,
    "initializer": Initializer,
    "normalization": Normalization,
    "dataset": SupportsLoad,
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": LRSchedule,
    "tracking": Tracker,
}
TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    str: "a word",
    bool: "true or false",
    types.NoneType: "null",
    list: "a list",
    Sequence: "a list",
    dict: "keys with values",
}


def construct(group: str, node: DictConfig, **more: object) -> object:
    """Return the object that a group describes, an instance of the group's kind; raises UserError."""
    settings = plain(node)
    settings.pop("_target_", None)  # where it is missing, ``target`` says so
    return check_kind(group, check_call(group, target(group, node), settings, **more))


def target(group: str, node: DictConfig) -> Callable[..., object]:
    """Return the class or function that a group's ``_target_`` names; raises UserError."""
    from hydra.utils import get_object

    name = node.get("_target_")
    if not isinstance(name, str):
        raise UserError(f"{group}._target_ must be a word, got {brief(name)}")
    logger = logging.getLogger("hydra.utils")
    before, logger.disabled = logger.disabled, True  # it would also log the error
    try:
        found = get_object(name)
    except Exception as error:
        raise UserError(f"{group}._target_={brief(name)} cannot be imported: {brief(error)}") from error
    finally:
        logger.disabled = before
    try:
        inspect.signature(found)
    except (TypeError, ValueError) as error:  # not callable, or a builtin that does not say what it takes
        raise UserError(f"{group}._target_ must be a class or a function, got {brief(found)}") from error
    return typing.cast(Callable[..., object], found)


def check_kind(group: str, made: object) -> object:
    """Return ``made`` if it is an instance of the group's kind; raises UserError."""
    kind = KINDS[group]
    if not isinstance(made, kind):
        raise UserError(f"{group}._target_ must build what {kind.__name__} is, got {type(made).__name__}")
    return made


def check_call(group: str, build: Callable[..., T], settings: Mapping[str, object], **more: object) -> T:
    """Return ``build(**settings, **more)``, the settings checked against its annotations; raises UserError."""
    check_keys(group, build, settings, tuple(more))
    try:
        return build(**settings, **more)
    except (ValueError, TypeError) as error:
        text, prefix = " ".join(str(error).split()), f"{group}." if group else ""
        raise UserError(text if text.startswith((prefix, "give ")) else f"{group}: {text}") from error


def check_keys(
    group: str, build: Callable[..., object], settings: Mapping[str, object], more: Sequence[str] = ()
) -> None:
    """Raise UserError for an unknown key or a value of the wrong type; ``more`` names arguments that are not keys."""
    prefix = f"{group}." if group else ""
    parameters = inspect.signature(build).parameters
    hints = typing.get_type_hints(build.__init__ if inspect.isclass(build) else build)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in settings.items():
        if key in hints:
            check_type(prefix + key, value, hints[key])
        elif prefix + key in RENAMED:
            raise UserError(f"{prefix}{key} was renamed to {RENAMED[prefix + key]}")
        elif not open_ended:
            known = ", ".join(k for k in parameters if k not in more)
            raise UserError(f"unknown key {prefix}{key}; {group or 'the configuration'} has: {known}")


def check_type(key: str, value: object, hint: object) -> None:
    """Raise UserError if a value does not have the annotated type, for instance ``int | None``."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [typing.get_origin(kind) or kind for kind in allowed]
    if float in kinds and isinstance(value, float) and math.isnan(value):
        raise UserError(f"{key} must be a number, got nan")
    if not any(_fits(value, kind) for kind in kinds):
        wanted = " or ".join(TYPE_NAMES.get(kind, str(kind)) for kind in kinds)
        raise UserError(f"{key} must be {wanted}, got {brief(value)}")


def number(key: str, value: object) -> float:
    """Return ``value`` as a float; raises UserError if it is not a number."""
    check_type(key, value, float)
    return float(typing.cast(float, value))


def _fits(value: object, kind: object) -> bool:
    if kind is typing.Any:
        return True
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (list, tuple, typing.Sequence, Sequence):
        return isinstance(value, list)
    return inspect.isclass(kind) and isinstance(value, kind)
