"""Sequences: images read row by row or pixel by pixel, the adding problem, copying, files of sequences."""

import math

import numpy as np
import pytest

from bpx.data import SOURCES, DataError
from bpx.data.dataset import split_80_20

RNG, DOUBLE = np.random.default_rng(0), np.dtype("float64")


def load(source, **keys):
    return SOURCES[source](**keys).load(RNG, DOUBLE)


def test_the_sum_of_the_two_marked_numbers():
    data = load("adding", steps=10, n_samples=3000)
    assert data.sequence_shape == (10, 2) and data.n_out == 1 and data.n_classes is None and not data.labels_steps
    x = data.x_train.reshape(-1, 10, 2)
    assert (x[:, :5, 1].sum(axis=1) == 1).all() and (x[:, 5:, 1].sum(axis=1) == 1).all()
    marked = x[:, :, 0][x[:, :, 1] == 1].reshape(-1, 2)
    np.testing.assert_allclose(data.y_train[:, 0], marked.sum(axis=1))
    numbers = x[:, :, 0]
    assert numbers.min() >= 0 and numbers.max() < 1 and numbers.mean() == pytest.approx(0.5, abs=0.01)
    assert np.mean((data.y_train - 1) ** 2) == pytest.approx(1 / 6, rel=0.05)
    assert "0.167" in data.notes[0]


def test_copying_asks_for_what_was_read():
    data = load("copying", delay=7, length=3, symbols=4, n_samples=200)
    steps, blank = 13, 4
    assert data.sequence_shape == (steps, 6) and data.n_classes == 5 and data.labels_steps
    x = data.x_train.reshape(-1, steps, 6)
    assert ((x == 0) | (x == 1)).all() and (x.sum(axis=2) == 1).all()
    read = x.argmax(axis=2)
    np.testing.assert_array_equal(data.y_train[:, -3:], read[:, :3])
    assert (data.y_train[:, :-3] == blank).all() and set(np.unique(read[:, :3])) == {0, 1, 2, 3}
    assert (read[:, 3:9] == blank).all() and (read[:, 9] == blank + 1).all() and (read[:, 10:] == blank).all()
    assert f"{3 * math.log(4) / steps:.4f}" in data.notes[0]


def test_an_image_is_read_by_rows_or_pixels():
    rows, pixels = (load("digits", sequence=how) for how in ("rows", "pixels"))
    assert rows.sequence_shape == (8, 8) and pixels.sequence_shape == (64, 1)
    assert rows.image_shape == pixels.image_shape == (8, 8)
    np.testing.assert_array_equal(rows.x_train, pixels.x_train)


def test_all_images_are_permuted_alike():
    pixels, permuted = (load("digits", sequence=how, scaling="none") for how in ("pixels", "permuted"))
    assert permuted.sequence_shape == (64, 1) and permuted.image_shape is None
    order = np.random.default_rng(0).permutation(64)
    for part in ("x_train", "x_test"):
        np.testing.assert_array_equal(getattr(permuted, part), getattr(pixels, part)[:, order])
    assert permuted.sha256 != pixels.sha256


def write(path, x, y, **others):
    np.savez(path / "sequences.npz", x=x, y=y, **others)
    return str(path / "sequences.npz")


def test_a_file_of_sequences(tmp_path):
    x = RNG.standard_normal((50, 6, 3)) * [1, 10, 100] + [0, 5, -7]
    data = load("file", path=write(tmp_path, x, np.arange(50) % 2))
    assert data.sequence_shape == (6, 3) and data.n_in == 18 and data.n_classes == 2
    scaled = data.x_train.reshape(-1, 3)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(axis=0), 1)
    raw = data.scaler.inverse(data.x_train).reshape(-1, 6, 3)
    assert any(np.allclose(raw[0], sample) for sample in x)
    assert "50 rows, 6 steps of 3 features, label y" in data.summary


def test_a_file_with_a_label_at_every_step(tmp_path):
    x, y = RNG.standard_normal((50, 6, 3)), RNG.integers(0, 4, (50, 6))
    data = load("file", path=write(tmp_path, x, y), test_size=0)
    assert data.labels_steps and data.n_classes == 4
    np.testing.assert_array_equal(data.y_train, y)
    hot = load("file", path=write(tmp_path, x, np.eye(4)[y]), test_size=0)
    np.testing.assert_array_equal(hot.y_train, y)


def test_numbers_at_every_step_are_scaled_alike_at_every_step(tmp_path):
    x, y = RNG.standard_normal((50, 6, 3)), RNG.standard_normal((50, 6, 2)) * [1, 10] + [5, 0]
    data = load("file", path=write(tmp_path, x, y), test_size=0)
    assert data.target_steps == 6 and data.n_out == 12 and not data.labels_steps and data.n_classes is None
    np.testing.assert_allclose(data.y_train.reshape(-1, 2).std(axis=0), 1)
    np.testing.assert_allclose(data.target_scaler.inverse(data.y_train), y.reshape(50, -1))
    single = load("file", path=write(tmp_path, x, y[..., 0]), test_size=0)
    assert single.target_steps == 6 and single.n_out == 6
    whole = load("file", path=write(tmp_path, x, RNG.integers(0, 4, (50, 6))), task="regression", test_size=0)
    assert whole.target_steps == 6 and whole.n_classes is None
    other = load("file", path=write(tmp_path, x, y[:, :5, 0]), test_size=0)
    assert other.target_steps is None and other.n_out == 5


