"""Made-up data, the user's files, batches."""

import numpy as np
import pytest

from bpx.data import SOURCES, Batches, DataError, Digits
from bpx.data.dataset import split
from bpx.data.digits import small_digits

F64 = np.dtype("float64")
MADE = ("classification", "moons", "spirals", "digits")


@pytest.mark.parametrize("name", MADE)
def test_split_scaling_and_seed(name, rng):
    data = SOURCES[name]().load(rng, F64)
    assert data.x_val is None and data.y_val is None
    assert len(data.x_test) == round(0.2 * (len(data.x_train) + len(data.x_test)) + 0.4)
    spread = data.x_train.std(axis=0)
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(spread[spread > 0], 1, rtol=1e-12)
    assert abs(data.x_test.mean(axis=0)).max() > 1e-3, "fitted on the training part alone"
    again = SOURCES[name]().load(np.random.default_rng(9), F64)
    np.testing.assert_array_equal(data.x_train, again.x_train)
    assert data.n_out == len(data.class_names) == data.y_train.max() + 1


def test_digits_and_the_split_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = small_digits()
    np.testing.assert_array_equal(images, load_digits().images)
    np.testing.assert_array_equal(labels, load_digits().target)
    for n in (2, 3, 7, 59, 1797):
        for size in (0.01, 0.2, 1 / 3, 0.5, 0.7, 0.99, 1, 2, 5):
            try:
                expected = train_test_split(np.arange(n), test_size=size, random_state=n)
            except ValueError:
                with pytest.raises(DataError, match="must leave some of the"):
                    split(n, size, seed=n)
            else:
                for got, wanted in zip(split(n, size, seed=n), expected, strict=True):
                    np.testing.assert_array_equal(got, wanted)


def test_classification_is_the_demonstrations(rng):
    from sklearn.datasets import make_classification
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    x, y = make_classification(
        n_samples=1000, n_features=2, n_classes=3, n_clusters_per_class=1, n_redundant=0, random_state=42
    )
    a, b, c, d = train_test_split(x, y, test_size=0.2, random_state=42)
    scaler = StandardScaler().fit(a)
    data = SOURCES["classification"]().load(rng, F64)
    np.testing.assert_allclose(data.x_train, scaler.transform(a), atol=1e-12)
    np.testing.assert_allclose(data.x_test, scaler.transform(b), atol=1e-12)
    np.testing.assert_array_equal(data.y_train, c)
    np.testing.assert_array_equal(data.y_test, d)


def test_gaussian_is_normal(rng):
    data = SOURCES["gaussian"](n_samples=5000, n_in=20, n_out=3).load(rng, F64)
    assert data.n_classes is None and data.n_out == 3
    assert abs(data.x_train.mean()) < 0.02 and abs(data.x_train.std() - 1) < 0.02
    assert abs(data.y_train.std() - 1) < 0.03


def test_sizes(rng):
    data = SOURCES["moons"](val_size=0.25, train_size=100).load(rng, F64)
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (100, 200, 200)
    for keys in (
        {"val_size": 800},
        {"train_size": 801},
        {"train_size": 0},
        {"val_size": -1},
        {"scaling": "log"},
    ):
        with pytest.raises(DataError, match="dataset"):
            SOURCES["moons"](**keys).load(rng, F64)


