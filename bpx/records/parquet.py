"""The record as a Parquet file: written atomically, read whole or by quantity, checked for damage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bpx.records.records import COLUMNS, WORDS, Columns, Records
from bpx.records.rows import Rows
from bpx.records.tables import empty_table, to_columns
from bpx.system.files import Json, replaced
from bpx.system.run_files import RECORD

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

FORMAT = 1  # of the file, in its metadata under bpx.format; a file without it is of the first format
FORMAT_KEY = "bpx.format"
ABOUT = "bpx"  # the file's metadata under this name is JSON: what the run was, and its finding
ROW_GROUP = 2**17  # rows from which a group is written: one quantity is read from the groups that hold it alone
IN_MEMORY = 2**20  # rows up to which a record is read at once
MAX_ROWS, MAX_ROWS_AT_ONCE = 10**9, 10**8  # of a record; of one quantity


class RecordWriter(Rows):
    """Rows that are written to a Parquet file on ``close``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def close(self) -> None:
        """Write the file atomically; an OSError names it.

        Rows are sorted by quantity, and long records are written in several row groups.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = empty_table().schema.with_metadata({ABOUT: json.dumps(self.about), FORMAT_KEY: str(FORMAT)})
        repeated = [name for name in COLUMNS if name != "value"]
        with (
            replaced(self.path) as file,
            pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=repeated) as writer,
        ):
            waiting: list[pyarrow.Table] = []
            for table in self.tables():
                waiting.append(table)
                if sum(map(len, waiting)) >= ROW_GROUP:
                    writer.write_table(pa.concat_tables(waiting).unify_dictionaries())
                    waiting = []
            if waiting:
                writer.write_table(pa.concat_tables(waiting).unify_dictionaries())


def read(path: Path) -> Records:
    """Return the record in a Parquet file, or of a run directory; raises ValueError, naming the file, where damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = path / RECORD if path.is_dir() else path
    with _damage(path):
        file = pq.ParquetFile(pa.memory_map(str(path)), pre_buffer=False)  # the map outlives the file's name
        rows = file.metadata.num_rows
        if rows > MAX_ROWS:  # well packed, they take no room in the file
            raise ValueError(f"it claims {rows:,} rows, a record has at most {MAX_ROWS:,}")
        about = _about(file)
        if rows > IN_MEMORY:
            return _on_disk(path, file, about)
        # no threads: where address space is short, Arrow aborts the process when it gets none
        columns = to_columns(file.read(columns=list(COLUMNS), use_threads=False))
        file.close()
        return Records.of(columns, about)


def _on_disk(path: Path, file: ParquetFile, about: Json) -> Records:
    """Return a record whose rows are read on access, from the row groups that hold the quantity."""
    import pyarrow as pa

    held: list[set[str]] = []
    words: dict[str, set[str]] = {word: set() for word in WORDS}
    for group in range(file.num_row_groups):
        if (rows := file.metadata.row_group(group).num_rows) > MAX_ROWS_AT_ONCE:
            raise ValueError(f"it claims {rows:,} rows in one group, a record has at most {MAX_ROWS_AT_ONCE:,}")
        columns = to_columns(file.read_row_group(group, columns=list(WORDS), use_threads=False))
        found = {word: set(columns.present(word)) for word in WORDS}
        words = {word: words[word] | found[word] for word in WORDS}
        held.append(found["quantity"])

    def load(quantity: str | None) -> Columns:
        """Return the rows of one quantity, or all; raises ValueError naming the file."""
        parts, count = [], 0
        with _damage(path):
            for group, names in enumerate(held):
                if quantity is None or quantity in names:
                    table = file.read_row_group(group, columns=list(COLUMNS), use_threads=False)
                    if quantity is not None and len(names) > 1:
                        codes = to_columns(table.select(["quantity"]))
                        mask = codes.arrays["quantity"] == codes.words["quantity"].index(quantity)
                        table = table.filter(pa.array(mask))
                    parts.append(table)
                    count += len(table)
                    if count > MAX_ROWS_AT_ONCE:
                        raise ValueError(
                            f"it claims more than {MAX_ROWS_AT_ONCE:,} rows of {quantity or 'all quantities'}"
                        )
            if not parts:
                parts = [file.schema_arrow.empty_table().select(list(COLUMNS))]
            return to_columns(pa.concat_tables(parts))

    return Records(load, words, about)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn the errors of reading a damaged file into a ValueError that names it."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _about(file: ParquetFile) -> Json:
    metadata = file.schema_arrow.metadata or {}
    written = metadata.get(FORMAT_KEY.encode(), b"1").decode()
    if written != str(FORMAT):
        raise ValueError(f"{FORMAT_KEY}: expected {FORMAT}, got {written[:20]!r}")
    about: Json = json.loads(metadata.get(ABOUT.encode(), b"{}"))
    return about
