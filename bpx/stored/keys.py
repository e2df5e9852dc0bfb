"""What each key of the configuration is to a run's name, a comparison, a study and a resumed run: one table."""

from __future__ import annotations

from enum import Flag, auto


class Use(Flag):
    """What a key is part of."""

    NAME = auto()  # a run's name says it where the command line gives it
    COMPARISON = auto()  # bpx.compare lists it where runs differ
    STUDY = auto()  # all trials of a study have it in common: it changes what is computed
    RESUMED = auto()  # a resumed run keeps it


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
    """Return what ``key``, with dots or slashes between its parts, is part of: the entry of its longest prefix."""
    parts = key.replace("/", ".").split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((KEYS[prefix] for prefix in prefixes if prefix in KEYS), EVERYTHING)
