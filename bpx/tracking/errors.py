"""What goes wrong with a tracking store."""


class TrackingError(RuntimeError):
    """A tracking server or store that cannot be used; the text is one line."""
