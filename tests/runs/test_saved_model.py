"""The saved model gives what was reported, for every offset and scale, and takes what its users have."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpx.data import SOURCES
from bpx.data.dataset import split_80_20
from bpx.engine import mlp
from bpx.engine.features import Column, Scaler
from bpx.engine.model_files import load_model, save_model
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.system.errors import UserError

F32 = np.dtype("float32")
PROBABILITIES = {"output": "probabilities"}


def train(folder, *words, **more):
    config = compose(
        "tracking=none", "probes=none", "checkpoint.keep=0", "tracking.figures=false", "dataset=file", *words
    )
    return train_run(config, "test", folder / "outputs", words, quiet=True, **more)


ANY_FEATURES = given(
    offsets=st.lists(st.floats(-1e12, 1e12), min_size=3, max_size=3),
    exponents=st.lists(st.integers(-6, 6), min_size=3, max_size=3),
    scaling=st.sampled_from(["standard", "unit"]),
    task=st.sampled_from(["classification", "regression"]),
    seed=st.integers(0, 99),
)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("examples", [15, pytest.param(100, marks=pytest.mark.slow)])
def test_a_reloaded_model_predicts_what_was_evaluated(examples, tmp_path):
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    some = settings(max_examples=examples, deadline=None, suppress_health_check=health)
    some(ANY_FEATURES(predicts_what_was_evaluated))(tmp_path=tmp_path)


def predicts_what_was_evaluated(offsets, exponents, scaling, task, seed, tmp_path):
    """Whatever the features' offsets and scales: what float32 would lose is subtracted in float64, as in training."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3)) * 10.0 ** np.array(exponents) + np.array(offsets)
    y = rng.integers(0, 3, 60) if task == "classification" else rng.normal(size=60) * 10.0 ** exponents[0] + offsets[0]
    np.savez(tmp_path / "d.npz", x=x, y=y)
    data = SOURCES["file"](path=str(tmp_path / "d.npz"), task=task, scaling=scaling).load(rng, F32)
    loss = "softmax_cross_entropy" if task == "classification" else "mean_squared_error"
    net = mlp(3, [8, 8], data.n_out, "tanh", loss=loss, seed=seed)
    save_model(tmp_path, net, data.scaler, data.class_names, data.columns, data.target_scaler)
    reported = net.predict(data.x_test)
    if data.target_scaler is not None:
        reported = data.target_scaler.inverse(reported)
    loaded = load_model(tmp_path).predict(x[split_80_20(60, 42)[1]])
    size = 1.0 if data.target_scaler is None else float(data.target_scaler.scale[0])
    np.testing.assert_allclose(loaded / size, reported / size, rtol=0, atol=1e-6)


