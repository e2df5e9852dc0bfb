"""A laboratory for one question: do the gradients of this network vanish or explode, where and why.

And: what would change it?
"""

import signal
import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # `python -m bpx...` is being found: until it listens, an interrupt ends it like any program, without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> object:
    """Load ``diagnose`` when it is asked for: it draws, and the engine alone shall not need matplotlib."""
    if name == "diagnose":
        from bpx.diagnosis.diagnose import diagnose

        return diagnose
    raise AttributeError(f"module 'bpx' has no attribute {name!r}")
