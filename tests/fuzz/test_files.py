"""Any bytes as a file: what they hold, or one line that names the file; never anything else, and no memory for lies."""

import hashlib
import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpx import records
from bpx.data import DataError, idx, npz
from bpx.engine import mlp
from bpx.engine.features import Column, Scaler
from bpx.engine.model_files import load_model, save_model
from bpx.records import Key, RecordWriter, parquet
from bpx.system.files import cut_torn_line
from bpx.tracking import TrackingError, tracker
from bpx.tracking.spool import Spool
from bpx.training import checkpoint_file
from bpx.training.checkpoint_file import Damaged

MEMORY = 2**24  # bytes; the files here hold a few hundred
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_one_line(read, path, error):
    """Read; nothing but ``error`` may come of it, in one line that names the file, at a bounded cost."""
    tracemalloc.start()
    try:
        return read(path)
    except error as said:
        assert "\n" not in str(said) and path.name in str(said)
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY, f"{peak:,} bytes for a file of {path.stat().st_size}"


def damaged(valid):
    """Bytes near valid ones: some of them changed, a piece cut off, put in or doubled."""
    n = len(valid)
    flips = st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, 255)), min_size=1, max_size=6)

    def flipped(changes):
        content = bytearray(valid)
        for at, byte in changes:
            content[at] = byte
        return bytes(content)

    cut = st.integers(0, n - 1).map(lambda end: valid[:end])
    put = st.tuples(st.integers(0, n), st.binary(max_size=40)).map(lambda p: valid[: p[0]] + p[1] + valid[p[0] :])
    return st.one_of(st.binary(max_size=300), flips.map(flipped), cut, put)


IDX = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 3, 4)) + bytes(range(24))


@quick
@given(content=damaged(IDX), packed=st.booleans())
def test_idx(content, packed, tmp_path):
    path = tmp_path / ("a-idx3-ubyte" + (".gz" if packed else ""))
    path.write_bytes(content)
    array = read_or_one_line(lambda p: idx.read_idx(p, 3), path, DataError)
    assert array is None or array.dtype == np.uint8


def an_npz():
    file = io.BytesIO()
    np.savez(file, x=np.arange(6.0).reshape(2, 3), y=np.arange(2))
    return file.getvalue()


