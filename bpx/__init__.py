"""A laboratory for one question: do the gradients of this network vanish or explode, where and why.

And: what would change it?
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Load ``diagnose`` when it is asked for: it draws, and the engine alone shall not need matplotlib."""
    if name == "diagnose":
        from bpx.diagnosis import diagnose

        return diagnose
    raise AttributeError(f"module 'bpx' has no attribute {name!r}")