def test_csv_with_words_as_labels(rng, tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_text("length,kind,width\n" + "".join(f"{i},{'ab'[i % 2]},{i * 2}\n" for i in range(20)))
    data = SOURCES["file"](path=str(path), label="kind", scaling="none").load(rng, F64)
    assert data.class_names == ("a", "b") and data.n_in == 2
    x = np.concatenate([data.x_train, data.x_test])
    y = np.concatenate([data.y_train, data.y_test])
    np.testing.assert_array_equal(x[:, 1], 2 * x[:, 0])
    np.testing.assert_array_equal(y, x[:, 0] % 2)


def test_npz_regression(rng, tmp_path):
    np.savez(tmp_path / "d.npz", x=rng.normal(size=(30, 4)), y=rng.normal(size=30))
    data = SOURCES["file"](path=str(tmp_path / "d.npz")).load(rng, F64)
    assert data.n_classes is None and data.y_train.shape == (24, 1)


@pytest.mark.parametrize(
    ("rows", "keys", "said"),
    [
        ("1,2,0\n3,x,1\n", {}, "line 3"),
        ("1,2,0\n3,1\n", {}, "line 3"),
        ("1,nan,0\n3,1,1\n", {}, "NaN"),
        ("1,inf,0\n3,1,1\n", {}, "Inf"),
        ("1,2,0\n3,1,7\n", {"n_classes": 3}, "label 7 is outside the classes 0 to 2"),
        ("1,2,0\n3,1,-1\n", {"n_classes": 3}, "label -1"),
        ("1,2,0\n3,1,nan\n", {}, "no class"),
        ("1,2,0\n3,1,0\n", {}, "at least two"),
        ("", {}, "needs a header"),
        ("1,2,0\n", {"label": "nope"}, "no column"),
    ],
)
def test_bad_csv_is_one_line_that_names_the_file(rng, tmp_path, rows, keys, said):
    path = tmp_path / "bad.csv"
    path.write_text("a,b,label\n" + rows)
    with pytest.raises(DataError, match=said) as error:
        SOURCES["file"](path=str(path), **keys).load(rng, F64)
    assert "bad.csv" in str(error.value) and "\n" not in str(error.value)


def test_bad_npz(rng, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match=r"bad\.npz"):
        SOURCES["file"](path=str(bad)).load(rng, F64)
    np.savez(bad, x=np.ones((3, 2)))
    with pytest.raises(DataError, match="lacks the array 'y'"):
        SOURCES["file"](path=str(bad)).load(rng, F64)
    np.savez(bad, x=np.array([object()]), y=np.ones(1))
    with pytest.raises(DataError, match=r"bad\.npz"):
        SOURCES["file"](path=str(bad)).load(rng, F64)


def test_every_sample_once_an_epoch(rng):
    x = np.arange(23.0)[:, None]
    batches = Batches(x, np.arange(23), 5, rng)
    orders = []
    for _ in range(2):
        seen = []
        for xb, yb in batches.epoch():
            np.testing.assert_array_equal(xb[:, 0], yb)
            seen += yb.tolist()
        assert sorted(seen) == list(range(23)) and len(batches) == 5
        orders.append(seen)
    assert orders[0] != orders[1]
    same = [yb.copy() for _, yb in Batches(x, np.arange(23), 5, np.random.default_rng(0)).epoch()]
    assert np.concatenate(same).tolist() == orders[0]
    with pytest.raises(DataError, match="23"):
        Batches(x, np.arange(23), 24, rng)


def test_global_scaling_and_a_constant_divisor():
    raw, dtype = Digits(scaling="none"), np.dtype(np.float64)
    x = raw.load(np.random.default_rng(0), dtype).x_train
    scaled = Digits(scaling="global").load(np.random.default_rng(0), dtype)
    np.testing.assert_allclose(scaled.x_train, (x - x.mean()) / x.std(), atol=1e-12)
    divided = Digits(scaling="divide", divide=16).load(np.random.default_rng(0), dtype)
    np.testing.assert_array_equal(divided.x_train, x / 16)
    for keys, said in (({"divide": 3.0}, "null without"), ({"scaling": "divide"}, "a number with")):
        with pytest.raises(DataError, match=f"dataset.divide must be {said}"):
            Digits(**keys)
    with pytest.raises(DataError, match="positive and finite, got -1"):
        Digits(scaling="divide", divide=-1)


def test_batches_with_replacement_draw_like_a_die(rng):
    x = np.arange(50)[:, None]
    batches = Batches(x, np.arange(50), 10, rng, replacement=True)
    epochs = [np.concatenate([yb.copy() for _, yb in batches.epoch()]) for _ in range(400)]
    assert all(len(epoch) == 50 for epoch in epochs)
    missing = np.mean([50 - len(set(epoch)) for epoch in epochs]) / 50
    assert missing == pytest.approx((1 - 1 / 50) ** 50, abs=0.01)
    other = Batches(x, np.arange(50), 10, rng, replacement=True)
    other.load_state_dict(batches.state_dict())
