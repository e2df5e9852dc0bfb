"""Arguments of commands that take runs: names of runs, and ``key=value``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bpx.system.errors import UserError
from bpx.system.files import PICTURE_FORMATS


def split_words(command: str, words: Sequence[str], keys: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """Return the names of runs, and the values of the given ``keys``; raises UserError.

    An argument with spaces is a search in MLflow.
    """
    names: list[str] = []
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith("-"):
            raise UserError(f"python -m {command}: unknown option {word}; keys are {', '.join(f'{k}=' for k in keys)}")
        if not equals or not key.isidentifier() or Path(word).exists():
            names.append(word)
        elif key not in keys:
            raise UserError(f"python -m {command}: unknown key {key}; keys are {', '.join(f'{k}=' for k in keys)}")
        else:
            values[key] = value
    return names, values


def format_word(command: str, values: Mapping[str, str], out: str) -> str:
    """Return the image format from ``format=`` or the suffix of the file given by the key ``out``; default png.

    Raises UserError if it is unknown, or they differ.
    """
    suffix = Path(values.get(out, "")).suffix.removeprefix(".")
    asked = values.get("format", suffix or "png")
    if asked not in PICTURE_FORMATS:
        raise UserError(f"python -m {command}: format must be one of {', '.join(PICTURE_FORMATS)}, got {asked!r}")
    if suffix and suffix != asked:
        raise UserError(f"python -m {command}: format={asked} and {out}={values[out]} ask for different formats")
    return asked