@quick
@given(content=damaged(an_npz()))
def test_npz(content, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    arrays = read_or_one_line(lambda p: npz.read(p, ("x", "y")), path, DataError)
    assert arrays is None or all(a.dtype.kind != "O" for a in arrays.values())


@pytest.mark.parametrize("shape", [(10**12,), (2**62, 4), (10**6, 10**6), (-1,), (0, 10**18)])
def test_an_npz_that_claims_more_than_it_holds(shape, tmp_path):
    path = tmp_path / "a.npz"
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", file.getvalue() + bytes(80))
    assert read_or_one_line(lambda p: npz.read(p, ("x",)), path, DataError) is None


def test_an_npz_with_a_bomb_or_a_pickle(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as file:
        for _ in range(1025):
            file.write(bytes(2**20))
    assert path.stat().st_size < 2**21
    assert read_or_one_line(lambda p: npz.read(p, ("x",)), path, DataError) is None
    np.savez(path, x=np.array([{"a": 1}], object))
    assert read_or_one_line(lambda p: npz.read(p, ("x",)), path, DataError) is None


@pytest.fixture(scope="module")
def a_model(tmp_path_factory):
    """The two files of a network, by name."""
    folder = tmp_path_factory.mktemp("model")
    columns = (Column("u", fill=1.5), Column("v", ("x", "y"), "x"))
    save_model(folder, mlp(3, [4, 4], 2, normalization="batch"), Scaler(np.zeros(3), np.ones(3)), ("a", "b"), columns)
    return {name: (folder / name).read_bytes() for name in ("model.json", "model.npz")}


def load_or_one_line(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return read_or_one_line(load_model, folder, ValueError)


@quick
@given(data=st.data(), name=st.sampled_from(["model.json", "model.npz"]))
def test_a_model(data, name, a_model, tmp_path):
    model = load_or_one_line(tmp_path, a_model | {name: data.draw(damaged(a_model[name]))})
    assert model is None or model.predict([[0.0, "x"]]).shape == (1, 2)


@pytest.mark.parametrize(
    "lie",
    [
        *({"n_in": 10**12}, {"n_out": 2**40}, {"hidden": [10**9]}, {"hidden": [4] * 10**5}, {"hidden": [10**6, 1] * 3}),
        *({"n_in": -3}, {"n_in": 3.0}, {"n_in": True}, {"hidden": "44"}, {"hidden": 4}, {"hidden": None}),
        *({"dtype": "object"}, {"dtype": "float16"}, {"dtype": "float64"}, {"model": "os"}, {"loss": {"name": "x"}}),
        *({"activation": {"name": "relu", "slope": 1}}, {"normalization": "none"}, {"n_in": 4}, {"hidden": [4]}),
    ],
)
def test_a_model_that_is_not_what_its_file_holds(lie, a_model, tmp_path):
    description = json.loads(a_model["model.json"])
    description["spec"] |= lie
    assert load_or_one_line(tmp_path, a_model | {"model.json": json.dumps(description).encode()}) is None


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"format": 2}', "[" * 10**5, '{"format": 1, "spec": []}', ""])
def test_a_model_without_a_description(text, a_model, tmp_path):
    assert load_or_one_line(tmp_path, a_model | {"model.json": text.encode()}) is None


def test_a_model_of_more_layers_than_anybody_builds(a_model, tmp_path):
    description = json.loads(a_model["model.json"])
    description["spec"] |= {"hidden": [1] * 30_000, "normalization": "none"}
    file = io.BytesIO()
    np.savez(file, scaler_shift=np.zeros(3), scaler_scale=np.ones(3), **{"state/theta": np.zeros(60_004, np.float32)})
    files = {"model.json": json.dumps(description).encode(), "model.npz": file.getvalue()}
    assert load_or_one_line(tmp_path, files) is None


def test_a_model_that_is_packed_or_lacks_something(a_model, tmp_path):
    with np.load(io.BytesIO(a_model["model.npz"])) as held:
        arrays = dict(held)
    for change in (
        {"scaler_shift": np.zeros(10**7)},
        {"scaler_scale": np.ones(4)},
        {"scaler_scale": np.array([None] * 3)},
        {"state/layer_01.dense.W": np.zeros(3, np.float32)},
        {"state/layer_01.dense.W": np.array(["a"])},
    ):
        file = io.BytesIO()
        np.savez_compressed(file, **(arrays | change))
        assert load_or_one_line(tmp_path, a_model | {"model.npz": file.getvalue()}) is None
    for name in arrays:
        file = io.BytesIO()
        np.savez(file, **{key: value for key, value in arrays.items() if key != name})
        assert load_or_one_line(tmp_path, a_model | {"model.npz": file.getvalue()}) is None
    (tmp_path / "model.npz").unlink()
    assert read_or_one_line(load_model, tmp_path, ValueError) is None


def a_sealed(tmp_path):
    path = tmp_path / "a.bpx"
    arrays = {"x": np.arange(6.0).reshape(2, 3), "n": np.array(7), "e": np.zeros((0, 4))}
    checkpoint_file.write(path, {"a": [1, 2.5, None]}, arrays)
    return path


def test_a_sealed_file_gives_back_what_it_got(tmp_path):
    facts, arrays = checkpoint_file.read(a_sealed(tmp_path))
    assert facts == {"a": [1, 2.5, None]}
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]] and arrays["n"] == 7 and arrays["e"].shape == (0, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bpx"]
    with pytest.raises(TypeError, match="object"):
        checkpoint_file.write(tmp_path / "b", {}, {"x": np.array([None])})


@quick
@given(data=st.data())
def test_a_sealed_file_is_whole_or_damaged(data, tmp_path):
    path = a_sealed(tmp_path)
    valid = path.read_bytes()
    content = data.draw(damaged(valid))
    path.write_bytes(content)
    got = read_or_one_line(checkpoint_file.read, path, Damaged)
    assert got is None or content == valid


def resealed(header, body=b""):
    line = (header if isinstance(header, bytes) else json.dumps(header).encode()) + b"\n"
    return checkpoint_file.MAGIC + hashlib.sha256(line + body).hexdigest().encode() + b"\n" + line + body


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)
TABLE = st.lists(st.tuples(JSON, st.one_of(JSON, st.sampled_from(checkpoint_file.DTYPES)), JSON), max_size=3)


@quick
@given(header=st.one_of(JSON, st.fixed_dictionaries({"facts": JSON, "arrays": TABLE})), body=st.binary(max_size=64))
def test_a_rightly_sealed_lie(header, body, tmp_path):
    path = tmp_path / "a.bpx"
    path.write_bytes(resealed(header, body))
    read_or_one_line(checkpoint_file.read, path, Damaged)


@pytest.mark.parametrize(
    "header",
    [
        {"facts": {}, "arrays": [["x", "float64", [2**40]]]},
        {"facts": {}, "arrays": [["x", "float64", [2**62, 2**62, 0]]]},
        {"facts": {}, "arrays": [["x", "object", [1]]]},
        {"facts": {}, "arrays": [["x", "float64", [-1]]]},
        {"facts": {}, "arrays": [["x", "float64", [True]]]},
        {"facts": [], "arrays": []},
        b"[" * 10**5,
        b'{"facts": {}, "arrays": []',
    ],
)
def test_sealed_lies_that_were_thought_of(header, tmp_path):
    path = tmp_path / "a.bpx"
    path.write_bytes(resealed(header))
    assert read_or_one_line(checkpoint_file.read, path, Damaged) is None


