"""Untrusted npz files: no code is run, and sizes in headers are checked before memory is allocated."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bpx.data.dataset import DataError
from bpx.engine.arrays import Array, Arrays, check_header

LARGEST = 2**30  # bytes in one array


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an npz file; raises DataError, naming the file, where it or what is read of it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # a damaged archive raises whatever its damage runs into
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}") from error


def read(path: Path, wanted: tuple[str, ...]) -> Arrays:
    """Return the ``wanted`` arrays of an npz file; raises DataError naming the file."""
    with _opened(path) as archive:
        held = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        for key in wanted:
            if key not in held:
                raise DataError(f"{path} lacks the array {key!r}; it has {', '.join(held)}")
            if held[key].file_size > LARGEST:
                raise DataError(f"{path} is damaged: {key} claims {held[key].file_size:,} bytes")
            check_header(archive, held[key])
        return {key: _read(archive, held[key]) for key in wanted}  # of two entries of one name, the one checked


def names(path: Path) -> tuple[str, ...]:
    """Return the names of the arrays in an npz file; raises DataError naming the file."""
    with _opened(path) as archive:
        return tuple(entry.filename.removesuffix(".npy") for entry in archive.infolist())


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Array:
    with archive.open(entry) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
