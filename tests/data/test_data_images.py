"""MNIST from every place it can come from, damaged and missing, and what happens without it."""

import gzip
import hashlib
import http.server
import io
import json
import struct
import threading

import numpy as np
import pytest

from bpx.data import SOURCES, DataError, idx, images
from bpx.data.dataset import digest

F32 = np.dtype("float32")


def small(rng, n=60, m=12):
    x = rng.integers(0, 256, (n + m, 28, 28)).astype(np.uint8)
    y = (np.arange(n + m) % 10).astype(np.uint8)
    return x[:n], y[:n], x[n:], y[n:]


def write_idx(folder, parts, end=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for (stem, d), a in zip(idx.PARTS, parts, strict=True):
        data = struct.pack(f">{1 + d}I", 0x0800 + d, *a.shape) + a.tobytes()
        path = folder / f"{stem}-idx{d}-ubyte{end}"
        path.write_bytes(gzip.compress(data) if end else data)
    return folder


@pytest.fixture
def any_mnist(monkeypatch):
    """Let made-up images pass as MNIST: these tests are about files, not about pixels."""
    monkeypatch.setattr(images.MNIST, "sha256", None)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", refuse)


def load(rng, **keys):
    return SOURCES["mnist"](**keys).load(rng, F32)


def test_real_mnist_is_what_it_was_in_1998(mnist_dir, rng):
    data = load(rng, path=str(mnist_dir))
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (55000, 5000, 10000)
    assert data.sha256 == images.MNIST.sha256 and not data.fallback
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.x_train.dtype == F32 and data.x_train.min() == 0 and data.x_train.max() == 1
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]


def test_one_changed_pixel_is_found(mnist_dir, rng, tmp_path):
    parts = [a.copy() for a in idx.find(mnist_dir, "mnist")]
    parts[2][17, 3, 4] ^= 1
    write_idx(tmp_path / "mnist", parts, end="")
    with pytest.raises(DataError, match="SHA-256"):
        load(rng, path=str(tmp_path))


def test_the_first_thousand_as_the_demonstration_splits_them(mnist_dir, rng):
    data = load(rng, path=str(mnist_dir), subset=1000, scaling="standard")
    assert (len(data.x_train), data.x_val, len(data.x_test)) == (800, None, 200)
    used = data.x_train.std(axis=0) > 0
    np.testing.assert_allclose(data.x_train[:, used].std(axis=0), 1, rtol=1e-4)
    assert abs(data.x_test.mean()) > 1e-4, "the scaler must not have seen the test part"


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("where", [".", "mnist"])
def test_idx_in_the_folder_or_below_it(any_mnist, rng, tmp_path, end, where):
    parts = small(rng)
    write_idx(tmp_path / where, parts, end)
    data = load(rng, path=str(tmp_path), scaling="none")
    np.testing.assert_array_equal(data.x_test, parts[2].reshape(12, -1))


def test_npz_holds_the_same_bytes(any_mnist, rng, tmp_path):
    parts = small(rng)
    np.savez(tmp_path / "mnist.npz", **dict(zip(idx.KEYS, parts, strict=True)))
    write_idx(tmp_path / "other", parts)
    a, b = load(rng, path=str(tmp_path)), load(rng, path=str(tmp_path / "other"))
    assert a.sha256 == b.sha256


def test_the_order_of_places(any_mnist, offline, rng, tmp_path, monkeypatch):
    parts = [small(np.random.default_rng(k)) for k in range(3)]
    digests = [digest(*p) for p in parts]
    write_idx(tmp_path / "path", parts[0])
    write_idx(tmp_path / "env" / "mnist", parts[1])
    write_idx(tmp_path / "cache" / "bpx" / "mnist", parts[2])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load(rng).sha256 == digests[2]
    monkeypatch.setenv("BPX_DATA_DIR", str(tmp_path / "env"))
    assert load(rng).sha256 == digests[1]
    assert load(rng, path=str(tmp_path / "path")).sha256 == digests[0]
    with pytest.raises(DataError, match="holds no mnist files"):
        load(rng, path=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("where", ["MNIST/raw", "raw", "mnist", "."])
def test_the_folders_that_others_unpack_to(any_mnist, rng, tmp_path, where):
    parts = small(rng)
    write_idx(tmp_path / where, parts, "")
    assert load(rng, path=str(tmp_path)).sha256 == digest(*parts)


def test_kaggles_folders_hold_a_file_of_their_own_name(any_mnist, rng, tmp_path):
    parts = small(rng)
    for path in write_idx(tmp_path / "flat", parts, "").iterdir():
        (tmp_path / "kaggle" / path.name).mkdir(parents=True)
        path.rename(tmp_path / "kaggle" / path.name / path.name)
    assert load(rng, path=str(tmp_path / "kaggle")).sha256 == digest(*parts)


def test_the_path_of_a_file_itself_and_of_the_users_home(any_mnist, rng, tmp_path, monkeypatch):
    parts = small(rng)
    np.savez(tmp_path / "mnist.npz", **dict(zip(idx.KEYS, parts, strict=True)))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (str(tmp_path / "mnist.npz"), "~/mnist.npz", "~"):
        assert load(rng, path=path).sha256 == digest(*parts)
    folder = write_idx(tmp_path / "idx", parts)
    assert load(rng, path=str(folder / "train-images-idx3-ubyte.gz")).sha256 == digest(*parts)


def test_gzip_is_known_by_its_bytes(any_mnist, rng, tmp_path):
    parts = small(rng)
    folder = write_idx(tmp_path, parts)
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(""))
    assert load(rng, path=str(folder)).sha256 == digest(*parts)
    for path in list(folder.iterdir()):
        path.write_bytes(gzip.decompress(path.read_bytes()))
        path.rename(path.with_name(f"{path.name}.gz"))
    assert load(rng, path=str(folder)).sha256 == digest(*parts)


