"""The tidy record of a run: one row per step, layer, operation, quantity and index, kept as one Parquet file.

Columns: step (int64), epoch (float64), layer, operation, quantity (dictionary-encoded strings), index (int32,
for histogram bins and spectra, else 0) and value (float64).
"""

from bpx.records.outcome import Outcome
from bpx.records.parquet import RecordWriter, read
from bpx.records.records import Records
from bpx.records.rows import Rows
from bpx.records.series import Series, aligned, read_metrics
from bpx.records.tables import Key, Keys

__all__ = ["Key", "Keys", "Outcome", "RecordWriter", "Records", "Rows", "Series", "aligned", "read", "read_metrics"]
