"""Interrupts: SIGINT and SIGTERM as one exception, raised between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self


class Interrupted(KeyboardInterrupt):
    """A signal requested a stop; ``number`` is the signal, the text the message for the user."""

    def __init__(self, number: int, text: str = "interrupted") -> None:
        super().__init__(text)
        self.number = number


def end_without_traceback() -> None:
    """Let SIGINT end the process without a traceback while a command imports its modules.

    A handler set by another module is kept; ``Stop`` replaces it later.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def announce(program: str) -> None:
    """Print in a terminal that a command has started: its imports take a second or more."""
    if sys.stdout.isatty():
        print(f"{program} is starting …", flush=True)


class Stop:
    """As a context: the first signal requests a stop, a second one kills the process.

    Inside ``deferred`` a signal is stored, and raised by ``check``; elsewhere it is raised at once. In a thread
    other than the main one, where Python handles no signals, nothing is changed.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number = 0
        self._waits = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._heed) for number in self.SIGNALS} if main else {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer signals inside the context, and raise a pending one at its end."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        self.check()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Raise signals at once inside the context, even inside ``deferred``: for long calls that change no state."""
        self.check()
        waits, self._waits = self._waits, False
        try:
            yield
        finally:
            self._waits = waits

    def check(self) -> None:
        """Raise Interrupted if there was a signal."""
        if self.number:
            raise Interrupted(self.number)

    def ask(self, number: int) -> None:
        """Request a stop, as signal ``number`` would."""
        self.number = number
        if not self._waits:
            self.check()

    def _heed(self, number: int, frame: FrameType | None) -> None:
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self.ask(number)