@pytest.mark.parametrize(
    ("source", "keys", "said"),
    [
        ("digits", {"sequence": "columns"}, "dataset.sequence must be one of rows, pixels, permuted, got columns"),
        ("adding", {"steps": 1}, "dataset.steps must be between 2 and 100,000, got 1"),
        ("copying", {"delay": 0}, "dataset.delay must be between 1 and 100,000, got 0"),
        ("copying", {"length": 0}, "dataset.length must be between 1 and 100,000, got 0"),
        ("copying", {"symbols": 1}, "dataset.symbols must be between 2 and 1,000, got 1"),
        ("adding", {"steps": 10**5, "n_samples": 10**4}, "dataset.n_samples must be at most"),
    ],
)
def test_a_wrong_value_is_one_line(source, keys, said):
    with pytest.raises(DataError, match=said):
        load(source, **keys)


def test_steps_of_different_length_are_one_line(tmp_path):
    ragged = np.empty(4, object)
    ragged[:] = [np.zeros((3 + i, 2)) for i in range(4)]
    with pytest.raises(DataError, match=r"x\.npy holds Python objects, as rows of different length do"):
        load("file", path=write(tmp_path, ragged, np.arange(4) % 2))
    x, y = np.ones((4, 6, 2)), np.arange(4) % 2
    path = write(tmp_path, x, y, x_test=np.ones((4, 4, 3)), y_test=y)
    with pytest.raises(DataError, match=r"test part are of shape \(4, 3\), those to train on \(6, 2\)"):
        load("file", path=path)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.ones(20), np.ones(20), r"x is \(20,\); needed are samples \(n, features\), \(n, steps, features\)"),
        (
            np.ones((20, 6, 2)),
            np.ones((20, 5, 4)),
            r"y is \(20, 5, 4\) and x \(20, 6, 2\); values of steps need an x \(n,",
        ),
        (np.ones((20, 6)), np.ones((20, 6, 4)), r"y is \(20, 6, 4\) and x \(20, 6\); values of steps need an x \(n,"),
        (np.ones((20, 6, 2)), np.ones((20, 6, 4, 1)), r"y is \(20, 6, 4, 1\); needed are labels \(n,\), \(n, steps\)"),
        (np.ones((20, 6, 2)), np.ones(19, int), r"y is \(19,\); .* and x has 20 samples"),
    ],
)
def test_arrays_of_a_wrong_shape_are_one_line(tmp_path, x, y, said):
    with pytest.raises(DataError, match=said):
        load("file", path=write(tmp_path, x, y))


def test_bytes_of_0_and_1_are_sequences(tmp_path):
    """A strand of DNA, one-hot, is no image."""
    x = np.eye(4, dtype=np.uint8)[RNG.integers(0, 4, (40, 30))]
    data = load("file", path=write(tmp_path, x, np.arange(40) % 2), test_size=0)
    assert "30 steps of 4 features" in data.summary and data.sequence_shape == (30, 4)
    np.testing.assert_allclose(data.scaler.shift, np.tile(x.reshape(-1, 4).mean(axis=0), 30))


@pytest.mark.parametrize(
    ("shape", "positions", "said"),
    [
        ((8, 8), 64, "images of shape 8 x 8"),
        ((8, 8, 1), 64, "images of shape 8 x 8 x 1"),
        ((8, 8, 3), 64, "images of shape 8 x 8 x 3"),
        ((3, 8, 8), 1, "images of shape 3 x 8 x 8"),
        ((8, 8, 8), 1, "512 features"),
    ],
)
def test_a_file_of_images(tmp_path, shape, positions, said):
    x = RNG.integers(0, 256, (40, *shape), np.uint8)
    data = load("file", path=write(tmp_path, x, np.arange(40) % 2), test_size=0)
    assert said in data.summary and data.image_shape == (None if shape == (8, 8, 8) else shape)
    raw = data.scaler.inverse(data.x_train)
    np.testing.assert_allclose(raw, x.reshape(40, -1), atol=1e-9)  # rows in the order of the file
    values = x.reshape(40, positions, -1).transpose(0, 1, 2).reshape(40 * positions, -1)
    np.testing.assert_allclose(data.scaler.shift, np.tile(values.mean(axis=0), positions))


