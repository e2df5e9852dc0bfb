"""The state after training: planted cases, healthy runs, and the table of rules."""

import json
import math
import shutil

import numpy as np
import pytest
from conftest import ROOT

from bpx.diagnosis.architecture import activation_functions
from bpx.diagnosis.rules import RULES, table
from bpx.diagnosis.snapshot import Snapshot
from bpx.diagnosis.training_state import TrainingState, named
from bpx.engine import ACTIVATIONS, mlp
from bpx.probes import Reading
from bpx.records import read, read_metrics
from bpx.runs.resume import find_run_to_resume
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.stored.lookup import from_directory
from bpx.system.errors import UserError

PLAIN = ("tracking=none", "tracking.figures=false", "tracking.model=false", "progress=false")
DEAD = ("optimizer.lr=5", "model.depth=3", "model.width=20", "epochs=3")
HIDDEN = ("layer_01", "layer_02", "layer_03")


@pytest.fixture
def result(tmp_path):
    """Train in this process and return what result.json holds."""

    def run(*words):
        done = train_run(compose(*PLAIN, *words), "test", tmp_path, [], quiet=True)
        return json.loads((done.directory / "result.json").read_text()) | {"done": done}

    return run


@pytest.mark.parametrize(
    ("words", "verdict", "rules", "says"),
    [
        (DEAD, "dead", {"dead", "dead layer", "not learned"},
         "every unit of layer_03 is dead since step 8, and delta is exactly zero in layer_01 to layer_03 since step 8"),
        (("optimizer.lr=1e-6", "epochs=2"), None, {"stalled", "lost updates", "not learned"}, "rounding loses"),
        (("optimizer.clip_norm=1e-3", "epochs=2"), None, {"clipped", "not learned"}, "clipping shortens every step"),
        (("optimizer.clip_value=1e-6", "epochs=2"), None, {"clipped entries", "not learned"}, "clipping cuts"),
        (("activation=tanh", "optimizer.lr=3"), None, {"saturated"}, "of layer_01 and layer_02 is saturated"),
        (("optimizer.lr=2",), None, {"diverging", "dead units"}, "the last record before it diverged"),
        (("initializer=zeros", "epochs=1"), "dead", {"dead", "not learned"}, "since step 0"),
        (("activation=sigmoid", "initializer=xavier_normal", "model.depth=10", "epochs=1"), "vanishing",
         {"vanishing", "not learned"}, "gradients vanish"),
    ],
    ids=["dead", "small rate", "clipped", "clipped values", "saturated", "diverged", "zeros", "vanishing"],
)  # fmt: skip
def test_what_is_planted_is_said(result, words, verdict, rules, says):
    final = result(*words)["final"]
    assert rules <= {alarm["rule"] for alarm in final["alarms"]} and says in final["sentence"]
    assert verdict in (None, final["verdict"])
    assert final["learned"] is ("saturated" in rules)


def test_the_rate_that_threw_the_weights_is_named(result):
    made = result(*DEAD)
    final, record = made["final"], read(made["done"].directory / "gradient_flow.parquet")
    steps, _, ratios = record.grid("update_ratio")
    step = int(steps[np.nanmax(ratios, axis=0).argmax()])
    assert f"lr 5 threw the weights (update ratio {np.nanmax(ratios):.2g} at step {step})" in final["sentence"]
    _, _, delta = record.grid("delta_l2")
    dead = next(alarm for alarm in final["alarms"] if alarm["rule"] == "dead")
    first = int(steps[np.flatnonzero((delta[:3] == 0).all(axis=0))[0]])
    assert dead["layers"] == list(HIDDEN) and dead["since"] == first and record.about["final"] == final


@pytest.mark.parametrize("words", [(), ("dataset=moons", "optimizer.lr=0.1"), ("activation=tanh", "epochs=5")], ids=str)
def test_a_healthy_run_raises_no_alarm(result, words):
    final = result("model.depth=3", *words)["final"]
    assert final["alarms"] == [] and final["verdict"] == "healthy" and final["learned"] is True
    assert final["sentence"].startswith("After training gradients are healthy, ×")


