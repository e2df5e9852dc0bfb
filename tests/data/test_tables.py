"""What people's files hold: read rightly, or refused in one true line. Each is an example of a kind."""

import gzip
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpx.data import SOURCES, DataError, table

F32 = np.dtype("float32")


def load(path, **keys):
    return SOURCES["file"](path=str(path), **keys).load(np.random.default_rng(0), F32)


@pytest.fixture
def write(tmp_path):
    def written(text, name="d.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


@pytest.fixture
def save(tmp_path):
    def saved(**arrays):
        np.savez(tmp_path / "d.npz", **arrays)
        return tmp_path / "d.npz"

    return saved


def lines(header, row, n=30, end="\n"):
    """A header and n rows, of which ``row(i)`` is the i-th."""
    return end.join([*([header] if header else []), *(row(i) for i in range(n))]) + end


def labels(data):
    """The label of each sample by its first feature, where ``scaling=none`` keeps that."""
    x, y = np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test])
    return {int(a): data.class_names[k] for a, k in zip(x[:, 0], y, strict=True)}


def refused(path, said, **keys):
    with pytest.raises(DataError, match=said) as error:
        load(path, **keys)
    assert "\n" not in str(error.value) and path.name in str(error.value)


KINDS = ("setosa", "versicolor", "virginica")


def test_what_was_understood_is_one_line(write):
    path = write(lines("a,b,c,d,species", lambda i: f"{i / 4},{i % 7},3.5,{i / 8},{KINDS[i % 3]}", 150), "flowers.csv")
    data = load(path, label="species")
    assert data.summary == "flowers.csv: 150 rows, 4 features, label species (3 classes: setosa, …), separator ','"
    assert data.notes == ("constant in the training part, so that they carry nothing: c",)
    assert [c.name for c in data.columns] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("order", [1, 7])
def test_a_feature_that_numbers_the_rows_is_said(write, order):
    path = write(lines("id,a,label", lambda i: f"{order * i % 150 + 1},{i % 7},{i % 3}", 150), "flowers.csv")
    assert load(path).summary.startswith(
        "flowers.csv: 150 rows, 2 features (id numbers the rows, 1 to 150), label label"
    )


def test_a_row_number_of_an_npz_is_said(save):
    x = np.stack([np.arange(30) % 4, np.arange(30, 60)], axis=1)
    assert "2 features (1 numbers the rows, 30 to 59)" in load(save(x=x, y=np.arange(30) % 2)).summary


# --- the header -----------------------------------------------------------------------------------------------------


def test_a_first_line_of_data_is_no_header(write):
    path = write(lines("", lambda i: f"{i},{i % 5}.5,{KINDS[i % 3]}", 150))
    refused(path, r"looks like data.*dataset\.header=false.*dataset\.header=true")
    data = load(path, header=False, label=2)
    assert len(data.x_train) + len(data.x_test) == 150 and data.class_names == KINDS
    assert [c.name for c in data.columns] == ["0", "1"]
    refused(path, "which column is the label", header=False)
    assert load(path, header=True, label="setosa").columns[0].name == "0"


def test_names_that_are_numbers_are_a_header_where_a_label_is_named(write):
    assert load(write(lines("0,1,label", lambda i: f"{i},{i % 5}.5,{'ab'[i % 2]}"))).n_in == 2


@pytest.mark.parametrize("first", ["", "Unnamed: 0"])
def test_an_index_is_left_out_and_said(write, first):
    data = load(write(lines(f"{first},a,b,label", lambda i: f"{29 - i},{i % 7},{i % 3},{i // 10}")))
    assert data.n_in == 2 and "left out" in data.notes[0]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("label,a,label", "line 1: the column 'label' appears twice"),
        ("a,,label", "line 1: column 2 has no name"),
        (",a,label", "line 1: column 1 has no name"),
    ],
)
def test_a_header_that_names_nothing_or_twice(write, header, said):
    refused(write(lines(header, lambda i: f"{i % 2},0.5,{i % 2}")), said)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            lambda i: f"{i};{i},{i % 7}5",
            r"30 different words in 30.*; '0,05' is no number \(write it with digits, a point",
        ),
        (lambda i: f"{i};${i}.50", r"'\$0.50' is no number \(write it with digits"),
        (
            lambda i: f"{i};name {i}",
            "30 different .* too many for classes: give dataset.task=class.*; 'name 0' is no number",
        ),
    ],
)
def test_words_with_more_values_than_classes_have(write, row, said):
    """A target that is written with decimal commas is not trained on as so many classes."""
    path = write(lines("a;y", row))
    refused(path, said)
    assert load(path, task="classification").n_classes == 30