def test_a_whole_file_of_another_set_is_not_called_damaged(rng, tmp_path):
    write_idx(tmp_path / "mnist", small(rng, 6000, 100))
    with pytest.raises(DataError, match="holds another data set than mnist: its SHA-256") as error:
        load(rng, path=str(tmp_path))
    assert "damaged" not in str(error.value)


def test_packed_files_of_another_set_are_known_by_their_checksum(rng, tmp_path, monkeypatch):
    """Fashion-MNIST and KMNIST have files of the same names, counts and sizes."""
    folder = write_idx(tmp_path / "kmnist", small(rng))
    packed = (folder / "train-images-idx3-ubyte.gz").read_bytes()
    monkeypatch.setitem(idx.PACKED, hashlib.md5(packed).hexdigest(), "kmnist")
    assert SOURCES["kmnist"](path=str(folder)).load(rng, F32).n_in == 784
    with pytest.raises(DataError, match=r"kmnist holds kmnist, not fashion_mnist"):
        SOURCES["fashion_mnist"](path=str(folder)).load(rng, F32)


def test_kmnist(rng, tmp_path):
    parts = small(rng)
    write_idx(tmp_path / "KMNIST" / "raw", parts)
    data = SOURCES["kmnist"](path=str(tmp_path), scaling="none").load(rng, F32)
    assert data.class_names[:3] == ("o", "ki", "su") and data.sha256 == digest(*parts)
    assert data.notes == ("kmnist is checked by its form alone; its checksum is recorded",)


def test_kmnist_in_four_npz_files(rng, tmp_path):
    parts = small(rng)
    folder = tmp_path / "kmnist"
    folder.mkdir()
    for part, array in zip(idx.NPZ_PARTS, parts, strict=True):
        np.savez_compressed(folder / f"kmnist-{part}.npz", array)
    for path in (tmp_path, folder, folder / "kmnist-train-imgs.npz"):
        assert SOURCES["kmnist"](path=str(path)).load(rng, F32).sha256 == digest(*parts)
    (folder / "kmnist-test-labels.npz").unlink()
    with pytest.raises(DataError, match=r"incomplete: there is no kmnist-test-labels\.npz file"):
        SOURCES["kmnist"](path=str(folder)).load(rng, F32)


@pytest.mark.parametrize(
    ("split", "classes", "first", "names"),
    [("balanced", 47, 0, "0At"), ("bymerge", 47, 0, "0At"), ("byclass", 62, 0, "0Az"), ("letters", 26, 1, "AKZ"),
     ("digits", 10, 0, "039"), ("mnist", 10, 0, "039")],
)  # fmt: skip
def test_every_split_of_emnist_upright_and_from_zero(rng, tmp_path, split, classes, first, names):
    x = rng.integers(0, 256, (2 * classes, 28, 28)).astype(np.uint8)
    y = (np.arange(2 * classes) % classes + first).astype(np.uint8)
    folder = write_idx(tmp_path / "gzip", (x[:classes], y[:classes], x[classes:], y[classes:]))
    for path in list(folder.iterdir()):
        path.rename(folder / f"emnist-{split}-{path.name.replace('t10k', 'test')}")
    data = SOURCES["emnist"](path=str(tmp_path), split=split, scaling="none", val_size=0).load(rng, F32)
    assert data.n_classes == classes == len(data.class_names) and data.y_train.tolist() == list(range(classes))
    np.testing.assert_array_equal(data.x_test.reshape(-1, 28, 28), x[classes:].transpose(0, 2, 1))
    some = (0, {47: 10, 62: 10, 26: 10, 10: 3}[classes], classes - 1)
    assert "".join(data.class_names[k] for k in some) == names


