"""The terminal: what is printed is plain text, and a closed pipe is handled as a signal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from bpx.system.text import printable

WIDE = 10_000  # characters: wider than any table


class Terminal(Console):
    """rich's console for plain text; nothing is wrapped where stdout is no terminal.

    Text may be untrusted: brackets and colons in it are not markup or emoji, and control characters are escaped.
    What is styled is styled whole, by ``style``.

    Attributes
    ----------
    on_closed
        Called when the reader of stdout has closed it (``… | head -1``); without it BrokenPipeError is raised.
    """

    def __init__(self, quiet: bool = False) -> None:
        there = sys.stdout.isatty()
        width = None if there else WIDE
        super().__init__(quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=not there, width=width)
        self.on_closed: Callable[[], None] | None = None

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it is shown."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Print nothing any more, and do ``on_closed``."""
        self.quiet = True
        silence(sys.stdout)
        if self.on_closed is None:
            raise BrokenPipeError
        self.on_closed()


def silence(stream: TextIO) -> None:
    """Let what is written to a stream from now on go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
