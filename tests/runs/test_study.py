"""A study: its runs under one parent, its finding where a person looks, its mistakes in one line."""

import json

import numpy as np
import pytest
from conftest import ROOT

from bpx.config import UserError
from bpx.figures.canvas import new_figure
from bpx.runs.study import study

SMALL = ("dataset=classification", "model.width=4", "epochs=2")


@study(seeds=3, quick=2)
def test_like(s):
    """Do three seeds differ."""
    runs = s.train("plain, tanh", *SMALL, "activation=tanh")
    drawn = [net.store.theta.copy() for net, _, _ in s.draws(*SMALL, "batch_size=4")]
    s.log(accuracy=np.median([r.metrics["accuracy/test"] for r in runs]), seeds=len(runs), drawn=len(drawn))
    s.draw(new_figure("classification", "a figure"))
    assert not np.array_equal(drawn[0], drawn[1])
    return """They
    do."""


like = test_like
del test_like  # a command, not a test


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path, like(["seeds=3", "optimizer.lr=0.05"])


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
    assert parent.data.tags["bpx.finding"] == "They do."
    assert "They do." in parent.data.tags["mlflow.note.content"]
    assert [f.path for f in client.list_artifacts(parent.info.run_id, "figures")] == ["figures/test_study.png"]
    assert told.figure.stat().st_size > 1000


def test_every_seed_leaves_its_record(made):
    _, told = made
    results = list((told.figure.parent / "runs" / "plain-tanh").glob("*/gradient_flow.parquet"))
    assert len(results) == 3
    kept = json.loads((told.figure.parent / "study.json").read_text())
    assert kept["seeds"] == 3 and kept["metrics"]["accuracy"] > 0.3


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
        ("fast", "a study takes seeds=N, --quick and key=value, got fast"),
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
