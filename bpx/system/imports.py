"""Imports of large libraries with the cyclic garbage collection off."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing(module: str) -> Iterator[None]:
    """Disable the cyclic garbage collection while ``module`` is imported.

    MLflow makes 280,000 objects that stay: to go through them again and again takes a quarter of its import. A command,
    which has frozen its own objects, freezes these, too; in a user's process nothing is frozen. Where the module has
    been imported before, or collection is off, this does nothing.
    """
    if module in sys.modules or not gc.isenabled():
        yield
        return
    try:
        gc.disable()
        yield
    finally:
        if gc.get_freeze_count():
            gc.freeze()
        gc.enable()
