"""Whether the process that writes into a run directory is alive: it holds the lock of a file there."""

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
    """Lock a run directory until the file that is returned is closed, or this process ends.

    Raises TrackingError where another process holds it and one of the two wants to be alone.
    """
    path = directory / LOCK
    try:
        return lock(path, shared=not alone)
    except BlockingIOError as error:
        raise TrackingError(f"{directory} is in use: another process is writing into it") from error
    except OSError as error:
        raise TrackingError(f"{path} cannot be locked: {error.strerror}") from error


def is_process_dead(directory: str, pid: str) -> bool:
    """Return whether the process that wrote into ``directory``, on this machine, is gone."""
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
    """Return the tags by which a later process can tell whether this one is alive."""
    return {"bpx.host": HOST, "bpx.pid": str(os.getpid()), "bpx.run_directory": os.fspath(directory.absolute())}
