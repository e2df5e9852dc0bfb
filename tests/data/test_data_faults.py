"""Faults that were found by looking for them, each held by the fact that it broke."""

import io
import zipfile

import numpy as np
import pytest

from bpx.data import SOURCES, Batches, DataError

F32 = np.dtype("float32")


def save(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


@pytest.mark.parametrize("scaling", ["standard", "unit"])
def test_a_large_offset_costs_no_digits_in_float32(rng, tmp_path, scaling):
    seconds = 1.6e9 + np.arange(200.0)[:, None]
    data = SOURCES["file"](path=save(tmp_path, x=seconds, y=np.arange(200) % 2), scaling=scaling).load(rng, F32)
    assert len(np.unique(data.x_train)) == 160
    scaled = np.concatenate([data.x_train, data.x_test])
    np.testing.assert_allclose(np.sort(data.scaler.transform(seconds), axis=0), np.sort(scaled, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("classification", {"n_samples": 10**15}, "dataset.n_samples must be at most 67,108,864, got 1,000,000,000"),
        ("moons", {"n_samples": 10**30}, "dataset.n_samples must be at most 67,108,864"),
        ("spirals", {"n_samples": 67_108_865}, "dataset.n_samples must be at most 67,108,864"),
        ("spirals", {"arms": 10**9}, "dataset.arms must be between 2 and dataset.n_samples=1000"),
        ("gaussian", {"n_samples": 10**9}, "dataset.n_samples must be at most 1,220,161"),
        ("gaussian", {"n_in": 10**15}, "dataset.n_in must be between 1 and 1,000,000"),
        ("gaussian", {"n_in": 10**6, "n_samples": 200}, "dataset.n_samples must be at most 134, got 200"),
        ("file", {"test_size": np.inf}, "dataset.test_size must be a count or a share"),
    ],
)
def test_more_made_up_samples_than_memory_holds(name, keys, said):
    with pytest.raises(DataError, match=said) as error:
        SOURCES[name](**keys)
    assert "\n" not in str(error.value)


def test_a_constant_feature_has_scale_one(rng, tmp_path):
    x = np.column_stack([np.arange(40.0), np.full(40, 0.1)])  # the mean of forty 0.1 is not 0.1
    data = SOURCES["file"](path=save(tmp_path, x=x, y=np.arange(40) % 2)).load(rng, F32)
    assert data.scaler.scale[1] == 1 and not data.x_train[:, 1].any()


@pytest.mark.parametrize(
    ("x", "y", "keys"),
    [
        (np.float64(1), np.arange(20), {}),
        (np.ones((20, 3)), np.int64(1), {}),
        (np.ones((0, 3)), np.ones(0), {}),
        (np.ones((20, 3)), np.full(20, "a"), {"target": "y"}),
        (np.ones((20, 3)), np.arange(20) + 1j, {}),
        (np.arange(60.0).reshape(20, 3) * 1e39, np.arange(20), {"scaling": "none"}),
        (np.arange(60.0).reshape(20, 3) * 1e300, np.arange(20), {}),
    ],
)
def test_arrays_that_cannot_be_learned_from(rng, tmp_path, x, y, keys):
    with pytest.raises(DataError):
        SOURCES["file"](path=save(tmp_path, x=x, y=y), **keys).load(rng, F32)


def test_an_npz_whose_header_lies(rng, tmp_path):
    path, x, y = tmp_path / "lie.npz", io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(x, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 3)})
    np.save(y, np.arange(20))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", x.getvalue() + bytes(480))
        archive.writestr("y.npy", y.getvalue())
    with pytest.raises(DataError, match=r"lie\.npz"):
        SOURCES["file"](path=str(path)).load(rng, F32)


def test_an_empty_label_is_no_class_and_a_byte_order_mark_no_letter(rng, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a,label\n1,0\n2,1\n3,\n")
    with pytest.raises(DataError, match="line 4: the column label is empty"):
        SOURCES["file"](path=str(path)).load(rng, F32)
    path.write_text("label,a\n" + "".join(f"{i % 2},{i}\n" for i in range(20)), encoding="utf-8-sig")
    assert SOURCES["file"](path=str(path)).load(rng, F32).n_classes == 2


def test_mnist_is_not_taken_for_fashion_mnist(mnist_dir, rng):
    with pytest.raises(DataError, match="holds MNIST, not fashion_mnist"):
        SOURCES["fashion_mnist"](path=str(mnist_dir / "mnist")).load(rng, F32)


@pytest.mark.parametrize("keys", [{"val_size": 1.5}, {"val_size": float("inf")}, {"random_state": 2**32}])
def test_fields_out_of_range(keys):
    with pytest.raises(DataError, match="dataset"):
        SOURCES["moons"](**keys)


def test_features_and_labels_that_disagree(rng):
    with pytest.raises(DataError, match="they must agree"):
        Batches(np.zeros((20, 3)), np.zeros(5), 4, rng)
