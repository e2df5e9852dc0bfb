"""A study: its runs under one parent, its finding where a person looks, its mistakes in one line."""

import json
import shutil

import numpy as np
import pytest
from conftest import ROOT

from bpx.figures.canvas import new_figure
from bpx.runs.study import StudyCommand
from bpx.stored.study_data import StudyResult, percentiles
from bpx.system.errors import UserError

SMALL = ("dataset=classification", "model.width=4", "epochs=2")


def measure(s):
    """Train three seeds."""
    runs = s.train("plain, tanh", *SMALL, "activation=tanh")
    drawn = [net.parameters.theta.copy() for net, _, _ in s.draws(*SMALL, "batch_size=4")]
    s.log(accuracy=np.median([r.metrics["accuracy/test"] for r in runs]), seeds=len(runs), drawn=len(drawn))
    assert not np.array_equal(drawn[0], drawn[1])
    return {"of": "classification", "weights": drawn, "count": np.int64(3), "by": {"a": (1, 2), "b": [np.nan, 1 / 3]}}


like = StudyCommand(
    measure,
    lambda data: new_figure(data["of"], f"{data['seeds']} seeds, {data['weights'].shape}"),
    lambda data: f"They\n    do, {data['by']['b'][1]:.8f}.",
    seeds=3,
    quick=2,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    home = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return home, like(["seeds=3", "optimizer.lr=0.05"])


@pytest.fixture
def made(template, tmp_path, monkeypatch):
    """A study of three seeds, in a copy; its artifacts in MLflow stay where they were logged."""
    home, told = template
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path, told


def test_the_parent_holds_figure_finding_and_numbers(made):
    import mlflow

    home, told = made
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    (parent,) = [run for run in runs if "bpx.study" in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 1 and len(runs) == 2, "the first seed alone goes to MLflow"
    assert children[0].data.params["optimizer.lr"] == "0.05" and children[0].data.params["seed"] == "0"
    assert parent.info.status == "FINISHED" and parent.data.metrics["seeds"] == parent.data.metrics["drawn"] == 3
    assert parent.data.tags["bpx.finding"] == "They do, 0.33333300."
    assert "They do, 0.33333300." in parent.data.tags["mlflow.note.content"]
    assert [f.path for f in client.list_artifacts(parent.info.run_id, "figures")] == ["figures/test_study.png"]
    assert told.figure.stat().st_size > 1000


def test_every_seed_leaves_its_record(made):
    _, told = made
    results = list((told.figure.parent / "runs" / "plain-tanh").glob("*/gradient_flow.parquet"))
    assert len(results) == 3
    kept = json.loads((told.figure.parent / "study.json").read_text())
    assert kept["seeds"] == 3 and kept["metrics"]["accuracy"] > 0.3


def test_the_saved_data_are_drawn_and_worded_again_without_training(made, monkeypatch):
    home, told = made
    file, before = told.figure.with_name("study.json"), told.figure.read_bytes()
    monkeypatch.setattr("bpx.runs.run.train_run", None)
    told.figure.unlink()
    again = like.redraw(*like.saved())
    assert again.finding == told.finding and again.metrics == told.metrics
    assert told.figure.read_bytes() == before
    assert [p.name for p in (home / "outputs" / "test_study").iterdir()] == [told.figure.parent.name], (
        "no new directory"
    )
    relabelled = StudyCommand(like.measure, lambda d: new_figure("other", "label"), lambda d: "No.", 3, 2)
    assert relabelled.redraw(file, told.figure).finding == "No." == json.loads(file.read_text())["finding"]
    assert told.figure.read_bytes() != before and told.data.keys() == json.loads(file.read_text())["data"].keys()


def test_data_come_back_as_arrays_rounded_to_six_digits(made):
    _, told = made
    data = StudyResult.read(told.figure.with_name("study.json"), told.figure).data
    assert data["of"] == "classification" and data["count"] == 3 and data["weights"].shape[0] == 3
    np.testing.assert_array_equal(data["by"]["a"], [1, 2])
    np.testing.assert_array_equal(data["by"]["b"], [np.nan, 0.333333])


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no data of a study"), ('{"format": 2}', "format 2, expected 1"), ('{"format": 1}', "KeyError: 'name'")],
)
def test_a_file_that_is_none_is_one_line(text, said, tmp_path):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(UserError, match=said) as error:
        like.redraw(tmp_path / "study.json", tmp_path / "x.png")
    assert str(tmp_path / "study.json") in str(error.value) and "\n" not in str(error.value)


def test_nothing_to_draw_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no data of test_study here"):
        like.saved()


def test_percentiles_are_those_over_the_seeds():
    samples = np.arange(202.0).reshape(101, 2)
    np.testing.assert_allclose(percentiles(samples), [[20, 21], [100, 101], [180, 181]])
    np.testing.assert_allclose(percentiles([[1.0, 4.0], [np.nan, 4.0]]), [[1, 4]] * 3)


def test_quick_and_without_mlflow(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert like(["--quick", "tracking=none"]).metrics["seeds"] == 2
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(("word", "lines"), [("progress=true", 3), ("progress=false", 0)])
def test_a_study_says_how_far_it_is(word, lines, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    like(["--quick", "tracking=none", word])
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("test_study: ")]
    assert len(said) == lines
    if said:
        assert said[1].startswith("test_study: plain, tanh, seed 1: finished, cost ")
        assert said[2] == "test_study: 2 networks drawn, … epochs=2 batch_size=4"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seeds=0", "seeds must be an integer of at least 1, got 0"),
        ("seeds=x", "seeds must be"),
        ("fast", "a study takes seeds=N, --quick and key=value, or --draw alone, got fast"),
        ("optimizer.lr=-1", "optimizer.lr must be positive"),
        ("activation=step", "there is no such option"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(word, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said) as error:
        like([word])
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_studies_draw_through_bpx_alone():
    for path in (ROOT / "experiments").glob("*.py"):
        text = path.read_text()
        assert not any(f"import {name}" in text or f"from {name}" in text
                       for name in ("matplotlib", "mlflow", "optuna", "hydra")), path  # fmt: skip
