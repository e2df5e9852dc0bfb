"""Imports of large libraries, without a search for garbage among what they make."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing(module: str) -> Iterator[None]:
    """Search for no garbage while ``module`` is imported, nor later among the objects that there are by then.

    MLflow makes 280,000 objects that stay: to go through them again and again takes a quarter of its import.
    Where the module has been imported before, or nobody searches, this does nothing.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
