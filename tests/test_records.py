import json
import time

import numpy as np
import pytest

from bpx.records import Key, RecordWriter, parquet, read, read_metrics
from bpx.records.records import COLUMNS

LAYERS = tuple(Key(f"layer_{i:02d}", "", q, 0) for i in (1, 2, 3) for q in ("grad_norm", "delta_rms"))
BINS = tuple(Key("layer_01", "dense", "histogram", i) for i in range(4))


def test_what_was_appended_is_read_back(tmp_path, rng):
    path = tmp_path / "record.parquet"
    writer, written = RecordWriter(path), {}
    for step in (0, 1, 5):
        written[step] = rng.normal(size=len(LAYERS))
        writer.append(step, step / 4, LAYERS, written[step])
    writer.append(5, 1.25, BINS, np.arange(4.0))
    writer.close()
    record = read(path)
    assert record.step.size == 3 * len(LAYERS) + len(BINS)
    for i, key in enumerate(LAYERS):
        rows = record.select(layer=key.layer, quantity=key.quantity)
        assert rows.step.tolist() == [0, 1, 5] and rows.epoch.tolist() == [0, 0.25, 1.25]
        assert rows.value.tolist() == [written[s][i] for s in (0, 1, 5)]
    bins = record.select(quantity="histogram", operation="dense", step=5)
    assert bins.index.tolist() == [0, 1, 2, 3] and bins.value.tolist() == [0, 1, 2, 3]
    assert record.select(quantity="histogram", step=1).value.size == 0


def test_a_value_changed_after_it_was_appended_stays_as_it_was(tmp_path):
    writer, values = RecordWriter(tmp_path / "r.parquet"), np.ones(len(LAYERS))
    writer.append(0, 0.0, LAYERS, values)
    values[:] = 7
    writer.close()
    assert (read(tmp_path / "r.parquet").value == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 5e-324, 1e300])
def test_no_value_is_altered(tmp_path, value):
    writer = RecordWriter(tmp_path / "r.parquet")
    writer.append(0, 0.0, BINS[:1], np.array([value]))
    writer.close()
    np.testing.assert_array_equal(read(tmp_path / "r.parquet").value, [value])


@pytest.mark.parametrize("empty", [True, False])
def test_the_schema(tmp_path, empty):
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = RecordWriter(tmp_path / "r.parquet")
    if not empty:
        writer.append(0, 0.0, LAYERS, np.zeros(len(LAYERS)))
        writer.append(0, 0.0, BINS, np.zeros(len(BINS)))
    writer.close()
    word = pa.dictionary(pa.int32(), pa.string())
    assert {f.name: f.type for f in pq.read_schema(tmp_path / "r.parquet")} == {
        "step": pa.int64(), "epoch": pa.float64(), "layer": word, "operation": word, "quantity": word,
        "index": pa.int32(), "value": pa.float64(),
    }  # fmt: skip
    assert read(tmp_path / "r.parquet").step.size == (0 if empty else len(LAYERS) + len(BINS))


def test_nothing_but_the_whole_file_is_ever_there(tmp_path):
    path = tmp_path / "r.parquet"
    writer = RecordWriter(path)
    writer.append(0, 0.0, LAYERS, np.zeros(len(LAYERS)))
    assert not path.exists()
    writer.close()
    assert list(tmp_path.iterdir()) == [path]


def test_keys_and_values_must_match(tmp_path):
    with pytest.raises(ValueError, match="step 3 has 6 keys and 5 values"):
        RecordWriter(tmp_path / "r.parquet").append(3, 0.0, LAYERS, np.zeros(5))


def test_a_long_record_closes_in_half_a_second(tmp_path):
    import pyarrow.parquet  # noqa: F401  imported outside the time

    keys = tuple(Key(f"layer_{i:02d}", "", q, 0) for i in range(8) for q in "abcdefghij")
    writer, values = RecordWriter(tmp_path / "r.parquet"), np.random.default_rng(0).normal(size=80)
    for step in range(8600):
        writer.append(step, step / 100, keys, values)
    start = time.process_time()
    writer.close()
    assert time.process_time() - start < 0.5
    assert read(tmp_path / "r.parquet").step.size == 8600 * 80