def test_classes_that_differ_in_their_case_alone_are_said(write):
    data = load(write(lines("a,label", lambda i: f"{i},{('TRUE', 'true', 'FALSE')[i % 3]}")))
    assert data.n_classes == 3 and "TRUE and true are classes of their own" in data.notes


def test_booleans_beside_missing_cells_are_numbers(write):
    text = lines("a,flag,label", lambda i: f"{i},{'' if i == 4 else ('True', 'FALSE')[i % 2]},{i % 2}")
    data = load(write(text), missing="drop", scaling="none")
    x = np.concatenate([data.x_train, data.x_test])
    assert len(x) == 29 and set(x[:, 1]) == {0, 1} and (x[:, 1] == 1 - x[:, 0] % 2).all()


def test_excels_line_of_the_separator(write):
    data = load(write("sep=;\r\n" + lines("a;b;label", lambda i: f"{i};{i};{i % 2}", end="\r\n")))
    assert "30 rows, 2 features" in data.summary and "separator ';'" in data.summary


def test_a_class_that_may_be_a_missing_label_is_said(write):
    data = load(write("a,b,label\n" + "1,2,cat\n3,4,dog\n5,6,NA\n" * 5))
    assert data.class_names == ("NA", "cat", "dog")
    assert data.notes[0] == "NA is taken as a class; a label that is missing is left empty"


# --- lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,label\n1,2,0\n\n\n3,4,1\n5,x,0\n", "line 6, column b: 'x' is no number"),
        ('a,b,label\n1,2,"u\nv"\n3,x,1\n', "line 4, column b: 'x'"),
        ("a,b,label\r\n1,2,0\r\n\r\n3,4\r\n", "line 4: 2 cells, the first line has 3"),
        ("a,b,label\n1,2,0\n3,4,1,9\n", "line 3: 4 cells, the first line has 3"),
        ('a,b,label\n1,2,u\n3,4,"v\n5,6,u\n', "line 3: a quote is opened and not closed"),
        ('a,b,label\n1,2,u\n3,4,"v\n5,6,"u\n', "line 3: "),
        ('a,b,label\n1,2,"u"v\n', "line 2: "),
        ("a;b;label\n1,5;2;0\n2,5;3;1\n", "line 2, column a: '1,5' is no number: a decimal comma must be a point"),
        ("a,b,label\n1,2,0\n3,inf,1\n", r"line 3, column b: 'inf' is not finite"),
        ("a,b,label\n1,2,0\n3,1e999,1\n", r"line 3, column b: '1e999' is not finite"),
        ("a,b,label\n1,2,0\n3,,1\n", r"line 3, column b: '' is missing .*dataset\.missing=drop\|fill"),
        ("a,b,label\n1,1_000,0\n3,2,1\n", "line 2, column b: '1_000' is no number"),
        ("a,b,label\n1,20%,0\n3,5%,1\n", "line 2, column b: '20%' is no number: write it with digits, a point"),
        (
            'a,b,label\n1,"1,234,567",0\n3,"2,345,678",1\n',
            "'1,234,567' is no number: leave the thousands separators out",
        ),
        (
            'a,b,label\n1,"12,573",0\n3,"8,345",1\n',
            "'12,573' is no number: a decimal comma must be a point, or thousands",
        ),
        ("a,b,label\n1,2,0\n3,4,?\n5,6,1\n", r"line 3, column label: '\?' is no class and no number"),
        ("sep=;\na;b;label\n1;2;0\n3;x;1\n", "line 4, column b: 'x' is no number"),
        ("a,flag,label\n1,True,0\n3,,1\n", "line 3, column flag: '' is missing"),
        ("a,b,label\n1,2,0\n2,?,1\n3,4,1\n", r"line 3, column b: '\?' is no number, and 2 others are: leave a missing"),
        ("a\n1\n", "has one column"),
        ("# of mine\na,b,label\n1,2,0\n", "line 2: 3 cells, the first line has"),
        ("#mine\na,b,label\n1,2,0\n", "line 2: 3 cells, the first line has 1"),
        ("", "is empty"),
        ("a,b,label\n1,\0,0\n", "line 2: the file is not text"),
        (b"a,b,label\n1,2,\xe4\n\3,4,5\n", "line 2: the file is not text in UTF-8, UTF-16 with a byte order mark"),
        (b"a,b,label\n1,2,x\n3,4,\x81\n", "line 3: the file is not text in UTF-8, UTF-16 with a byte order mark"),
    ],
)
def test_a_mistake_is_named_with_its_true_line(write, text, said):
    refused(write(text), said)


