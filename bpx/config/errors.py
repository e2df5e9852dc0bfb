"""Errors that a user can correct: one line that says what is wrong and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

MAX_SHOWN = 80  # characters of a value


class UserError(Exception):
    """Something that the user can correct; its text is one line, ``code`` the exit code of the command."""

    code: ClassVar[int] = 2


class EveryTrialFailed(UserError):
    """A search without a trial that could be trained."""

    code = 1


def listed(words: Iterable[str], between: str = ", ", most: int = 20) -> str:
    """Return words side by side, cut after ``most`` of them."""
    known = list(words)
    rest = [f"… ({len(known) - most} more)"] if len(known) > most else []
    return between.join(known[:most] + rest)


def brief(value: object) -> str:
    """Return a value as a message shows it: null for None, cut where it is long."""
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"