def test_a_convolution_takes_images_with_the_channels_last(called, tmp_path):
    words = ("dataset=file", f"dataset.path={tmp_path / 'sequences.npz'}", "epochs=1", "tracking=none", "probes=light")
    conv = ("model=convnet", "model.hidden=[2]")
    x, y = RNG.integers(0, 256, (40, 8, 8, 3), np.uint8), np.arange(40) % 2
    write(tmp_path, x, y)
    done = called("bpx.train", *words, *conv)
    assert (done.code, done.err) == (0, "") and "images of shape 8 x 8 x 3" in done.out
    assert "model.kernel is 3, chosen for samples of 8 x 8 x 3" in done.out
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    assert (directory / "figures" / "samples.png").exists()
    write(tmp_path, x.transpose(0, 3, 1, 2), y)
    done = called("bpx.train", *words, *conv)
    assert done.code == 2 and "those of this dataset are (3, 8, 8): save x.transpose(0, 2, 3, 1)" in done.err
    assert called("bpx.train", *words, "model.width=4").code == 0


SEQUENCE = ("model=rnn", "model.depth=1", "model.width=4", "dataset.n_samples=50", "epochs=1", "tracking=none")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("model=rnn", "dataset=moons"), "model=rnn needs sequences, and the samples of this dataset are rows of 2"),
        (("model=convnet", "dataset=moons"), "model=convnet needs images"),
        (
            ("model=lstm", "dataset=digits", "model.truncate=9"),
            "truncate must be at most the 8 steps of a sample, got 9",
        ),
        (("model=gru", "dataset=digits", "model.loss_at=every"), "dataset digits has no label at every step"),
        ((*SEQUENCE, "dataset=copying"), "dataset copying has a label at every step: it needs a sequence model with"),
        (("model=mlp", "dataset=copying"), "dataset copying has a label at every step"),
        (("model=rnn", "dataset=digits", "model.loss_at=first"), "model.loss_at must be last or every, got first"),
    ],
)
def test_what_does_not_fit_begins_nothing(called, tmp_path, words, said):
    done = called("bpx.train", *words)
    assert done.code == 2 and done.err.count("\n") == 1 and said in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_truncation_of_many_steps_is_known_by_the_data(called):
    done = called("bpx.train", *SEQUENCE, "dataset=adding", "dataset.steps=120", "model.truncate=110", "probes=none")
    assert done.code == 0, done.err


def test_a_loss_at_every_step_from_training_to_the_saved_model(called, tmp_path):
    from bpx.engine.model_files import load_model

    words = (*SEQUENCE, "model.loss_at=every", "dataset=copying", "dataset.delay=5", "dataset.length=2")
    done = called("bpx.train", *words, "epochs=3", "probes=light")
    assert done.code == 0, done.err
    assert "Through time" in done.out and "without memory the cost is" in done.out
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    data, model = load("copying", delay=5, length=2, n_samples=50), load_model(directory)
    classes = model.classes(data.x_test)
    assert classes.shape == (10, 9)
    said = f"accuracy  test {100 * np.mean(classes == data.y_test):.2f} %"
    assert said in done.out and (directory / "figures" / "confusion.png").exists()


@pytest.mark.parametrize(("targets", "saved"), [(1, (20, 6)), (2, (20, 6, 2))])
def test_numbers_at_every_step_from_training_to_the_saved_model(called, tmp_path, targets, saved):
    """A running sum of two features, which a recurrent network learns; in the units of the file."""
    from bpx.engine.model_files import load_model

    x = np.random.default_rng(1).standard_normal((100, 6, 2))
    y = 100 + 7 * np.cumsum(x, axis=1)[..., :targets]
    file = write(tmp_path, x, y[..., 0] if targets == 1 else y)
    words = ("model=gru", "model.depth=1", "model.width=8", "dataset=file", f"dataset.path={file}", "tracking=none")
    words = (*words, "epochs=30", "probes=light", "batch_size=10", "optimizer=adam", "optimizer.lr=0.02")
    done = called("bpx.train", *words, "model.loss_at=every")
    assert done.code == 0, done.err
    assert "Through time" in done.out and "target y (regression" in done.out
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    test = split_80_20(100, 42)[1]
    predicted = load_model(directory).predict(x[test])
    assert predicted.shape == (20, 6, targets)
    error = predicted - y[test]
    assert np.sqrt(np.mean(error**2)) < 4 < y.std()
    rmse = np.sqrt((error**2).mean(axis=(0, 1))).mean()
    assert f"{rmse:.4g}"[:4] in done.out and (directory / "figures" / "regression.png").exists()
    done = called("bpx.train", *words, "epochs=1")  # all of a sample in a row, at the last step
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("shape", "said"),
    [((50,), ""), ((50, 6), ""), ((50, 6, 2), "2 numbers of a step, "), ((50, 5), "5 numbers of a row, ")],
)
def test_how_many_numbers_are_learned_is_said(shape, said, tmp_path):
    """(50, 5) may be meant as labels of the 6 steps: what it was taken for is plain."""
    y = np.arange(np.prod(shape)).reshape(shape)
    data = load("file", path=write(tmp_path, RNG.standard_normal((50, 6, 3)), y), target="y")
    assert data.summary.endswith(f"50 rows, 6 steps of 3 features, target y (regression, {said}0 to {y.max()})")


def test_numbers_without_one_at_every_step_need_a_loss_at_the_last(called):
    done = called("bpx.train", *SEQUENCE, "dataset=adding", "model.loss_at=every")
    assert done.code == 2 and "dataset adding has no target at every step: it needs model.loss_at=last" in done.err
