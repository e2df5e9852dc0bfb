"""SIGTERM as an exception, so that what runs is told like after Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""

    number = signal.SIGTERM


def _raise(number: int, frame: Any) -> None:
    raise Terminated


@contextmanager
def raised() -> Iterator[None]:
    """Turn SIGTERM into Terminated, in the main thread (elsewhere signals do not arrive)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
