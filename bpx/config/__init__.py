"""From a composed configuration to objects, with every check on what the user wrote.

Whatever is wrong is a UserError: one line that says what is wrong and what is allowed. What builds networks is loaded
when it is first used: ``--help`` needs the tree of keys alone.
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
