"""python -m bpx.compare: runs found by directory or id, and laid side by side."""

import json
import re
import shutil

import numpy as np
import pytest

from bpx import compare
from bpx.figures.comparison import Compared, comparison
from bpx.records import Key, RecordWriter, read, read_metrics
from bpx.stored.groups import group_runs
from bpx.stored.lookup import StoredRun, differences, find_runs, from_directory
from bpx.system.errors import UserError

CONFIG = """\
model: {{_target_: bpx.engine.models.mlp, depth: {depth}, width: 10}}
activation: {{_target_: bpx.engine.activations.{activation}}}
tracking: {{uri: {uri}}}
seed: 0
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that writes the files of a run, as a run leaves them."""
    monkeypatch.chdir(tmp_path)

    def run(name, activation="Tanh", depth=3, *, delta=True, ended=True):
        directory = tmp_path / "outputs" / "tests" / name
        (directory / "config").mkdir(parents=True)
        text = CONFIG.format(activation=activation, depth=depth, uri=name)
        (directory / "config" / "config.yaml").write_text(text)
        (directory / "mlflow_run_id").write_text(f"id-{name}\n")
        lines = [
            (0, {"cost/train": 2.0, "lr": 0.1}),
            (9, {"cost/train": 0.5, "grad_norm/layer_01": 7.0, "system/cpu": 9.0}),
        ]
        rows = ({"step": s, "epoch": 0, "time": 0, "metrics": m} for s, m in lines)
        (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if ended:
            result = {"outcome": "finished", "finding": {"sentence": f"Gradients of {name} flow."}}
            (directory / "result.json").write_text(json.dumps(result))
        writer = RecordWriter(directory / "gradient_flow.parquet")
        writer.about = {"dataset": "moons", "finding": {"sentence": f"Gradients of {name} flow."}}
        quantities = ("activation_rms", "delta_l2") if delta else ()
        keys = tuple(Key(f"layer_{i:02d}", "", q, 0) for q in quantities for i in range(1, depth + 2))
        for step in (0, 9):
            writer.append(step, step / 9, keys, np.linspace(0.1, 1, len(keys)) / (step + 1))
        writer.close()
        return directory

    return run


def test_no_value_is_cut_or_wrapped(make, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    values = ["A" * 60, "B" * 60]
    runs = [make("one", values[0]), make("two", values[1])]
    assert compare.main([str(run) for run in runs]) == 0
    assert any(all(value in line for value in values) for line in capsys.readouterr().out.splitlines())


def test_runs_are_laid_side_by_side(make, capsys):
    first, second = make("one"), make("two", "ReLU", depth=5)
    assert compare.main([str(first), str(second)]) == 0
    said = capsys.readouterr().out
    table = {words[0]: words[1:] for words in (re.findall(r"[^\s│]+", line) for line in said.splitlines()) if words}
    assert table["activation"] == ["tanh", "relu"] and table["model.depth"] == ["3", "5"]
    assert table["cost/train"] == ["0.5", "0.5"]
    assert not {"seed", "model.width", "tracking.uri", "lr", "grad_norm/layer_01", "system/cpu"} & set(table)
    assert "Gradients of one flow." in said and "Gradients of two flow." in said
    assert "tests/one (finished)" in said
    picture = first.parents[2] / re.search(r"figure +(\S+)", said)[1]
    assert picture.parent == first.parents[1] / "compare" and picture.read_bytes().startswith(b"\x89PNG")


def test_an_id_finds_the_directory(make, capsys):
    make("one"), make("two")
    (make("damaged") / "mlflow_run_id").write_bytes(b"\xff\xfe")
    assert compare.main(["id-one", "id-two"]) == 0
    assert "tests/one" in capsys.readouterr().out


def test_a_run_that_has_not_ended_and_one_without_delta_are_no_error(make, capsys):
    first, second = make("one", delta=False, ended=False), make("two", delta=False)
    assert compare.main([str(first), str(second)]) == 0
    said = capsys.readouterr().out
    assert "tests/one (not ended)" in said and "no figure" in said and "keys that differ: none" in said
    assert "Gradients of one flow." in said
    assert not (first.parents[1] / "compare").exists()


def test_a_run_without_a_record_is_left_out_of_the_figure(make, capsys):
    first, second = make("one"), make("two")
    (second / "gradient_flow.parquet").unlink()
    assert compare.main([str(first), str(second)]) == 0
    assert "outputs/compare/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "takes two runs or more, got 0"),
        (["A"], "takes two runs or more, got 1"),
        (["A", "A", "format=jpg"], "format must be one of png, pdf, svg, got 'jpg'"),
        (["A", "A", "format=pdf", "out=x.png"], "ask for different formats"),
        (["A", "A", "lables=x"], "unknown key lables; keys are labels=, out=, format="),
        (["A", "--out"], "unknown option --out"),
        (["A", "metrics.x > 1"], "there is nothing to search with metrics.x > 1"),
        (["A", "A"], "is given twice"),
        (["A", "id-one"], "id-one is given twice"),
        (["A", "nowhere"], "nowhere is neither a run directory nor the id of a run"),
        (["A", "no/where"], "no/where is neither"),
        (["A", "empty"], "empty holds no run: there is no config/config.yaml"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(make, capsys, words, says):
    first = make("one")
    (first.parents[2] / "empty").mkdir()
    assert compare.main([str(first) if word == "A" else word for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and says in said.err
    assert not (first.parents[2] / "mlflow.db").exists() and not (first.parents[1] / "compare").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config/config.yaml", "a: [1"),
        ("config/config.yaml", "- 1"),
        ("gradient_flow.parquet", "PAR1"),
        ("result.json", "{"),
        ("metrics.jsonl", "{\n"),
    ],
)
def test_a_damaged_file_is_named(make, file, text):
    first = make("one")
    (first / file).write_text(text)
    with pytest.raises(UserError, match=f"{file} cannot be read"):
        from_directory(first)


def test_a_line_that_is_still_being_written_is_no_damage(make):
    first = make("one")
    with (first / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "metr')
    assert from_directory(first).metrics["cost/train"] == 0.5


def test_depth_and_width_are_those_that_apply(make):
    first, second = make("one", depth=3), make("two", depth=3)
    file = second / "config" / "config.yaml"
    file.write_text(file.read_text().replace("depth: 3", "depth: null"))
    pair = [from_directory(first), from_directory(second)]
    assert differences(pair) == {"model.depth": ["3", "2"]}


def test_help_is_no_mistake(capsys):
    assert compare.main(["--help"]) == 0
    assert "RUN is a run directory" in capsys.readouterr().out


def test_runs_are_drawn_over_each_other(make):
    """Layer profiles, cost: in the legend are the names."""
    runs = {"A": make("one"), "B": make("two", depth=6)}
    read_all = {label: read(path / "gradient_flow.parquet") for label, path in runs.items()}
    compared = [Compared(k, [read_all[k]], [read_metrics(path / "metrics.jsonl")]) for k, path in runs.items()]
    figure = comparison(compared)
    forward, backward, cost = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B"]
    for i, (label, rows) in enumerate(read_all.items()):
        _, _, values = rows.grid("delta_l2")
        first, last = backward.lines[2 * i : 2 * i + 2]
        assert first.get_label() == label
        assert first.get_ydata().tolist() == values[:, 0].tolist() and first.get_linestyle() == "-"
        assert last.get_ydata().tolist() == values[:, 1].tolist() and last.get_linestyle() == ":"
        assert first.get_color() == last.get_color() == cost.lines[i].get_color()
        assert cost.lines[i].get_xydata().tolist() == [[0, 2.0], [9, 0.5]]
    assert backward.lines[0].get_color() != backward.lines[2].get_color()
    assert forward.get_xlim() == (0.5, 7.5)


def with_seed(directory, seed, cost):
    file = directory / "config" / "config.yaml"
    file.write_text(file.read_text().replace("seed: 0", f"seed: {seed}"))
    (directory / "metrics.jsonl").write_text(
        json.dumps({"step": 9, "epoch": 0, "time": 0, "metrics": {"cost/train": cost}}) + "\n"
    )
    return directory


def test_a_label_holds_no_defaults_of_an_option_that_it_names():
    configs = [
        {"model": "mlp", "optimizer.name": "SGD", "optimizer.lr": 0.1},
        {"model": "residual_mlp", "model.branch_scale": "one", "optimizer.name": "SGD", "optimizer.lr": 0.1},
        {"model": "mlp", "optimizer.name": "Adam", "optimizer.lr": 0.01, "optimizer.eps": 1e-8},
    ]
    runs = [
        StoredRun(name, config, "finished", "", "", {}, {}, None) for name, config in zip("abc", configs, strict=True)
    ]
    labels = [group.label for group in group_runs(runs)]
    assert labels == ["mlp SGD lr=0.1", "residual_mlp SGD lr=0.1", "mlp Adam lr=0.01"]


def test_runs_that_differ_in_the_seed_alone_are_one_group_with_median_and_band(make, capsys):
    costs = [1.0, 2.0, 6.0]
    runs = [with_seed(make(f"seed{i}"), i, cost) for i, cost in enumerate(costs)] + [make("other", "ReLU")]
    groups = group_runs([from_directory(run) for run in runs])
    assert [(group.label, len(group.runs)) for group in groups] == [("tanh", 3), ("relu", 1)]
    median, spread = groups[0].metrics["cost/train"]
    assert (median, round(spread, 6)) == (2.0, round(float(np.std(costs, ddof=1)), 6))
    assert compare.main([*map(str, runs), "out=compared.pdf", "labels=hyperbolic,rectified"]) == 0
    said = capsys.readouterr().out
    assert "2 ± 2.6" in said and "hyperbolic: tests/seed0" in said and "figure    compared.pdf" in said
    assert (runs[0].parents[2] / "compared.pdf").read_bytes().startswith(b"%PDF")
    compared = [
        Compared(group.label, [run.records for run in group.runs], [run.series for run in group.runs])
        for group in groups
    ]
    cost = comparison(compared).axes[2]
    band = cost.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (pytest.approx(1.2), pytest.approx(5.2))  # percentiles 10 and 90


def test_more_than_ten_runs_and_a_wrong_number_of_labels(make, capsys):
    runs = [make(f"run{i:02d}", depth=i + 1) for i in range(12)]
    assert compare.main([str(run) for run in runs]) == 0
    said = capsys.readouterr().out
    assert "depth=1: tests/run00" in said and "depth=12: tests/run11" in said
    assert compare.main([*map(str, runs), "labels=a,b"]) == 2
    assert "labels: expected 12, one for each group of runs, got 2" in capsys.readouterr().err


def test_a_folder_means_all_runs_in_it(make, capsys):
    """A trial's directory holds those of its seeds, a study's those of its trials."""
    runs = [make(f"trial_0001/seed{i}", depth=i + 1) for i in range(2)] + [make("trial_0002/seed0", depth=5)]
    assert [run.name for run in find_runs(str(runs[0].parent))] == ["trial_0001/seed0", "trial_0001/seed1"]
    assert len(find_runs("tests")) == 3  # outputs/tests


@pytest.mark.slow
def test_a_run_whose_directory_is_gone_comes_from_the_store(tmp_path, command):
    for activation in ("tanh", "relu"):
        done = command(
            "bpx.train", "epochs=1", "model.depth=3", f"activation={activation}", "progress=false",
            "tracking.model=false", "tracking.figures=false", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    ids = [file.read_text().strip() for file in sorted((tmp_path / "outputs").rglob("mlflow_run_id"))]
    local = command("bpx.compare", *ids, cwd=tmp_path)
    shutil.rmtree(tmp_path / "outputs")
    stored = command("bpx.compare", *ids, cwd=tmp_path)
    assert stored.returncode == 0, stored.stderr
    assert len(list((tmp_path / "outputs" / "compare").glob("*.png"))) == 1
    tables = [done.stdout.partition("keys that differ")[2].rpartition("figure")[0] for done in (local, stored)]
    assert sorted(tables[0].splitlines()) == sorted(tables[1].splitlines())  # MLflow has the metrics in another order
    assert "tanh" in stored.stdout and stored.stdout.count("Gradients ") == 2
    found = command("bpx.compare", "params.seed = '0'", "format=svg", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert len(list((tmp_path / "outputs" / "compare").glob("*.svg"))) == 1
    wrong = command("bpx.compare", "params.seed = ", cwd=tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    unknown = command("bpx.compare", "f" * 32, ids[0], cwd=tmp_path)
    assert unknown.returncode == 2 and unknown.stderr.count("\n") == 1


def test_a_configuration_with_an_interpolation_is_not_resolved(make, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "s3cr3t")
    make("a"), make("b")
    path = tmp_path / "outputs" / "tests" / "b" / "config" / "config.yaml"
    path.write_text(path.read_text() + "note: ${oc.env:SECRET}\n")
    with pytest.raises(UserError, match="note is an interpolation") as error:
        compare.compare(["outputs/tests/a", "outputs/tests/b"])
    assert "s3cr3t" not in str(error.value)


def test_provenance_that_differs_is_a_table(make, capsys):
    runs = [make("one"), make("two", "Sigmoid")]
    for run, commit in zip(runs, "ab", strict=True):
        held = {"command": run.name, "bpx": "0.1.0", "git": {"commit": commit * 40, "dirty": "false"}}
        (run / "provenance.json").write_text(json.dumps(held))
    assert compare.main([str(run) for run in runs]) == 0
    table = capsys.readouterr().out.partition("provenance that differs")[2].partition("last metrics")[0]
    assert "git.commit" in table and "a" * 40 in table and "dirty" not in table and "bpx" not in table