@pytest.mark.parametrize(("separator", "word"), [(",", "','"), (";", "';'"), ("\t", "tab"), ("|", "'|'")])
@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.data", "D.CSV", "d.csv.gz", "d.csv.GZ"])
def test_separators_and_endings_are_found(write, separator, word, name):
    text = lines(
        separator.join(['"fixed acidity"', '"b, c"', "label"]), lambda i: separator.join([f"{i}", "1.5", "uv"[i % 2]])
    )
    data = load(write(gzip.compress(text.encode()) if name.lower().endswith(".gz") else text, name))
    assert data.summary.endswith(f"separator {word}") and data.columns[1].name == "b, c"


SPACED = """\
5.1 0.2   1e3  "a b"  u
 4.9  0.4 -2e3 "c"\tv

7   0.1 .5    d  u
"""


def test_spaces_separate_cells_where_nothing_else_does(write):
    data = load(write(SPACED * 10, "auto.data"), header=False, label=4, categorical="onehot", scaling="none")
    assert data.summary == "auto.data: 30 rows, 4 features, label 4 (2 classes: u, …), separator spaces"
    assert data.columns[3].categories == ("a b", "c", "d")
    assert {tuple(row[:3]) for row in data.x_train.tolist()} == {
        tuple(np.float32(row).tolist()) for row in [(5.1, 0.2, 1e3), (4.9, 0.4, -2e3), (7, 0.1, 0.5)]
    }


@pytest.mark.parametrize("text", ["a b label\n1 2 x\n3 4 y\n", 'a  b label\n1 2\t"x y"\n3 4\tz\n'])
def test_a_header_and_tabs_beside_spaces(write, text):
    assert table.read(write(text)).features == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 x\n3 4\n", r"line 2: 2 cells, the first line has 3 \(between spaces\)"),
        ('"a" "label"\n"1" 2 x\n"2" 4 y\n', r"line 2: 3 cells, the first line has 2 \(between spaces\)"),
        ("a b label\n" + "1 2 x\n" * 60 + "\n3 4\n", "line 63: 2 cells, the first line has 3"),
        ('a b label\n1 2 "x\n', "has one column"),
    ],
)
def test_spaces_that_separate_no_table(write, text, said):
    refused(write(text, "d.data"), said)


def test_words_of_two_in_a_table_of_tabs(write):
    data = load(
        write(lines("a b\tc d\tlabel", lambda i: f"{i % 5}.5\t{i % 7}\t{'New York,New Jersey'.split(',')[i % 2]}"))
    )
    assert data.class_names == ("New Jersey", "New York") and data.summary.endswith("separator tab")


