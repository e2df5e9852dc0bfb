"""``train.log``: the log of a run, in its directory."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import final

from bpx.system.text import masked


@final
class RunLog(logging.FileHandler):
    """Write log records to a file, passwords masked; write errors are raised as OSError naming the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.path = os.fspath(path)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        return masked(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Reraise a write error; ``logging`` would print a traceback and continue."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, self.path) from error
        super().handleError(record)
