"""Optuna's journal, a file of JSON lines, kept valid through kills and full disks."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from bpx.system.errors import UserError
from bpx.system.files import Json, cut_torn_line, naming
from bpx.system.text import one_line

REPORT = "intermediate_value"  # is in the record of a report


class Journal(JournalFileBackend):
    """The journal at ``path``; records are appended as complete lines or not at all.

    Attributes
    ----------
    cut
        The bytes of an incomplete last line that were removed when the journal was opened.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(os.fspath(path))
        self.path, self._turn = path, JournalFileOpenLock(os.fspath(path))
        self.cut = 0
        self._turn.acquire()
        try:
            with naming(path), path.open("r+b", buffering=0) as file:
                self.cut = cut_torn_line(file)
        finally:
            self._turn.release()

    def append_logs(self, logs: list[Json]) -> None:
        """Append records; on a full disk the file is unchanged, and an OSError names it.

        What a trial reports while it runs waits for no disk: if the machine stops, the trial is run again.
        """
        text = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with naming(self.path):
            self._turn.acquire()
            try:
                with self.path.open("r+b", buffering=0) as file:
                    cut_torn_line(file)  # of a process that was killed meanwhile
                    end = file.seek(0, os.SEEK_END)
                    try:
                        rest = memoryview(text)
                        while rest:
                            rest = rest[file.write(rest) :]
                        if any(REPORT not in log for log in logs):
                            os.fsync(file.fileno())
                    except OSError:
                        file.truncate(end)
                        raise
            finally:
                self._turn.release()

    def read_logs(self, log_number_from: int) -> Generator[Json, None, None]:
        """Yield the records from a number on; raises UserError if a line is damaged."""
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise UserError(f"{self.path} is damaged: {one_line(error)}") from error


def open_journal(path: Path) -> tuple[JournalStorage, Journal]:
    """Return the storage of a journal, created if missing; raises UserError if it is damaged."""
    journal = Journal(path)
    try:
        return JournalStorage(journal), journal
    except (UserError, OSError):
        raise
    except Exception as error:  # Optuna replays the records, and what fails depends on the damage
        raise UserError(f"{path} is damaged: {type(error).__name__}: {one_line(error)}") from error
