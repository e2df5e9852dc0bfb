"""Small files in the style of public reports: each gives what it must, through the command where that matters."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import thinned

from bpx import records
from bpx.data import SOURCES, DataError

CASES = Path(__file__).parent / "cases"
IRIS = ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
THREE = ("0", "1", "2")
FAST = ["tracking=none", "progress=false", "probes=light", "tracking.figures=false"]


def load(name, **keys):
    return SOURCES["file"](path=str(CASES / name), **keys).load(np.random.default_rng(0), np.dtype("float32"))


LOADED = [  # file, keys, rows, features, classes (None: a regression)
    ("Label_case.csv", {}, 60, 2, ("0", "1")),
    ("iris_noheader.csv", {"header": False, "label": 4}, 150, 4, IRIS),
    ("housing_intprice.csv", {"label": "price", "task": "regression"}, 120, 2, None),
    ("housing_intprice.csv", {"target": "price"}, 120, 2, None),
    ("leak_index.csv", {}, 300, 2, THREE),
    ("label_target_leak.csv", {"label": "label"}, 300, 3, ("a", "b", "c")),
    ("ids.csv", {}, 90, 2, tuple(str(2**53 + k) for k in range(3))),
    ("zip.csv", {}, 90, 2, ("01067", "1067", "20095")),
    ("column_y.npz", {}, 150, 4, THREE),
    ("float_y.npz", {}, 150, 4, THREE),
    ("onehot.npz", {}, 150, 4, THREE),
    ("onehot_bool.npz", {}, 150, 4, THREE),
    ("onehot_int.npz", {}, 150, 4, THREE),
    ("sklearn_frame.csv", {}, 150, 4, THREE),
    ("bytes.npz", {}, 150, 4, IRIS),
    ("winequality.csv", {"label": "quality"}, 200, 11, tuple("345678")),
    ("tabs.csv", {}, 60, 2, ("0", "1")),
    ("UPPER.CSV", {"label": "species"}, 150, 4, IRIS),
    ("titanic.csv", {"label": "Survived", "categorical": "onehot", "missing": "fill"}, 90, 83, ("0", "1")),
    ("houses.csv", {"target": "price"}, 300, 2, None),
    ("xor.csv", {"test_size": 0}, 4, 2, ("0", "1")),
    ("upper_XY.npz", {}, 150, 4, THREE),
    ("min_dollar.csv", {}, 7, 2, ("$1_$2", "other")),
    ("one_feature.csv", {"label": "passed"}, 40, 1, ("0", "1")),
    ("all_constant.csv", {}, 60, 2, ("0", "1")),
    ("pvalues.npz", {}, 200, 2, ("0", "1")),
]
REFUSED = [
    ("iris_noheader.csv", {}, r"the first line looks like data.*dataset\.header=false"),
    ("housing_intprice.csv", {"label": "price"}, r"different integers in 120 samples.*dataset\.task=regression"),
    ("label_target_leak.csv", {}, r"which column is the label\? target and label may both be it"),
    ("dup_label.csv", {}, "line 1: the column 'label' appears twice"),
    ("quote_unbalanced.csv", {}, "line 5: a quote is opened and not closed"),
    ("winequality.csv", {}, r"which column is the label\? columns are fixed acidity, .*quality"),
    ("UPPER.CSV", {}, r"which column is the label\? columns are sepal_length, .*species"),
    (
        "titanic.csv",
        {"label": "Survived"},
        r"line 2, column Name: .*dataset\.categorical=onehot.*dataset\.missing=drop",
    ),
    ("badline_blank.csv", {}, "line 6, column b: 'x' is no number"),
]


@pytest.mark.parametrize(("name", "keys", "rows", "features", "classes"), LOADED)
def test_what_is_loaded(name, keys, rows, features, classes):
    data = load(name, **keys)
    assert len(data.x_train) + len(data.x_test) == rows and data.n_in == features
    assert (data.class_names or None) == classes and np.isfinite(data.x_train).all()


@pytest.mark.parametrize(("name", "keys", "said"), REFUSED)
def test_what_is_refused_in_one_line(name, keys, said):
    with pytest.raises(DataError, match=said) as error:
        load(name, **keys)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_every_file_is_tried():
    assert {path.name for path in CASES.iterdir()} == {case[0] for case in (*LOADED, *REFUSED)}


def test_what_is_said():
    assert load("all_constant.csv").notes == (
        "every feature is constant in the training part: the inputs carry nothing",
    )
    tiny = load("pvalues.npz")
    assert re.match(r"feature 0 is tiny, at most .*e-171 \(and 1 more\): scaled in float64", tiny.notes[0])
    assert (tiny.x_train.std(axis=0) > 0.9).all()
    with pytest.raises(DataError, match=r"which float32 holds as zero: give dataset\.scaling=standard"):
        load("pvalues.npz", scaling="none")
    assert "left out" in load("leak_index.csv").notes[0]
    titanic = load("titanic.csv", label="Survived", categorical="onehot", missing="fill")
    assert "(PassengerId numbers the rows, 1 to 90)" in titanic.summary
    assert "only numbers" not in load("zip.csv").summary


def train(called, name, *words):
    done = called("bpx.train", "dataset=file", f"dataset.path={CASES / name}", *FAST, *words)
    assert (done.code, done.err) == (0, ""), done
    return done.out


@pytest.mark.parametrize("name", ["all_constant.csv", "pvalues.npz"])
def test_no_initializer_is_named_for_inputs_that_carry_nothing(called, name):
    assert "initializer" not in train(called, name, "model.depth=20", "epochs=1")


def test_titanic_and_houses_learn(called):
    words = ["dataset.label=Survived", "dataset.categorical=onehot", "dataset.missing=fill"]
    assert "accuracy  test" in train(called, "titanic.csv", *words, "epochs=5")
    r2 = re.search(r"fit       test RMSE \S+, R² (\S+)", train(called, "houses.csv", "dataset.target=price"))
    assert float(r2[1]) > 0.9


def test_xor_is_learned(called):
    assert "accuracy  train 100.00 %" in train(called, "xor.csv", "dataset.test_size=0", "epochs=400")


def test_labels_are_drawn_as_they_are(called, tmp_path):
    train(called, "min_dollar.csv", "epochs=1", "tracking.figures=true")
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    assert (directory / "figures" / "loss.png").is_file() or list((directory / "figures").glob("*.png"))
    assert "bpx.figures_failed" not in (directory / "train.log").read_text()
    assert "could not be drawn" not in (directory / "train.log").read_text()
    assert len(records.read(directory / "gradient_flow.parquet").value)


@pytest.mark.parametrize("kind", thinned(["batch", "layer", "rms"]))
def test_the_gradient_of_one_feature_is_checked(kind, called):
    words = ["dataset=file", f"dataset.path={CASES / 'one_feature.csv'}", "dataset.label=passed"]
    done = called("bpx.gradcheck", *words, f"normalization={kind}")
    assert (done.code, done.err) == (0, "") and "the gradient is correct" in done.out
