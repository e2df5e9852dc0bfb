"""The terminal: plain text output; a closed pipe is handled as a signal."""

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
    """rich's console for plain text; lines are not wrapped if stdout is not a terminal.

    Text may be untrusted: brackets and colons are not markup or emoji, and control characters are escaped. Styles apply
    to whole texts, by ``style``.

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
        """Return a text as rendered."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Discard further output, and call ``on_closed``."""
        self.quiet = True
        silence(sys.stdout)
        if self.on_closed is None:
            raise BrokenPipeError
        self.on_closed()


def silence(stream: TextIO) -> None:
    """Discard everything that is written to a stream from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