@pytest.mark.slow
def test_healthy_setups_of_the_studies_raise_no_alarm(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from alarms import HEALTHY, alarms

    own = {label: words for label, words in HEALTHY.items() if not any("mnist" in word for word in words)}
    assert len(own) >= 10
    said = {label: found for label, words in own.items() if (found := alarms(words, 1, tmp_path).said)}
    assert not said


@pytest.mark.parametrize(("probes", "verdict", "told"), [("none", "undetermined", 1), ("light", "dead", 3)])
def test_only_what_is_measured_is_said(result, probes, verdict, told):
    final = result(*DEAD, f"probes={probes}")["final"]
    assert final["verdict"] == verdict and final["learned"] is False
    assert "every unit" not in final["sentence"] and final["sentence"].count(";") + 1 == told


def test_numbers_as_targets_have_no_largest_class(result):
    final = result("dataset=gaussian", "loss=mean_squared_error")["final"]
    assert "accuracy" not in final["sentence"] and "training R² 0.3" in final["sentence"] and final["learned"] is True
    constant = Snapshot(cost_start=2.0, cost=1.0, r2=0.0)  # outputs that have shrunk to the mean
    assert constant.learned is False and Snapshot(cost_start=2.0, cost=1.0, r2=0.9).learned is True


def at(quantity, *values):
    return {quantity: (tuple(f"layer_{i + 1:02d}" for i in range(len(values))), np.array(values, float))}


FLOW = {"cost_start": 2.0, "cost": 1.0}
LIMITS = {  # a reading at which the rule speaks, one just short of it
    "dead": (at("delta_l2", 0, 1, 1), at("delta_l2", 1e-300, 1, 1)),
    "dead layer": (at("dead_units", 0, 1), at("dead_units", 0, 0.99)),
    "exploding": (at("delta_l2", 10.1, 1, 1), at("delta_l2", 9.9, 1, 1)),
    "vanishing": (at("delta_l2", 0.099, 1, 1), at("delta_l2", 0.101, 1, 1)),
    "diverging": ({"cost": 20.0}, {"cost": 19.9}),
    "stalled": (at("update_ratio", 9e-7, 9e-7) | {"cost": 1.9}, at("update_ratio", 9e-7, 1e-6) | {"cost": 1.9}),
    "lost updates": (at("lost_updates", 0.1) | {"cost": 1.9}, at("lost_updates", 0.09) | {"cost": 1.9}),
    "clipped": (at("clip_coefficient", 0.09) | at("clipped_steps", 0.99),
                at("clip_coefficient", 0.09) | at("clipped_steps", 0.98)),
    "clipped entries": (at("clipped_entries", 0.5), at("clipped_entries", 0.49)),
    "saturated": (at("saturation", 0, 0.8), at("saturation", 0, 0.79)),
    "dead units": (at("dead_units", 0, 0.5), at("dead_units", 0, 0.49)),
    "thrown": (at("update_ratio", 0, 1), at("update_ratio", 0, 0.99)),
    "not learned": ({"cost": 1.81}, {"cost": 1.79}),
}  # fmt: skip


def reading(about):
    numbers = {key: value for key, value in about.items() if not isinstance(value, tuple)}
    return Snapshot({key: value for key, value in about.items() if isinstance(value, tuple)}, **FLOW | numbers)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_speaks_from_its_limit_on(name):
    if name in ("exploding", "vanishing"):
        widen = lambda d: at("delta_l2", d["delta_l2"][1][0], np.sqrt(d["delta_l2"][1][0]), 1, 1) | {"cost": 1.9}  # noqa: E731
        spoken, silent = map(widen, LIMITS[name])
    else:
        spoken, silent = LIMITS[name]
    assert RULES[name](reading(spoken)) and not RULES[name](reading(silent))


@pytest.mark.parametrize(
    ("name", "about"),
    [
        ("stalled", at("update_ratio", 1e-9) | {"rate": 0.009, "cost": 1.9}),  # the schedule asks for it
        ("stalled", at("update_ratio", 1e-9) | {"cost": 0.1}),  # it has converged
        ("lost updates", at("lost_updates", 0.9) | {"cost": 0.1}),
        ("saturated", at("saturation", 0.95) | {"usual_saturation": 0.5}),  # ReLU
        ("clipped", at("clip_coefficient", 0.5) | at("clipped_steps", 1.0)),
        ("exploding", at("delta_l2", 100, 10, 1, 1) | {"cost": 0.1}),  # the verdict, and no alarm: it learned
        ("dead", at("delta_l2", 0, 0, 0)),  # the loss sends nothing back
        ("not learned", {"cost_start": None, "cost": None}),
    ],
)
def test_a_rule_keeps_silent(name, about):
    assert not RULES[name](reading(about))


@pytest.mark.parametrize(
    ("accuracy", "largest", "learned"),
    [(0.1135, 0.1124, False), (0.2, 0.1, True), (0.91, 0.9, True), (0.9, 0.9, False)],
)
def test_the_share_of_the_largest_class_is_no_learning(accuracy, largest, learned):
    assert reading({"accuracy": accuracy, "largest_class": largest}).learned is learned


def test_the_table_in_the_concepts_is_the_one_in_code():
    assert table() in (ROOT / "docs" / "concepts.md").read_text(), "copy bpx.diagnosis.rules.table()"
    assert all(rule.source and rule.quantity for rule in RULES.values())


def states(*deltas, metrics=None):
    net = mlp(3, [4, 4], 3, "relu", seed=0)
    state = TrainingState(activation_functions(net), 0.1, None)
    keys = tuple((f"layer_{i:02d}", "", "delta_l2", 0) for i in (1, 2, 3))
    for step, delta in enumerate(deltas):
        state.take(step, 0.1, {"cost/train": 1.0}, (Reading("scales", keys, np.array(delta, float)),))
        yield state


def test_a_run_is_stopped_by_two_records_in_succession():
    stops = [s.stop(("dead",)) for s in states((1, 1, 1), (0, 1, 1), (1, 1, 1), (0, 1, 1), (0, 1, 1))]
    assert stops == ["", "", "", "", "dead"]
    (*_, last) = states((0, 1, 1), (0, 1, 1))
    last.take(9, 0.1, {"cost/train": 1.0}, ())  # an evaluation measures no delta
    assert last.final("finished", {}).step == 1 and last.stop(("stalled",)) == ""


def test_a_dead_layer_of_a_branch_is_said_beside_a_main_path_with_a_slope():
    state = TrainingState([ACTIVATIONS["relu"]()], 0.1, None)
    state.known = Snapshot(at("delta_l2", 1, 0, 2, 1), inside=frozenset({"layer_02"}))
    final = state.final("finished", {})
    assert final.verdict == "dead" and final.sentence.startswith("After training delta is exactly zero in layer_02")


def test_facts_bring_a_state_back():
    for state in states((1, 1, 1), (0, 1, 1), (0, 0, 1)):
        again = TrainingState([ACTIVATIONS["relu"]()], 0.1, None)
        again.recall(json.loads(json.dumps(state.facts())))
        assert again.final("finished", {}) == state.final("finished", {}) and again.facts() == state.facts()


def test_a_dead_run_ends_early_if_asked(result):
    made = result(*DEAD, "stop_when=[dead]", "dataset.val_size=0.2")
    done, final = made["done"], made["final"]
    assert made["outcome"] == "finished" and made["stopped"] == "dead" and final["verdict"] == "dead"
    series = read_metrics(done.directory / "metrics.jsonl")
    assert series["cost/val"][0].tolist() == [17] and math.isfinite(done.metrics["accuracy/test"])  # seen at 8 and 16
    assert result(*DEAD)["stopped"] is None
    with pytest.raises(UserError, match=r"stop_when=dead needs probes\.scales"):
        result("stop_when=[dead]", "probes=none")
    with pytest.raises(UserError, match="stop_when must hold only dead, diverging, stalled, got gone"):
        result("stop_when=[gone]")


def test_a_resumed_run_is_judged_as_the_untouched_one(result):
    words = (*DEAD, "checkpoint.every=5", "checkpoint.unit=steps", "checkpoint.keep=99")
    made = result(*words)
    whole = made["done"].directory
    copy = whole.parent / "copy"
    shutil.copytree(whole, copy)
    for path in (copy / "checkpoints").glob("step-*.bpx"):
        if int(path.stem.partition("-")[2]) > 50:
            path.unlink()
    for name in ("result.json", "gradient_flow.parquet", "model.npz"):
        (copy / name).unlink()
    again = find_run_to_resume(str(copy), [f"resume={copy}"])
    train_run(again.config, again.name, copy.parent, [], resume_from=again, quiet=True)
    assert json.loads((copy / "result.json").read_text())["final"] == made["final"]
    assert read(copy / "gradient_flow.parquet").about == read(whole / "gradient_flow.parquet").about


def test_the_final_verdict_is_everywhere(tmp_path, command):
    import mlflow

    done = command("bpx.train", *DEAD, "tracking.model=false", "tracking.figures=false", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    result = json.loads((directory / "result.json").read_text())
    sentence = result["final"]["sentence"]
    assert done.stdout.count(sentence) == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    tags = run.data.tags
    assert tags["bpx.verdict"] == "healthy" and tags["bpx.verdict_final"] == "dead"
    assert tags["bpx.finding"] == f"{result['finding']['sentence']} {sentence}"
    assert sentence in tags["mlflow.note.content"] and run.data.metrics["gradient_flow/zero_layers"] == 3
    local = from_directory(directory)
    assert local.verdict_final == "dead" and local.finding == tags["bpx.finding"]
    assert not {"gradient_flow/slope", "gradient_flow/abs_slope"} & set(local.metrics)


def test_layers_are_named_as_people_do():
    names = [f"layer_{i:02d}" for i in range(1, 9)]
    assert named(names[:1]) == "layer_01" and named(names[:2]) == "layer_01 and layer_02"
    assert (
        named(names[:3]) == "layer_01 to layer_03" and named(names[::2]) == "layer_01, layer_03, layer_05 and layer_07"
    )
