"""Errors that a user can correct."""

from __future__ import annotations

from typing import ClassVar


class UserError(Exception):
    """An error that the user can correct: one line of text; ``code`` is the exit code of the command."""

    code: ClassVar[int] = 2


class WriteError(UserError):
    """A file cannot be written: the disk is full, or permission is denied."""


class NoAnswerError(UserError):
    """The requested value does not exist, for instance a critical scale of an activation that has none."""


class EveryTrialFailed(UserError):
    """Every trial of a search failed."""

    code = 1
