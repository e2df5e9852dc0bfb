"""Whether the process that writes into a run directory is alive: the kernel drops a lock when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from pathlib import Path
from typing import IO, Any

from bpx.tracking.errors import TrackingError

LOCK = ".lock"
HOST = platform.node()


def hold(directory: Path, *, alone: bool) -> IO[str]:
    """Lock a run directory until the file that is returned is closed, or this process ends.

    Raises TrackingError where another process holds it and one of the two wants to be alone.
    """
    path = directory / LOCK
    try:
        file = path.open("a")
    except OSError as error:
        raise TrackingError(f"{path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise TrackingError(f"{path} cannot be locked: {error.strerror}") from error
        raise TrackingError(f"{directory} is in use: another process is writing into it") from error
    return file


def dead(directory: str, pid: str) -> bool:
    """Return whether the process that wrote into ``directory``, on this machine, is gone."""
    path = Path(directory, LOCK)
    if path.is_file():
        try:
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError, OverflowError):
        return False
    return False


def marks(directory: Path) -> dict[str, Any]:
    """Return the tags by which a later process can tell whether this one is alive."""
    return {"bpx.host": HOST, "bpx.pid": str(os.getpid()), "bpx.run_directory": os.fspath(directory.absolute())}