@pytest.mark.parametrize(("encoding", "note"), [("cp1252", "cp1252"), ("utf-16", "utf-16"), ("utf-8-sig", None)])
def test_encodings_of_windows_are_read_and_said(write, encoding, note):
    path = write(lines("größe,label", lambda i: f"{i / 4},{('Äpfel', '5 €')[i % 2]}").encode(encoding))
    data = load(path)
    assert data.class_names == ("5 €", "Äpfel") and data.columns[0].name == "größe"
    assert data.notes == ((f"read as {note}, for it is not UTF-8",) if note else ())


def test_gzip_is_known_by_its_bytes_and_not_by_its_name(write):
    text = lines("a,label", lambda i: f"{i},{i % 2}")
    assert load(write(gzip.compress(text.encode()), "packed.csv")).n_classes == 2
    assert load(write(text, "plain.csv.gz")).n_classes == 2
    refused(write(gzip.compress(text.encode())[:-20], "cut.csv.gz"), "cannot be read")


def test_a_text_that_unpacks_to_far_more_than_it_is(write):
    path = write(gzip.compress(b"a,label\n" + b"0,0\n" * 2**25), "bomb.csv.gz")
    assert path.stat().st_size < 2**18
    refused(path, "holds more than .* bytes, which is the most that is read of it")


def test_a_table_of_zeros_and_ones_may_pack_very_well(write):
    text = lines("a,b,label", lambda i: f"{i % 2},0,{i % 2}", 300_000)
    path = write(gzip.compress(text.encode()), "flags.csv.gz")
    assert len(text) > 2**20 + 100 * path.stat().st_size
    data = load(path)
    assert len(data.x_train) + len(data.x_test) == 300_000


