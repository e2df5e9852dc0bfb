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
    """Write log records to a file, without passwords; a disk that is full is an OSError that names it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.path = os.fspath(path)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return masked(super().format(record))

    def handleError(self, record: logging.LogRecord) -> None:
        """Raise what writing raised: logging itself would print a traceback and go on."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, self.path) from error
        super().handleError(record)
