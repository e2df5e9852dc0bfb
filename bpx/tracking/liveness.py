"""Liveness of the process that writes a run directory: it holds a file lock there."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import IO

from bpx.system.files import Json
from bpx.system.locks import is_held, lock
from bpx.tracking.errors import TrackingError

LOCK = ".lock"
HOST = platform.node()


def lock_run_directory(directory: Path, *, alone: bool) -> IO[str]:
    """Lock a run directory until the returned file is closed or this process ends.

    Raises TrackingError if another process holds the lock and one of the two needs exclusive access.
    """
    path = directory / LOCK
    try:
        return lock(path, shared=not alone)
    except BlockingIOError as error:
        raise TrackingError(f"{directory} is in use: another process is writing into it") from error
    except OSError as error:
        raise TrackingError(f"{path} cannot be locked: {error.strerror}") from error


def is_process_dead(directory: str, pid: str) -> bool:
    """Return whether the process that wrote ``directory``, on this machine, has ended."""
    path = Path(directory, LOCK)
    if path.is_file():
        return not is_held(path)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError, OverflowError):
        return False
    return False


def liveness_tags(directory: Path) -> Json:
    """Return the tags from which another process can determine whether this one is alive."""
    return {"bpx.host": HOST, "bpx.pid": str(os.getpid()), "bpx.run_directory": os.fspath(directory.absolute())}