def test_the_users_home_is_expanded(write, tmp_path, monkeypatch):
    write(lines("a,label", lambda i: f"{i},{i % 2}"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/d.csv").n_classes == 2


# --- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Label", "TARGET", "Class", "y", "Y"])
def test_the_label_is_known_by_its_name_in_any_case(write, name):
    data = load(write(lines(f"{name},a,b", lambda i: f"{i % 2},{i},{i % 3}")))
    assert data.n_classes == 2 and f"label {name} (" in data.summary


def test_a_label_that_is_not_certain_is_a_question(write):
    refused(
        write(lines("a,b,quality", lambda i: f"{i},1,{i % 2}")),
        r"which column is the label\? columns are a, b, quality",
    )
    both = write(lines("a,target,label", lambda i: f"{i},{i % 3},{'abc'[i % 3]}"))
    refused(both, r"which column is the label\? target and label may both be it")
    assert load(both, label="label").n_classes == 3


@pytest.mark.parametrize(
    "three",
    [
        ("9007199254740992", "9007199254740993", "9007199254740994"),
        ("01067", "1067", "20095"),
        ("98765432109876543210", "98765432109876543211", "98765432109876543212"),
        ("18446744073709551613", "18446744073709551614", "18446744073709551615"),
        ("$0-$10", "$1_$2", "other"),
        ("2", "10", "30"),
        ("NA", "None", "x"),
    ],
)
def test_labels_are_words_and_keep_every_letter(write, three):
    data = load(write(lines("a,label", lambda i: f"{i},{three[i % 3]}", 90)), scaling="none")
    assert data.class_names == three
    assert labels(data) == {i: three[i % 3] for i in range(90)}


@pytest.mark.parametrize(
    "y",
    [
        np.arange(60) % 3,
        (np.arange(60) % 3)[:, None],
        (np.arange(60) % 3).astype(float),
        (np.arange(60) % 3).astype(np.uint64),
        np.eye(3)[np.arange(60) % 3],
        np.eye(3, dtype=int)[np.arange(60) % 3],
        np.eye(3, dtype=bool)[np.arange(60) % 3],
        np.array([b"0", b"1", b"2"])[np.arange(60) % 3],
        np.array(["0", "1", "2"])[np.arange(60) % 3],
    ],
    ids=lambda y: f"{y.dtype}{y.ndim}",
)
def test_every_form_of_classes_in_an_npz(save, y):
    data = load(save(x=np.arange(120.0).reshape(60, 2), y=y), scaling="none")
    assert data.class_names == ("0", "1", "2") and labels(data) == {2 * i: str(i % 3) for i in range(60)}


def test_neighbouring_integers_beyond_float64_in_an_npz(save):
    for kind, base in ((np.int64, 2**53), (np.uint64, 2**64 - 4)):
        y = np.array([base + k for k in range(3)], kind)[np.arange(60) % 3]
        assert load(save(x=np.ones((60, 1)), y=y)).class_names == tuple(str(base + k) for k in range(3))


@pytest.mark.parametrize("value", [2**53 + 1, -(2**53) - 1, 2**64 - 1, 10**20 + 1])
@pytest.mark.parametrize(("gap", "keys"), [("7", {}), ("", {"missing": "fill"}), ("", {"missing": "drop"})])
def test_an_integer_without_an_exact_float64_is_no_feature(write, value, gap, keys):
    path = write(lines("id,label", lambda i: f"{gap if i == 3 else value if i == 7 else i},{i % 2}"))
    refused(path, rf"line 9, column id: '{value}' has no exact float64", **keys)
    path = write(lines("id,label", lambda i: f"{gap if i == 3 else f'{value}.0' if i == 7 else 2**53 + 2 * i},{i % 2}"))
    assert load(path, **keys).n_in == 1


def test_an_integer_without_an_exact_float64_is_no_feature_of_an_npz(save):
    x = np.arange(60).reshape(30, 2)
    x[3, 1] = 2**53 + 1
    refused(save(x=x, y=np.arange(30) % 2), "x: 9007199254740993 has no exact float64")


def test_whole_numbers_written_with_a_point_are_the_same_class(write):
    data = load(write(lines("a,target", lambda i: f"{i},{('0', '0.0', '1.0', '1')[i % 4]}")))
    assert data.class_names == ("0", "1")


def test_integers_with_more_values_than_classes_have(write):
    path = write(lines("area,price", lambda i: f"{i},{100_000 + 7919 * i % 99_991}", 120))
    refused(path, r"120 different integers in 120 samples.*dataset\.task=regression", label="price")
    assert load(path, label="price", task="regression").n_classes is None
    assert load(path, target="price").n_classes is None
    assert load(path, label="price", task="classification").n_classes == 120


def test_numbers_of_a_found_target_are_a_regression_and_said(write):
    data = load(write(lines("a,target", lambda i: f"{i},{i / 4}", 60)))
    assert data.n_classes is None and "target target (regression, 0 to 14.75)" in data.summary
    refused(write(lines("a,b", lambda i: f"{i},{i / 4}")), r"0\.25 is no class.*dataset\.task=regression", label="b")
    words = write(lines("a,b", lambda i: f"{i},{'xy'[i % 2]}"))
    refused(words, "column b: 'x' is no number; give dataset.label=b for classes", target="b")
    refused(words, "'x' is no number; give dataset.task=classification for", target="b", task="regression")


def test_scikit_learns_diabetes_is_a_regression_and_its_iris_classes(write, save):
    from sklearn.datasets import load_diabetes, load_iris

    x, y = load_diabetes(return_X_y=True)
    assert load(save(x=x, y=y)).n_classes is None
    assert load(write(load_diabetes(as_frame=True).frame.to_csv(index=False))).n_classes is None
    assert load(write(load_iris(as_frame=True).frame.to_csv(index=False))).class_names == ("0", "1", "2")


# --- words and gaps -------------------------------------------------------------------------------------------------


def person(i):
    name, sex, age, port = (
        f'"Family, {i % 4}"',
        ("male", "female")[i % 2],
        "" if i % 5 == 2 else i % 40,
        "SC"[i % 3 == 0],
    )
    return f"{i},{i % 2},{name},{sex},{age},,{'' if i == 7 else port}"


PEOPLE = lines("id,survived,name,sex,age,cabin,port", person, 60)


def test_words_and_gaps_are_one_line_that_names_both_keys(write):
    refused(
        write(PEOPLE),
        r"line 2, column name: 'Family, 0' is no number \(so do sex, port\): dataset\.categorical=onehot.*; "
        r"line 4, column age: '' is missing .*\(so are cells of cabin, port\): dataset\.missing=drop\|fill",
        label="survived",
    )


def test_words_are_one_hot_and_gaps_filled_as_scikit_learn_does_on_the_training_part(write):
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    path = write(PEOPLE)
    data = load(path, label="survived", categorical="onehot", missing="fill")
    assert any("left out: cabin" in note for note in data.notes)
    frame = pd.read_csv(path).drop(columns=["survived", "cabin"]).astype({k: object for k in ("name", "sex", "port")})
    train, test = train_test_split(frame, test_size=0.2, random_state=42)
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    both = make_column_transformer(
        (numbers, ["id"]), (words, ["name"]), (words, ["sex"]), (numbers, ["age"]), (words, ["port"])
    ).fit(train)
    np.testing.assert_allclose(data.x_train, both.transform(train), atol=1e-6)
    np.testing.assert_allclose(data.x_test, both.transform(test), atol=1e-6)


def test_a_word_that_training_has_not_seen_is_zeros(write, tmp_path):
    path = write(lines("a,b,label", lambda i: f"{i},{'uv'[i % 2]},{i % 2}"))
    write(lines("label,b,a,more", lambda i: f"{i % 2},{'uw'[i % 2]},{i},9", 6), "test.csv")
    data = load(path, test_path=str(tmp_path / "test.csv"), categorical="onehot")
    assert re.match(rf"d\.csv: {len(data.x_train)} rows to train on and {len(data.x_test)} to test on", data.summary)
    assert data.notes[0] == "the test part is test.csv"
    assert data.x_test[:, 1:].tolist() == [[1, 0], [0, 0]] * 3 and len(data.x_train) == 30


def test_a_target_that_is_missing_is_no_word(write):
    path = write(lines("a,price", lambda i: f"{i},{'NA' if i == 3 else i / 7}"))
    refused(path, r"line 5, column price: 'NA' is no class and no number; dataset\.missing=drop", target="price")
    assert load(path, target="price", missing="drop").n_classes is None
    assert load(write(lines("a,label", lambda i: f"{i},{('NA', 'DE')[i % 2]}"))).class_names == ("DE", "NA")


def test_incomplete_samples_are_dropped_and_said(write):
    path = write(lines("a,b,label", lambda i: f"{i},{'nan' if i % 10 == 3 else i % 4},{i % 2}"))
    data = load(path, missing="drop")
    assert len(data.x_train) + len(data.x_test) == 27
    assert data.notes == ("dataset.missing=drop leaves out 3 of 30 samples",)


# --- parts ----------------------------------------------------------------------------------------------------------


def test_four_samples_and_none_to_test(write):
    data = load(write("x1,x2,label\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n"), test_size=0)
    assert data.x_train.shape == (4, 2) and data.x_test.shape == (0, 2)


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_an_npz_with_a_test_part_of_its_own(save, keys):
    arrays = (np.zeros((20, 2, 2), np.uint8), np.arange(20) % 4, np.ones((8, 2, 2), np.uint8), np.arange(8) % 4)
    data = load(save(**dict(zip(keys, arrays, strict=True))), scaling="none")
    assert (data.x_train == 0).all() and (data.x_test == 1).all() and len(data.x_train) == 20
    assert data.notes[0] == "the test part is the file's own"
    assert data.summary.startswith("d.npz: 20 rows to train on and 8 to test on, ")


@pytest.mark.parametrize("test", [np.int64, np.int8, np.uint64, bool])
@pytest.mark.parametrize("train", [np.uint8, np.int32, np.uint64, bool])
def test_labels_of_both_parts_may_be_integers_of_any_type(save, train, test):
    x = np.arange(60.0).reshape(30, 2)
    path = save(x_train=x, y_train=(np.arange(30) % 2).astype(train), x_test=x[:10], y_test=np.ones(10, test))
    data = load(path)
    assert data.class_names == ("0", "1") and (data.y_test == 1).all() and data.y_train.sum() == 15


@pytest.mark.parametrize("test", [np.ones(10), np.full(10, "1"), np.full(10, -1)])
def test_labels_of_two_kinds_are_named_by_their_keys(save, test):
    x = np.arange(60.0).reshape(30, 2)
    large = np.array([2**64 - 1, 1], np.uint64)
    data = load(save(x_train=x, y_train=large[np.arange(30) % 2], x_test=x[:10], y_test=large[[1] * 10]))
    assert data.class_names == ("1", str(2**64 - 1))
    path = save(x_train=x, train_labels=np.full(30, 2**64 - 1, np.uint64), x_test=x[:10], test_labels=test)
    refused(path, rf"test_labels is {test.dtype} of shape \(10,\), train_labels uint64 of shape \(30,\)")


@pytest.mark.parametrize(("x", "y"), [("X", "y"), ("data", "target"), ("x", "labels"), ("features", "Label")])
def test_spellings_of_the_arrays(save, x, y):
    assert load(save(**{x: np.arange(40.0).reshape(20, 2), y: np.arange(20) % 2})).n_classes == 2


@pytest.mark.parametrize(
    ("size", "said"),
    [(30, "test_size must leave some of the 30 samples to train on, got 30"), (0.2, "at least 2 samples are needed")],
)
def test_more_samples_to_test_on_than_there_are(write, size, said):
    text = lines("a,y", lambda i: f"{i},{i}.5", n=30 if size == 30 else 1)
    with pytest.raises(DataError, match=said):
        load(write(text), test_size=size)


def test_arrays_that_are_not_used_are_said(save):
    """MedMNIST's files have a part for validation, and labels (n, 1)."""
    x, y = np.ones((20, 8, 8), np.uint8) * np.arange(20, dtype=np.uint8)[:, None, None], np.arange(20)[:, None] % 2
    parts = {f"{part}_{what}": a for part in ("train", "val", "test") for what, a in (("images", x), ("labels", y))}
    data = load(save(**parts))
    assert data.notes == ("the test part is the file's own", "not used: val_images, val_labels")
    assert "20 rows to train on and 20 to test on, images of shape 8 x 8, label train_labels (2 classes" in data.summary
    assert "not used: x_test" in load(save(x=np.arange(40).reshape(20, 2), y=y, x_test=np.ones((3, 2)))).notes


def test_arrays_by_their_keys(save):
    path = save(
        inputs=np.arange(40.0).reshape(20, 2), kind=np.arange(20) % 2, y=np.arange(20) % 4, data=np.ones((20, 3))
    )
    data = load(path, x_key="inputs", y_key="kind")
    assert (data.n_in, data.n_classes) == (2, 2)
    refused(save(x=np.ones((9, 2)), data=np.ones((9, 2)), y=np.arange(9) % 2), r"has x and data: give dataset\.x_key")
    refused(save(a=np.ones((9, 2)), y=np.arange(9) % 2), r"it has a, y: give dataset\.x_key")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("a,label\n1,0\n", "lacks the column 'b'"),
        ("a,b\n1,0\n", "no column 'label'"),
        ("a,b,label\n1,x,0\n", "test.csv, line 2, column b"),
    ],
)
def test_a_test_file_of_other_columns(write, tmp_path, test, said):
    path = write(lines("a,b,label", lambda i: f"{i},{i % 5},{i % 2}"))
    write(test, "test.csv")
    with pytest.raises(DataError, match=said):
        load(path, test_path=str(tmp_path / "test.csv"))


