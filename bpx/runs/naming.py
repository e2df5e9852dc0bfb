"""What a run is called: its experiment and what the command line changes, short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bpx.config import UserError
from bpx.runs.keys import Use, uses

OUTPUTS = Path("outputs")
MAX_NAME = 40  # characters; the run's id comes behind


def run_name(choices: Mapping[str, object], overrides: Sequence[str]) -> str:
    """Return a run's name without its id: the experiment, options of groups, ``key=value`` by the key's last part.

    ``choices`` are the options that the groups have. What is too long ends with an ellipsis, between two words.
    """
    words = [str(choices["experiment"])] if choices.get("experiment") else []
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if Use.NAME not in uses(key):
            continue
        plain = key in choices and value not in ("none", "null")
        words.append(value if plain else f"{key.rpartition('.')[2]}{equals}{value}")
    name = " ".join(words)
    while len(name) > MAX_NAME and len(words) > 1:
        words.pop()
        name = " ".join([*words, "…"])
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"


def output_folder(key: str, name: str) -> Path:
    """Return ``outputs/name``; raises UserError where ``key=name`` leads out of it."""
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or not name.isprintable():
        raise UserError(f"{key} must name a folder inside {OUTPUTS}/, got {name!r}")
    return OUTPUTS / path
