"""Which keys of the configuration count for a run's name, a comparison, a search and a resumed run: one table."""

from __future__ import annotations

from enum import Flag, auto


class Use(Flag):
    """What a key counts for."""

    NAME = auto()  # it is in the run's name if given on the command line
    COMPARISON = auto()  # bpx.compare lists it if runs differ in it
    STUDY = auto()  # all processes of a search must agree on it: it changes what is computed
    RESUMED = auto()  # a resumed run must not change it


EVERYTHING = ~Use(0)
NOTHING = Use(0)
KEYS = {  # a key by itself, or all below it; keys that are not here are part of everything
    "epochs": EVERYTHING & ~Use.RESUMED,  # a resumed run may take more
    "dataset.path": EVERYTHING & ~Use.STUDY,  # machines keep the data in different places
    "threads": Use.COMPARISON,
    "checkpoint": Use.COMPARISON,
    "resume": Use.COMPARISON | Use.STUDY | Use.RESUMED,
    "tracking": Use.RESUMED,
    "tracking.figures": NOTHING,
    "tracking.model": NOTHING,
    "progress": NOTHING,
    "allow": NOTHING,
    "hydra": NOTHING,
    "experiment": NOTHING,  # its keys are part of the configuration
}


def uses(key: str) -> Use:
    """Return what ``key`` (parts separated by dots or slashes) counts for: the entry of its longest prefix."""
    parts = key.replace("/", ".").split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((KEYS[prefix] for prefix in prefixes if prefix in KEYS), EVERYTHING)
