"""Errors that a user can correct."""

from __future__ import annotations

from typing import ClassVar


class UserError(Exception):
    """Something that the user can correct; its text is one line, ``code`` the exit code of the command."""

    code: ClassVar[int] = 2


class WriteError(UserError):
    """A file that cannot be written: the disk is full, or the permissions do not allow it."""


class NoAnswerError(UserError):
    """What is asked for does not exist: theory has no critical scale for this activation."""


class EveryTrialFailed(UserError):
    """A search without a trial that could be trained."""

    code = 1