# --- features -------------------------------------------------------------------------------------------------------


def test_features_near_the_end_of_float64_are_scaled_as_any_others(save):
    x = np.random.default_rng(1).normal(size=(50, 2))
    far = load(save(x=x * np.array([1e-170, 1e200]), y=np.arange(50) % 2))
    np.testing.assert_allclose(far.x_train, load(save(x=x, y=np.arange(50) % 2)).x_train, rtol=1e-5, atol=1e-6)
    assert "feature 0 is tiny, at most" in far.notes[0]
    with pytest.raises(
        DataError, match=r"feature 0 is at most .*e-170.*float32 holds as zero.*dataset\.scaling=standard"
    ):
        load(save(x=x * 1e-170, y=np.arange(50) % 2), scaling="none")


def test_features_that_carry_nothing_are_said(write):
    data = load(write(lines("a,b,label", lambda i: f"3.3,7,{i % 2}")))
    assert data.notes == ("every feature is constant in the training part: the inputs carry nothing",)


def test_targets_are_scaled_and_come_back(write):
    path = write(lines("area,price", lambda i: f"{i},{100_000 + 3_600 * i}", 150))
    data = load(path, target="price")
    assert abs(data.y_train.mean()) < 1e-6 and abs(data.y_train.std() - 1) < 1e-6
    back = data.target_scaler.inverse(np.concatenate([data.y_train, data.y_test]).astype(float))
    np.testing.assert_allclose(np.sort(back[:, 0]), 100_000 + 3_600 * np.arange(150), rtol=1e-6)
    plain = load(path, target="price", scale_target="none")
    assert plain.y_train.max() > 1e5


