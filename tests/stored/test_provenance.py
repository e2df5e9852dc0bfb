"""Where a run came from: in its directory, in MLflow's tags, and where two runs differ in it."""

import json
import platform
import subprocess

import mlflow
import numpy as np

import bpx
from bpx.stored import provenance as module
from bpx.stored.provenance import provenance, provenance_differences, read_provenance, write_provenance


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_run_says_where_it_came_from(called, tmp_path):
    done = called("bpx.train", "max_steps=2", "tracking.figures=false", "tracking.model=false", "progress=false")
    assert (done.code, done.err) == (0, "")
    (path,) = tmp_path.glob("outputs/*/*/provenance.json")
    held = json.loads(path.read_text())
    assert held["bpx"] == bpx.__version__ and held["NumPy"] == np.__version__ and held["MLflow"] == mlflow.__version__
    assert held["Python"] == platform.python_version() and held["BLAS"] and held["CPU"] and held["threads"] == "1"
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    tags = run.data.tags
    assert tags["mlflow.source.type"] == "LOCAL" and tags["mlflow.source.name"] and tags["mlflow.user"] == held["user"]
    assert tags.get("mlflow.source.git.commit") == held.get("git", {}).get("commit")
    assert "provenance.json" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert run.info.run_name == "max_steps=2" and run.data.params["initializer"] == "he_normal"
    called("bpx.train", "max_steps=2", "tracking.figures=false", "tracking.model=false", "progress=false")
    names = {run.info.run_name for run in client.search_runs([run.info.experiment_id])}
    assert names == {"max_steps=2", "max_steps=2 2"}


def test_the_commit_and_whether_the_tree_is_dirty(tmp_path, monkeypatch):
    """Of the working tree that holds bpx, else of the one in which the command is started, else of none."""
    (tmp_path / "code" / "bpx").mkdir(parents=True)
    (tmp_path / "code" / "bpx" / "__init__.py").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "code" / "bpx")
    monkeypatch.chdir(tmp_path / "elsewhere")

    def found():
        module._git.cache_clear()
        return provenance().get("git")

    assert found() is None
    git(tmp_path / "code", "init", "-q")
    assert found() is None  # an environment in somebody's working tree is not part of it
    git(tmp_path / "code", "add", ".")
    git(tmp_path / "code", "commit", "-qm", "a")
    commit = git(tmp_path / "code", "rev-parse", "HEAD")
    assert found()["commit"] == commit and found()["dirty"] == "false"
    (tmp_path / "code" / "bpx" / "__init__.py").write_text("a = 1\n")
    assert found()["dirty"] == "true"
    module._git.cache_clear()


def test_a_resumed_run_lists_what_it_goes_on_with(tmp_path):
    write_provenance(tmp_path)
    first = read_provenance(tmp_path)
    write_provenance(tmp_path)
    assert read_provenance(tmp_path) == first | {"resumed": [first]}


def test_what_differs_is_listed_by_key():
    a = {"command": "python -m bpx.train", "bpx": "0.1.0", "git": {"commit": "1", "dirty": "false"}, "CPU": "x"}
    b = a | {"command": "bpx train", "git": {"commit": "2", "dirty": "false"}}
    del b["CPU"]
    assert provenance_differences([a, b]) == {"git.commit": ["1", "2"], "CPU": ["x", "–"]}
    assert provenance_differences([a, a]) == {}


def test_a_damaged_file_is_no_provenance(tmp_path):
    (tmp_path / "provenance.json").write_text("[1")
    assert read_provenance(tmp_path) == {}
