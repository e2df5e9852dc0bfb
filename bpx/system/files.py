"""Atomic writing of files, and paths that stay inside a folder."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

Json = dict[str, Any]  # an object as JSON has it
TEMPORARY = re.compile(r"\..+\.(\d+)")  # .NAME.PID
PICTURE_FORMATS = ("png", "pdf", "svg")
PIECE = 4096  # bytes read at a time from the end
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@contextmanager
def replaced(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` on success: written, synced, renamed.

    Parameters
    ----------
    path
        The file to replace. A link at ``path`` is replaced, not followed.
    mode
        The permissions of the new file, before the umask.

    Raises
    ------
    OSError
        It names ``path``; an existing file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with naming(path):
        try:
            temporary.unlink(missing_ok=True)  # of a process that had the same number
            with open(_create(temporary, mode), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)  # the new name, too
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Sync the entries of ``folder`` to the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add ``path`` to an OSError, which does not name the file if the disk is full."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_json(path: Path, value: object, mode: int = 0o666) -> None:
    """Write a value as JSON, atomically; an OSError names ``path``."""
    with replaced(path, mode) as file:
        file.write(json.dumps(value, indent=1).encode() + b"\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV with a column for each of their keys, whole or not at all; an OSError names ``path``."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    with replaced(path) as file:
        file.write(text.getvalue().encode())


def leaves(node: Json, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full name, with dots between the levels, and the value of every leaf."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def unique_name() -> str:
    """Return a unique name for a new file or folder: the time and random characters."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def cut_torn_line(file: RawIOBase) -> int:
    """Truncate a file after its last newline, and return the number of bytes removed."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - PIECE)
        file.seek(start)
        found = (file.read(end - start) or b"").rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    return size - end


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files (``.NAME.PID``) below ``folder``, which no other process may be writing into."""
    for path in folder.rglob(".*"):
        if TEMPORARY.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def inside(root: Path, path: str | Path = ".") -> Path:
    """Return ``root / path`` where it lies inside ``root`` and neither it nor anything below it is a link.

    The answer is for reading, sending and writing alike. Only regular files and folders are accepted: a link leads
    elsewhere, and a pipe or a device may never end. ``root`` itself may be reached through a link.

    Raises
    ------
    ValueError
        One line that names the path.
    """
    root, parts = root.resolve(), Path(path).parts
    if Path(path).is_absolute() or ".." in parts:
        raise ValueError(f"{path} is outside of {root}")
    place = root
    for part in parts:
        place = place / part
        _check_plain(place)
    if place.is_dir():
        for folder, names, files in os.walk(place):
            for name in (*names, *files):
                _check_plain(Path(folder, name))
    return place


def _check_plain(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(kind):
        raise ValueError(f"{path} is a link to {os.readlink(path)}; expected a file or folder")
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ValueError(f"{path} is a pipe, a socket or a device; expected a file or folder")


def _create(path: Path, mode: int) -> int:
    return os.open(path, NEW, mode)