# --- any text -------------------------------------------------------------------------------------------------------

CELL = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        [
            "",
            " 1",
            "1 ",
            "x",
            '"a,b"',
            '"a\nb"',
            '"a""b"',
            "NA",
            "nan",
            "inf",
            "1_0",
            "0x1f",
            "01",
            "1.",
            "é",
            "'",
            '"',
            "\t",
            "True",
        ]
    ),
    st.text(max_size=4),
)


ANY_TABLE = given(
    data=st.data(), separator=st.sampled_from(",;\t|"), width=st.integers(2, 4), end=st.sampled_from(["\n", "\r\n"])
)


@pytest.mark.parametrize("examples", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_what_pandas_reads_as_one_table_is_read_so_or_refused(examples, tmp_path):
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    some = settings(max_examples=examples, deadline=None, suppress_health_check=health)
    some(ANY_TABLE(reads_as_pandas_or_refuses))(tmp_path=tmp_path)


def reads_as_pandas_or_refuses(data, separator, width, end, tmp_path):
    rows = data.draw(st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=6))
    names = [f"c{k}" for k in range(width)]
    path = tmp_path / "any.csv"
    text = end.join(separator.join(row) for row in [names, *rows]) + end
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read = table.read(path, label="c0")
    except DataError as error:
        assert "\n" not in str(error) and "any.csv" in str(error)
        return
    frame = pd.read_csv(
        io.StringIO(text), sep=read.text.separator, na_values=list(table.MISSING), keep_default_na=False,
        low_memory=False,
    )  # fmt: skip
    written = pd.read_csv(io.StringIO(text), sep=read.text.separator, dtype=str, na_filter=False)
    assert [str(name).strip() for name in frame.columns] == list(read.columns)
    assert read.columns["c0"].tolist() == [cell.strip() for cell in written.iloc[:, 0]]
    for name, k in zip(read.features, range(1, width), strict=True):
        column = read.columns[name]
        if frame.iloc[:, k].dtype.kind in "iufb":
            np.testing.assert_array_equal(column, frame.iloc[:, k].astype(float))
        else:
            for cell, word in zip(column.tolist(), written.iloc[:, k], strict=True):
                gone = word.strip() in table.MISSING
                assert (
                    (cell is None or cell != cell)
                    if gone
                    else cell
                    in (
                        word.strip(),
                        float(table.BOOLEANS.get(word.strip(), word)) if column.dtype.kind == "f" else None,
                    )
                )
    for row in range(len(read.records)):
        assert [read.cell(row, name) for name in read.columns] == [cell.strip() for cell in written.iloc[row]]
    starts = [n for n, line in enumerate(text.split(end), 1) if line.strip(" \t".replace(read.text.separator, ""))]
    if '"' not in text and "\r" not in text.replace("\r\n", "") and "\n" not in "".join(map("".join, rows)):
        assert [read.line(row) for row in range(len(read.records))] == starts[1 : len(read.records) + 1]
