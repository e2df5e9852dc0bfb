"""Files that may be packed: what gzip made is known by its first bytes, whatever the file is called."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from bpx.data.dataset import DataError
from bpx.data.npz import LARGEST


def opened(path: Path) -> Any:
    """Open a file to read its bytes, unpacked where they are gzip; raises OSError."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if packed else path.open("rb")


def content(path: Path) -> bytes:
    """Return the bytes of a file, unpacked; raises DataError beyond LARGEST bytes, OSError."""
    with opened(path) as file:
        found: bytes = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise DataError(f"{path} holds more than {LARGEST:,} bytes, which is the most that is read")
    return found