@quick
@given(data=st.data())
def test_a_record(data, tmp_path):
    path = tmp_path / "gradient_flow.parquet"
    writer = RecordWriter(path)
    writer.append(0, 0.0, (Key("layer_01", "", "delta_rms", 0),), np.ones(1))
    writer.close()
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    read_or_one_line(records.read, path, ValueError)


def test_a_record_that_claims_too_much(tmp_path, monkeypatch):
    """Well packed rows take no room in the file: neither all of them nor those of one quantity may fill the memory."""
    path, n = tmp_path / "gradient_flow.parquet", 2**18
    writer = RecordWriter(path)
    writer.append(0, 0.0, (Key("layer_01", "", "delta_rms", 0),) * n, np.zeros(n))
    writer.close()
    monkeypatch.setattr(parquet, "IN_MEMORY", 100)
    record = records.read(path)
    monkeypatch.setattr(parquet, "MAX_ROWS_AT_ONCE", n - 1)
    with pytest.raises(ValueError, match=r"parquet cannot be read: it claims more than 262,143 rows of delta_rms"):
        record.select(quantity="delta_rms")
    with pytest.raises(ValueError, match="claims 262,144 rows in one group"):
        records.read(path)
    monkeypatch.setattr(parquet, "MAX_ROWS", n - 1)
    with pytest.raises(ValueError, match="claims 262,144 rows"):
        records.read(path)


@quick
@given(data=st.data())
def test_a_long_record(data, tmp_path):
    """What stays in the file is read late: what is damaged there is named then."""
    path = tmp_path / "gradient_flow.parquet"
    writer = RecordWriter(path)
    writer.append(0, 0.0, (Key("layer_01", "", "delta_rms", 0), Key("layer_01", "", "a", 0)), np.ones(2))
    writer.close()
    path.write_bytes(data.draw(damaged(path.read_bytes())))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "IN_MEMORY", 0)
        record = read_or_one_line(records.read, path, ValueError)
        if record is not None:
            read_or_one_line(lambda _: record.select(quantity="a").value, path, ValueError)


LINES = b'{"step": 0, "epoch": 0.0, "metrics": {"a": 1.0}}\n{"step": 1, "epoch": 0.5, "metrics": {"a": 2.0}}\n'


@quick
@given(content=damaged(LINES), position=st.integers(0, 200))
def test_metrics_behind_a_position(content, position, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    read_or_one_line(lambda p: tracker.logged(p, position), path, ValueError)


@quick
@given(content=st.binary(max_size=300))
def test_whole_lines(content, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    with path.open("r+b", buffering=0) as file:
        assert cut_torn_line(file) == len(content) - content.rfind(b"\n") - 1
    assert path.read_bytes() == content[: content.rfind(b"\n") + 1]


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + LINES[:-5])
    assert records.read_metrics(path)["a"][1].tolist() == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("line", [b'{"a": 1}', b"[1]", b"3", b"x", b'{"step": "x", "metrics": {"a": 1}}'])
def test_a_line_that_is_no_record_is_named(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + line + b"\n")
    n = LINES.count(b"\n") + 1
    with pytest.raises(ValueError, match=rf"line {n}: expected a step and its metrics, got "):
        records.read_metrics(path)


SPOOL = b'{"format": 1, "target": {"uri": "u", "experiment": "1", "run": "r"}, "sent": 0, "todo": [["end", "x", 1]]}'


@quick
@given(content=damaged(SPOOL))
def test_a_spool(content, tmp_path):
    (tmp_path / "delivery.json").write_bytes(content)
    try:
        Spool.load(tmp_path)
    except (ValueError, TrackingError) as error:
        assert "\n" not in str(error) and "delivery.json" in str(error)


def test_an_npz_with_two_entries_of_one_name(tmp_path):
    """``x`` beside ``x.npy``: what is checked is what is read."""
    path, small, large = tmp_path / "a.npz", io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(small, np.arange(3.0))
    np.lib.format.write_array_header_1_0(large, {"descr": "|u1", "fortran_order": False, "shape": (2**27,)})
    for first, second in (("x", "x.npy"), ("x.npy", "x")):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(first, large.getvalue() + bytes(2**27))
            archive.writestr(second, small.getvalue())
        arrays = read_or_one_line(lambda p: npz.read(p, ("x",)), path, DataError)
        assert arrays is None or arrays["x"].tolist() == [0, 1, 2]
