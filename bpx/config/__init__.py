"""From a composed configuration to objects, with every check on what the user wrote.

Whatever is wrong is a UserError: one line that says what is wrong and what is allowed.
"""

from bpx.config.architecture import DEFAULT_DEPTH, DEFAULT_WIDTH, hidden_widths
from bpx.config.calls import check_call
from bpx.config.plan import Plan, make_plan, spawn_rngs
from bpx.config.tree import CONF, PACKAGE, RENAMED, flatten, walk
from bpx.system.errors import UserError

__all__ = [
    "CONF",
    "DEFAULT_DEPTH",
    "DEFAULT_WIDTH",
    "PACKAGE",
    "RENAMED",
    "Plan",
    "UserError",
    "check_call",
    "flatten",
    "hidden_widths",
    "make_plan",
    "spawn_rngs",
    "walk",
]
