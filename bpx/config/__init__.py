"""Build checked objects from a composed configuration.

An invalid value raises UserError: one line that names the key, what was expected and what was received. Modules that
build networks are imported on first access, so that ``--help`` does not load the engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from bpx.system.errors import UserError
from bpx.system.tree import CONF, PACKAGE, RENAMED, flatten, load_option, options_of, walk

if TYPE_CHECKING:
    from bpx.config.architecture import hidden_widths
    from bpx.config.calls import check_call
    from bpx.config.plan import Plan, make_plan, spawn_rngs

_LATER = {
    "hidden_widths": "architecture",
    "check_call": "calls",
    "Plan": "plan",
    "make_plan": "plan",
    "spawn_rngs": "plan",
}

__all__ = [
    "CONF",
    "PACKAGE",
    "RENAMED",
    "Plan",
    "UserError",
    "check_call",
    "flatten",
    "hidden_widths",
    "load_option",
    "make_plan",
    "options_of",
    "spawn_rngs",
    "walk",
]


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"bpx.config.{_LATER[name]}"), name)
