"""Parts of a network by name, and as plain JSON: registered ones by their name, others by their import path too."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Mapping
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")
Json = dict[str, Any]  # an object as JSON has it


class Part(Protocol):
    """A part of a network: an activation, a loss, a normalization."""

    @property
    def name(self) -> str:
        """The name of its class; of a layer, its own."""


def make(kind: str, registry: Mapping[str, type[T]], given: T | str | Mapping[str, object]) -> T:
    """Return an object of a registry: as given, by its name, or by a mapping of its name and settings.

    Raises ValueError where the name, or a setting, is unknown.
    """
    if not isinstance(given, (str, Mapping)):
        return given
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.pop("name")
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}: known are {', '.join(registry)}")
    cls = registry[name]
    known = inspect.signature(cls).parameters
    for key in settings:
        if key not in known:
            raise ValueError(f"{kind} {name} has no setting {key!r}: known are {', '.join(known) or 'none'}")
    return cls(**settings)


def describe(part: Part, registry: Mapping[str, type]) -> Json:
    """Return a part as plain JSON: ``name`` and settings; ``_target_``, its import path, where it is not registered.

    The name is that of the class (``method`` for a normalization: ``name`` is that of a layer). The settings are the
    parameters of its class, read from the attributes of the same names. Raises ValueError where there is no such
    attribute.
    """
    cls = type(part)
    name = str(getattr(cls, "method", None) or part.name)
    path = {} if registry.get(name) is cls else {"_target_": f"{cls.__module__}.{cls.__qualname__}"}
    names = list(inspect.signature(cls).parameters)
    if missing := [key for key in names if not hasattr(part, key)]:
        raise ValueError(f"{cls.__module__}.{cls.__qualname__} must keep its parameter {missing[0]} as an attribute")
    return {"name": name} | path | {key: getattr(part, key) for key in names}


def restore(
    kind: str,
    base: type,
    registry: Mapping[str, type[T]],
    description: Mapping[str, object],
    allow: Collection[str] = (),
) -> T:
    """Return the part that ``describe`` described.

    Parameters
    ----------
    kind : str
        What it is called in errors.
    base : type
        The class that it must be a subclass of.
    registry : mapping
        The known classes by name.
    description : mapping
        What ``describe`` returned.
    allow : collection of str
        Modules, submodules included, that may be imported for a part that is not registered.

    Raises
    ------
    ValueError
        The name is unknown, the module is not allowed or cannot be imported, or it has no such class.
    """
    settings = dict(description)
    path = settings.pop("_target_", None)
    if path is None:
        return make(kind, registry, settings)
    module, _, name = str(path).rpartition(".")
    if not is_allowed(str(path), allow):
        root = module.partition(".")[0]
        raise ValueError(f'{kind} {path} is not part of bpx; to import its module, give allow=("{root}",)')
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{kind} {path} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ValueError(f"{kind} {path} must be a subclass of {base.__name__}")
    del settings["name"]
    return cast(T, cls(**settings))


def is_allowed(path: str, allow: Collection[str]) -> bool:
    """Return whether the module of an import path is one of ``allow``, or inside one."""
    module = path.rpartition(".")[0]
    return any(module == allowed or module.startswith(f"{allowed}.") for allowed in allow)


def own_modules(*descriptions: Mapping[str, object]) -> tuple[str, ...]:
    """Return the modules of the described parts that are not registered."""
    return tuple(str(d["_target_"]).rpartition(".")[0] for d in descriptions if "_target_" in d)
