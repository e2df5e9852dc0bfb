"""Errors of tracking stores."""

from bpx.system.errors import UserError


class TrackingError(UserError):
    """A tracking server or store that cannot be used; the text is one line."""
