"""Files that may be compressed: gzip is recognized by its first bytes, not by the file name."""

from __future__ import annotations

import gzip
from io import BufferedReader
from pathlib import Path

from bpx.data.dataset import DataError
from bpx.data.npz import LARGEST

FLOOR, RATIO = 2**26, 100  # bytes that a packed file may unpack to, and times its own size


def opened(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file for reading, decompressed if it is gzip; raises OSError."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked; raises DataError beyond what is read of a file of its size, OSError."""
    with opened(path) as file:
        most = LARGEST if not isinstance(file, gzip.GzipFile) else min(LARGEST, FLOOR + RATIO * path.stat().st_size)
        found: bytes = file.read(most + 1)
    if len(found) > most:
        raise DataError(f"{path} holds more than {most:,} bytes, which is the most that is read of it")
    return found