def test_emnist_is_not_guessed(rng, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"dataset\.split must be one of balanced"):
        SOURCES["emnist"](split="all")
    np.savez(tmp_path / "emnist.npz", **dict(zip(idx.KEYS, small(rng), strict=True)))
    with pytest.raises(DataError, match="read from its IDX files"):
        SOURCES["emnist"](path=str(tmp_path / "emnist.npz")).load(rng, F32)
    monkeypatch.setenv("BPX_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"give dataset\.path"):
        SOURCES["emnist"]().load(rng, F32)


def damage(path, how):
    data = gzip.decompress(path.read_bytes())
    if how == "truncated gzip":
        path.write_bytes(path.read_bytes()[:-40])
    elif how == "not gzip":
        path.write_bytes(b"hello")
    elif how == "short":
        path.write_bytes(gzip.compress(data[:-1]))
    elif how == "long":
        path.write_bytes(gzip.compress(data + b"x"))
    elif how == "magic":
        path.write_bytes(gzip.compress(b"\1" + data[1:]))
    elif how == "huge header":
        path.write_bytes(gzip.compress(data[:4] + b"\xff" * 12 + data[16:]))
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated gzip", "not gzip", "short", "long", "magic", "huge header", "empty"])
def test_a_damaged_file_is_named_and_never_trained_on(any_mnist, rng, tmp_path, monkeypatch, how):
    write_idx(tmp_path / "mnist", small(rng))
    damage(tmp_path / "mnist" / "train-images-idx3-ubyte.gz", how)
    monkeypatch.setenv("BPX_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz") as error:
        load(rng)
    assert "\n" not in str(error.value)


def test_a_missing_part_and_labels_outside(any_mnist, rng, tmp_path):
    parts = list(small(rng))
    folder = write_idx(tmp_path / "a", parts)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="t10k-labels"):
        load(rng, path=str(folder))
    parts[1] = parts[1] + 5
    with pytest.raises(DataError, match="outside the classes"):
        load(rng, path=str(write_idx(tmp_path / "b", parts)))


def test_without_data_it_runs_on_real_digits_and_says_so(offline, rng, caplog):
    data = load(rng)
    assert data.fallback and data.name == "digits28 (fallback)" and data.n_in == 784
    assert "INSTEAD" in caplog.text
    counts = np.bincount(data.y_train)
    assert counts.min() > 100 and data.x_train.max() <= 1, "real digits, every class, in the images' range"
    with pytest.raises(DataError, match="OpenML"):
        load(rng, fallback=None)


def test_openml_stand_in_is_asked_once_then_the_cache(any_mnist, rng, tmp_path, monkeypatch):
    """A server on loopback answers as OpenML does: three JSON documents and one ARFF file."""
    parts = small(np.random.default_rng(3))
    x, y = np.concatenate(parts[::2]).reshape(72, -1), np.concatenate(parts[1::2])
    asked = []
    lines = ["@RELATION mnist_784"] + [f"@ATTRIBUTE pixel{i} REAL" for i in range(784)]
    lines += ["@ATTRIBUTE class {" + ",".join("0123456789") + "}", "@DATA"]
    lines += [",".join(map(str, [*row, label])) for row, label in zip(x.tolist(), y.tolist(), strict=True)]
    arff = "\n".join(lines).encode()
    names = [f"pixel{i}" for i in range(784)]
    features = [
        {"index": str(i), "name": n, "data_type": "numeric", "is_target": "false", "is_ignore": "false",
         "is_row_identifier": "false", "number_of_missing_values": "0"}
        for i, n in enumerate(names)
    ]  # fmt: skip
    features.append(
        {**features[0], "index": "784", "name": "class", "data_type": "nominal", "is_target": "true",
         "nominal_value": list("0123456789")}
    )  # fmt: skip

    class OpenML(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            description = {"id": "554", "description": "a stand-in", "name": "mnist_784", "version": "1",
                           "format": "ARFF", "status": "active",
                           "file_id": "52667", "default_target_attribute": "class", "md5_checksum": "",
                           "url": f"http://127.0.0.1:{self.server.server_port}/data/v1/download/52667"}  # fmt: skip
            if "/data/list/" in self.path:
                body = {"data": {"dataset": [{"did": 554, "name": "mnist_784", "version": 1, "status": "active"}]}}
            elif "/features/" in self.path:
                body = {"data_features": {"feature": features}}
            elif "/qualities/" in self.path:
                body = {"data_qualities": {"quality": [{"name": "NumberOfInstances", "value": "72"}]}}
            elif "download" in self.path:
                body = None
            else:
                import hashlib

                description["md5_checksum"] = hashlib.md5(arff).hexdigest()
                body = {"data_set_description": description}
            data = arff if body is None else json.dumps(body).encode()
            packed = io.BytesIO()
            with gzip.GzipFile(fileobj=packed, mode="wb") as file:
                file.write(data)
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            self.wfile.write(packed.getvalue())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OpenML)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import sklearn.datasets._openml as openml

    for name in ("_SEARCH_NAME", "_DATA_INFO", "_DATA_FEATURES", "_DATA_QUALITIES"):
        path = getattr(openml, name).split("/api/")[1]
        monkeypatch.setattr(openml, name, f"http://127.0.0.1:{server.server_port}/api/{path}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        data = load(rng)
        assert data.source == "OpenML" and not data.fallback and asked
        questions = len(asked)
        again = load(rng)
        assert len(asked) == questions, "the second time it comes from the cache"
        assert again.sha256 == data.sha256 == digest(*idx.find(tmp_path / "bpx", "mnist"))
    finally:
        server.shutdown()
        server.server_close()
