"""File locks between processes; the kernel releases them when the holder ends."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from pathlib import Path
from typing import IO


def lock(path: Path, *, shared: bool = False, wait: bool = False) -> IO[str]:
    """Lock a file, created if missing, until the returned file is closed or this process ends.

    Raises
    ------
    BlockingIOError
        Another process holds it, and ``wait`` is false.
    OSError
        The file cannot be opened or locked.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    file = open(number, "a")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        file.close()
        raise
    return file


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock of a file; False if there is no such file."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def machine_lock(name: str) -> Path:
    """Return the path of the lock file called ``name`` of this user on this machine."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"bpx-{os.getuid()}-{digest}.lock")
