"""Gradient flow as a run tells of it: in the terminal, in MLflow, in its directory."""

import json
import math

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from bpx import records
from bpx.config.plan import make_plan
from bpx.probes import PROBES
from bpx.system.tree import CONF

LIGHT = {"scales", "clipping", "through_time"}
STANDARD = LIGHT | {"gains", "attention", "units", "updates", "coherence", "histograms"}
SIGMOID = ["activation=sigmoid", "initializer=xavier_normal", "model.depth=20"]


def probes(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plan = make_plan(compose("config", overrides=list(overrides)))
        return {probe.name: every for probe, every in plan.probes.items()}


def test_presets():
    assert set(probes("probes=none")) == set()
    assert set(probes("probes=light")) == LIGHT
    assert set(probes()) == set(probes("probes=standard")) == STANDARD
    assert set(probes("probes=full")) == set(PROBES)


def test_schedules_of_all_and_of_one():
    assert set(probes("probes.every=7").values()) == {7}
    assert probes("probes=light", "probes.jacobian=epoch") == dict.fromkeys(LIGHT, "sparse") | {"jacobian": "epoch"}


@pytest.fixture(scope="module")
def vanished(tmp_path_factory, command):
    home = tmp_path_factory.mktemp("vanished")
    words = ["bpx.train", *SIGMOID, "epochs=3", "probes=full", "probes.scales=1", "tracking.model=false"]
    done = command(*words, cwd=home)
    assert done.returncode == 0, done.stderr
    return home, done, next((home / "outputs" / "default").iterdir())


@pytest.mark.slow
def test_the_finding_is_everywhere(vanished):
    import mlflow

    home, done, directory = vanished
    finding = json.loads((directory / "result.json").read_text())["finding"]
    assert finding["verdict"] == "vanishing" and finding["cause"] == "weights"
    assert finding["factor"] == pytest.approx(finding["predicted_factor"], rel=0.05)
    assert finding["factor"] == pytest.approx(math.sqrt(0.05572), rel=0.05)
    assert done.stdout.count(finding["sentence"]) == 2  # at initialization, and in the report
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    tags = run.data.tags
    assert tags["bpx.verdict"] == "vanishing" and tags["bpx.finding"].startswith(finding["sentence"])
    assert tags["bpx.verdict_final"] == "vanishing" and "After training gradients vanish" in tags["bpx.finding"]
    assert tags["mlflow.note.content"].startswith(finding["sentence"]) and "finished" in tags["mlflow.note.content"]
    assert tags["bpx.outcome"] == "finished"
    slope = client.get_metric_history(run.info.run_id, "gradient_flow/slope")
    assert slope[0].step == 0 and slope[0].value == pytest.approx(finding["slope"]) and len(slope) > 5
    for name in ("abs_slope", "ratio", "forward_slope", "predicted_slope"):
        assert f"gradient_flow/{name}" in run.data.metrics
    assert "finding:" in (directory / "train.log").read_text()


@pytest.mark.slow
def test_the_record_holds_everything_at_its_full_schedule(vanished):
    _, _, directory = vanished
    record = records.read(directory / "gradient_flow.parquet")
    steps, layers, rms = record.grid("delta_l2")
    assert steps.tolist() == list(range(3 * 45)) and len(layers) == 21 and (rms > 0).all()
    wanted = {"backward_gain", "dead_units", "lost_updates", "delta_coherence", "gradient_histogram", "gradient_snr",
              "jacobian_singular_value", "spectral_norm", "gradient_cosine", "predicted_delta_l2"}  # fmt: skip
    assert wanted <= set(record.quantity)
    assert np.unique(record.select(quantity="spectral_norm").step).tolist() == [0, 1, 2, 4, 8, 16, 32, 45, 90]
    measured, predicted = (record.select(step=0, quantity=q) for q in ("delta_l2", "predicted_delta_l2"))
    hidden = measured.value[:20]
    np.testing.assert_allclose(np.log10(predicted.value), np.log10(hidden), atol=0.4)  # over 12 decades
    assert predicted.value[-1] == pytest.approx(hidden[-1])
    about = record.about
    assert about["activation"] == {"name": "sigmoid"} and about["sigma_w"] == pytest.approx(1, abs=0.05)
    assert about["finding"]["verdict"] == "vanishing" and about["dataset"] == "digits"


@pytest.mark.slow
def test_a_run_driven_to_infinity_names_what_made_it(tmp_path, command):
    import mlflow

    words = ["bpx.train", "model.depth=6", "optimizer.lr=1e3", "epochs=3"]
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    figures = {path.stem for path in (directory / "figures").iterdir()}
    assert "profile" in figures and not figures & {"confusion", "samples"}  # such a network decides nothing
    told = json.loads((directory / "nonfinite.json").read_text())
    event = told["event"]
    assert event["phase"] == "forward" and event["operation"] == "dense" and event["tensor"] == "z"
    assert event["inf"] + event["nan"] > 0 and event["largest_before"] > 1e10 and event["passed_on"]
    assert [frame["step"] for frame in told["frames"]] == list(range(event["step"] + 1))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    assert run.info.status == "FINISHED" and run.data.tags["bpx.outcome"] == "diverged"
    assert event["layer"] in run.data.tags["bpx.nonfinite"] and event["layer"] in done.stdout
    assert "nonfinite.json" in {a.path for a in client.list_artifacts(run.info.run_id)}


def test_a_run_that_is_not_finite_from_the_start_has_a_finding_too(tmp_path, command):
    import mlflow

    words = ["bpx.train", "model.depth=6", "initializer.gain=1e30", "max_steps=3", "tracking.model=false"]
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    result = json.loads((directory / "result.json").read_text())
    sentence = result["finding"]["sentence"]
    assert result["outcome"] == "diverged" and result["finding"]["verdict"] == "undetermined"
    assert sentence.startswith("Undetermined: the first pass is not finite (step 0, forward: layer_0")
    assert done.stdout.count(sentence) == 2
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    assert run.data.tags["bpx.verdict"] == "undetermined" and run.data.tags["bpx.finding"] == sentence
    assert run.data.tags["mlflow.note.content"].startswith(sentence)