def test_a_grid_has_the_layers_in_their_order_and_nan_where_nothing_was_measured(tmp_path):
    keys = tuple(Key(f"layer_{i:02d}", "", "delta_rms", 0) for i in (100, 99, 2))
    writer = RecordWriter(tmp_path / "r.parquet")
    writer.append(4, 1.0, keys, np.array([3.0, 2.0, 1.0]))
    writer.append(0, 0.0, keys[:1], np.array([30.0]))
    writer.close()
    steps, layers, values = read(tmp_path / "r.parquet").grid("delta_rms")
    assert steps.tolist() == [0, 4] and layers == ["layer_02", "layer_99", "layer_100"]
    np.testing.assert_array_equal(values, [[np.nan, 1], [np.nan, 2], [30, 3]])


def test_metrics_come_back_by_name(tmp_path):
    lines = [(0, {"cost/train": 2.0}), (9, {"cost/train": 1.0, "accuracy/val": 0.5})]
    text = "".join(json.dumps({"step": s, "epoch": 0.0, "time": 0.0, "metrics": m}) + "\n" for s, m in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert {k: (s.tolist(), v.tolist()) for k, (s, v) in metrics.items()} == {
        "cost/train": ([0, 9], [2.0, 1.0]),
        "accuracy/val": ([9], [0.5]),
    }


def test_a_record_of_another_format_is_refused(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "r.parquet"
    writer = RecordWriter(path)
    writer.append(0, 0.0, (("layer_01", "", "delta_l2", 0),), np.ones(1))
    writer.close()
    table = pq.read_table(path)
    assert table.schema.metadata[b"bpx.format"] == b"1"
    assert len(read(path).value) == 1
    pq.write_table(table.replace_schema_metadata({"bpx": "{}"}), path)
    assert len(read(path).value) == 1  # as files were before they named it
    pq.write_table(table.replace_schema_metadata({"bpx": "{}", "bpx.format": "2"}), path)
    with pytest.raises(ValueError, match=r"bpx\.format: expected 1, got '2'"):
        read(path)


@pytest.fixture
def long(tmp_path, monkeypatch, rng):
    """Return the same record read at once and by quantity; its file is removed afterwards."""
    path = tmp_path / "r.parquet"
    monkeypatch.setattr(parquet, "ROW_GROUP", 20)
    writer = RecordWriter(path)
    for step in range(10):
        writer.append(step, step / 4, LAYERS, rng.normal(size=len(LAYERS)))
        writer.append(step, step / 4, BINS, rng.normal(size=len(BINS)))
    writer.about = {"dataset": "digits"}
    writer.close()
    short = read(path)
    monkeypatch.setattr(parquet, "IN_MEMORY", 10)
    found = read(path)
    path.unlink()
    return short, found


def test_a_long_record_gives_the_same_rows(long):
    short, found = long
    assert found.about == short.about == {"dataset": "digits"}
    assert found.quantities == short.quantities == {"grad_norm", "delta_rms", "histogram"}
    assert found.layers == short.layers == {"layer_01", "layer_02", "layer_03"}
    assert found.operations == short.operations == {"", "dense"}
    asked = [{}, {"layer": "layer_02"}, {"operation": "conv"}, {"quantity": "delta_rms"}, {"quantity": "none"}]
    asked += [{"quantity": "histogram", "step": 3}, {"quantity": "grad_norm", "layer": "layer_03"}]
    for wanted in asked:
        one, other = short.select(**wanted), found.select(**wanted)
        assert len(one.value) == sum(
            all(row[name] == value for name, value in wanted.items())
            for row in (
                {"step": step, "quantity": key.quantity, "layer": key.layer, "operation": key.operation}
                for step in range(10)
                for key in LAYERS + BINS
            )
        )
        for column in COLUMNS:
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
    for quantity in ("grad_norm", "delta_rms", "none"):
        (steps, layers, values), (s, n, v) = short.grid(quantity), found.grid(quantity)
        assert steps.tolist() == s.tolist() and layers == n
        np.testing.assert_array_equal(values, v)


def test_one_quantity_of_a_long_record_reads_nothing_of_the_others(long, monkeypatch):
    import pyarrow.parquet as pq

    _, found = long
    sizes, read_group = [], pq.ParquetFile.read_row_group

    def counted(self, *args, **more):
        table = read_group(self, *args, **more)
        sizes.append(len(table))
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert found.select(quantity="delta_rms").value.size == 30
    assert sizes == [30]