def test_a_time_stamp_among_the_features_is_predicted_as_it_was_reported(tmp_path):
    rng = np.random.default_rng(3)
    seconds = 1.7e9 + rng.uniform(0, 500, 400)
    np.savez(tmp_path / "d.npz", x=np.stack([seconds, rng.normal(size=400)], 1), y=(seconds > 1.7e9 + 250).astype(int))
    done = train(tmp_path, f"dataset.path={tmp_path / 'd.npz'}", "epochs=10")
    with np.load(tmp_path / "d.npz") as held:
        x, y = held["x"], held["y"]
    test = split_80_20(400, 42)[1]
    score = np.mean(load_model(done.directory).predict(x[test]).argmax(axis=1) == y[test])
    assert score == pytest.approx(done.metrics["accuracy/test"], abs=1e-9) and score > 0.9


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A trained model on numbers, words and gaps, with its table, logged in MLflow."""
    home = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    words, height = np.array(["red", "green", "blue"])[rng.integers(0, 3, 120)], rng.normal(170, 10, 120).round(1)
    frame = pd.DataFrame({"height": height, "age": rng.integers(1, 90, 120), "colour": words})
    frame["label"] = np.where((words == "red") | (height > 180), "yes", "no")
    frame.loc[::17, "height"] = np.nan
    frame["seen"] = 1.7e9 + rng.uniform(0, 900, 120).round()  # seconds, which float32 does not tell apart
    frame.to_csv(home / "people.csv", index=False)
    config = compose(
        *("dataset=file", f"dataset.path={home / 'people.csv'}", "dataset.categorical=onehot", "dataset.missing=fill"),
        *("probes=none", "checkpoint.keep=0", "tracking.figures=false", f"tracking.uri=sqlite:///{home / 'mlflow.db'}"),
    )
    done = train_run(config, "people", home / "outputs", [], quiet=True)
    return home, done, pd.read_csv(home / "people.csv")


def test_columns_are_matched_by_name(people):
    _, done, frame = people
    model = load_model(done.directory)
    right = model.predict(frame)
    test = split_80_20(len(frame), 42)[1]
    score = np.mean((right.argmax(axis=1) == (frame["label"] == "yes"))[test])
    assert score == pytest.approx(done.metrics["accuracy/test"], abs=1e-9)
    for other in (
        frame[["seen", "label", "colour", "age", "height"]],
        frame.to_dict("list"),
        frame[["height", "age", "colour", "seen"]].values.tolist(),
    ):
        np.testing.assert_array_equal(model.predict(other), right)
    with pytest.raises(ValueError, match=r"the column age is lacking; the model takes height, age, colour, seen"):
        model.predict(frame.drop(columns="age"))
    with pytest.raises(ValueError, match="the column age must hold numbers: it holds words"):
        model.predict(frame.assign(age="old"))
    unseen = model.predict(frame.assign(colour="violet").head(2))
    assert np.isfinite(unseen).all()


def test_integers_are_taken_where_they_are_exact(tmp_path):
    net = mlp(2, [4], 2, seed=0)
    save_model(tmp_path, net, Scaler(np.zeros(2), np.full(2, 100.0)), ("a", "b"), (Column("u"), Column("v")))
    model = load_model(tmp_path)
    right = model.predict(np.array([[30.0, 4.0]]))
    for x in (
        np.array([[30, 4]]),
        [[30, 4]],
        pd.DataFrame({"v": [4], "u": [30]}),
        pd.DataFrame({"u": [30], "v": [4]}, dtype="Int64"),
    ):
        np.testing.assert_array_equal(model.predict(x), right)
    with pytest.raises(ValueError, match=r"the column u must hold numbers: 9007199254740993 has no exact float64"):
        model.predict(np.array([[2**53 + 1, 4]]))
    with pytest.raises(ValueError, match="the column u has a missing cell in row 0"):
        model.predict([[None, 4]])


def test_mlflow_takes_the_same(people, monkeypatch):
    import mlflow

    home, done, frame = people
    run_id = (done.directory / "mlflow_run_id").read_text().strip()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
        right = load_model(done.directory).predict(frame)
        assert model.metadata.signature.inputs.input_names() == ["height", "age", "colour", "seen"]
        for other in (frame, frame[["seen", "label", "colour", "age", "height"]], frame.to_dict("records")):
            np.testing.assert_allclose(model.predict(other, PROBABILITIES), right, rtol=0, atol=1e-6)
        rows, names = frame[["height", "age", "colour", "seen"]].values.tolist(), model.metadata.get_input_schema()
        with pytest.raises(Exception, match="missing inputs"):  # MLflow's own word for rows without names
            model.predict(rows)
        named = pd.DataFrame(rows, columns=names.input_names())
        np.testing.assert_allclose(model.predict(named, PROBABILITIES), right, rtol=0, atol=1e-6)
        with pytest.raises(Exception, match="missing inputs"):
            model.predict(frame.drop(columns="age"))


def test_a_format_that_was_written_before_columns_is_read(tmp_path):
    net = mlp(2, [4], 2, seed=0)
    save_model(tmp_path, net, Scaler(np.zeros(2), np.ones(2)), ("a", "b"))
    description = json.loads((tmp_path / "model.json").read_text()) | {"format": 1}
    del description["columns"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    np.testing.assert_array_equal(load_model(tmp_path).predict([[1, 2]]), net.predict(np.array([[1.0, 2.0]])))


# --- regression, from the file to the metrics -------------------------------------------------------------------------


def test_scikit_learns_diabetes_learns_with_the_defaults(tmp_path):
    from sklearn.datasets import load_diabetes

    load_diabetes(as_frame=True).frame.to_csv(tmp_path / "diabetes.csv", index=False)
    done = train(tmp_path, f"dataset.path={tmp_path / 'diabetes.csv'}")
    assert done.outcome == "finished" and done.metrics["r2/train"] > 0.4 and done.metrics["r2/test"] > 0.2
    assert "accuracy/test" not in done.metrics


def test_house_prices_learn_in_their_own_units(tmp_path):
    rng = np.random.default_rng(0)
    area, rooms = rng.integers(30, 200, 300), rng.integers(1, 6, 300)
    frame = pd.DataFrame({"area": area, "rooms": rooms, "price": 3000 * area + 10_000 * rooms})
    frame.to_csv(tmp_path / "houses.csv", index=False)
    done = train(tmp_path, f"dataset.path={tmp_path / 'houses.csv'}", "dataset.target=price")
    from sklearn.metrics import r2_score, root_mean_squared_error

    test = split_80_20(300, 42)[1]
    predicted = load_model(done.directory).predict(frame)[test, 0]
    assert done.metrics["rmse/test"] == pytest.approx(
        root_mean_squared_error(frame["price"][test], predicted), rel=1e-4
    )
    assert done.metrics["r2/test"] == pytest.approx(r2_score(frame["price"][test], predicted), abs=1e-5)
    assert done.metrics["r2/test"] > 0.97
    held = (done.directory / "config" / "config.yaml").read_text()
    assert "bpx.engine.losses.MeanSquaredError" in held


def test_a_typed_softmax_on_numbers_is_refused(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(40, 2)), y=np.linspace(0, 1, 40))
    with pytest.raises(UserError, match="numbers as targets: use loss=auto or loss=mean_squared_error"):
        train(tmp_path, f"dataset.path={tmp_path / 'd.npz'}", "loss=softmax_cross_entropy")
    with pytest.raises(UserError, match=r"loss\.label_smoothing is for classes"):
        train(tmp_path, f"dataset.path={tmp_path / 'd.npz'}", "loss.label_smoothing=0.1")
    assert not (tmp_path / "outputs").exists()


def test_exclusive_or_is_learned_from_its_four_samples(tmp_path):
    (tmp_path / "xor.csv").write_text("x1,x2,label\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n")
    done = train(tmp_path, f"dataset.path={tmp_path / 'xor.csv'}", "dataset.test_size=0", "batch_size=4", "epochs=300")
    assert done.metrics["accuracy/train"] == 1 and "cost/test" not in done.metrics
    assert load_model(done.directory).predict([[0, 1], [1, 1]]).argmax(axis=1).tolist() == [1, 0]


def test_images_are_taken_in_their_shape_or_in_a_row(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), np.uint8)
    np.savez(tmp_path / "first.npz", x=x, y=np.arange(40) % 2)
    np.savez(tmp_path / "last.npz", x=x.transpose(0, 2, 3, 1), y=np.arange(40) % 2)
    rows = load_model(train(tmp_path, f"dataset.path={tmp_path / 'first.npz'}", "epochs=1").directory)
    np.testing.assert_array_equal(rows.predict(x[:5]), rows.predict(x[:5].reshape(5, -1)))
    words = ("model=plain_conv", "model.depth=1", "model.width=2", "epochs=1")
    conv = load_model(train(tmp_path, f"dataset.path={tmp_path / 'last.npz'}", *words).directory)
    last = x[:5].transpose(0, 2, 3, 1)
    for same in (last.tolist(), last.reshape(5, -1)):
        np.testing.assert_array_equal(conv.predict(same), conv.predict(last))
    with pytest.raises(ValueError, match=r"x must be \(samples, 192\), got \(5, 3, 8, 8\)"):
        conv.predict(x[:5])
