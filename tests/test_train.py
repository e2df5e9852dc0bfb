"""The command as a person uses it: runs, mistakes, and what is found in MLflow afterwards."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import DATA, ROOT, composed, thinned

from bpx import records
from bpx.config.plan import EXAMPLE, make_plan
from bpx.runs.console import Console
from bpx.system.errors import UserError
from bpx.system.tree import CONF

GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())


@pytest.mark.parametrize(
    "option",
    thinned(
        [
            f"{g}={p.stem}"
            for g in GROUPS
            for p in sorted((CONF / g).glob("*.yaml"))
            if g not in ("experiment", "sweep")
        ],
        every=2,
    ),
)
def test_every_option_composes_and_builds(option, tmp_path):
    path = tmp_path / "weights.npz"
    more = {"dataset=file": ["dataset.path=x.csv"], "initializer=file": [f"initializer.path={path}"]}.get(option, [])
    group, name = option.split("=")
    if beside := name in ("tensorboard", "wandb"):
        pytest.importorskip(name)
    plan = make_plan(composed(f"{group}=[none,{name}]" if beside else option, *more))
    net = plan.network(*EXAMPLE)
    np.savez(path, **net.tensors())
    net.initialize(plan.initializer, np.random.default_rng(0))
    plan.optimizer(100)
    assert net.n_out == EXAMPLE[1]


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_composes(name):
    make_plan(composed(f"+experiment={name}"))


def test_the_demonstrations_are_to_the_letter():
    plan = make_plan(composed("+experiment=mnist_1k"))
    assert plan.network(784, 10).spec.hidden == (128, 64)
    assert (plan.settings.epochs, plan.settings.batch_size, plan.source.subset) == (200, 32, 1000)
    assert plan.source.scaling == "standard" and plan.config.optimizer.lr == 0.01
    plan = make_plan(composed("+experiment=classification"))
    assert plan.network(2, 3).spec.hidden == (10, 10) and plan.settings.epochs == 1000
    assert plan.initializer.name == "he_normal" and plan.settings.batch_size == 32


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer.lr=-1"], "optimizer.lr must be positive"),
        (["optimizer.lr=0"], "optimizer.lr must be positive"),
        (["optimizer.lr=nan"], "optimizer.lr must be a number"),
        (["optimizer.lr=inf"], "optimizer.lr must be positive and finite"),
        (["optimizer.lr=fast"], "optimizer.lr must be a number, got fast"),
        (["optimizer.lr=null"], "optimizer.lr must be a number, got null"),
        (["batch_size=0"], "batch_size must be at least 1"),
        (["batch_size=2.5"], "batch_size must be an integer"),
        (["epochs=-3"], "epochs must be at least 1"),
        (["epochs=nan"], "epochs must be an integer"),
        (["model.width=0"], "model.width must be at least 1"),
        (["model.depth=-1"], "model.depth must be between 0 and 10,000"),
        (["model=residual_mlp", "model.depth=0"], "model.depth must be between 1 and"),
        (["model.hidden=[3,4]", "model.depth=2"], "not both"),
        (["model.hidden=[3,x]"], "list of integers"),
        (["model=residual_mlp", "model.hidden=[3,4]"], "all equal"),
        (["dropout.rate=1"], r"dropout.rate must be in \[0, 1\)"),
        (["dropout.rate=-0.1"], r"dropout.rate must be in \[0, 1\)"),
        (
            ["dropout=none", "dropout.rate=0.5"],
            "dropout.rate must be 0 with dropout=none, got 0.5: give dropout=inverted",
        ),
        (["dropout.name=half"], "dropout.name must be inverted or none, got half"),
        (["dtype=float16"], "dtype must be float32 or float64"),
        (["initializer.gain=1", "initializer.sigma_w=1"], "not both"),
        (["initializer.gain=auto", "activation=gelu"], "no gain for gelu"),
        (["initializer.gain=1e31"], r"initializer.gain must be a number of at least 0 and at most 1e\+30, got 1e\+31"),
        (["initializer.sigma_w=1e200"], "initializer.sigma_w must be a number of at least 0 and at most"),
        (["initializer.bias_std=1e200"], "initializer.bias_std must be a number of at least 0 and at most"),
        (["initializer=normal", "initializer.std=inf"], "initializer.std must be a number of at least 0 and at most"),
        (
            ["initializer=constant", "initializer.value=-1e31"],
            r"initializer.value must be .* of at least -1e\+30",
        ),
        (["loss=mean_squared_error", "loss.output=selu"], "loss.output must be one of"),
        (["dataset.scaling=log"], "dataset.scaling must be one of"),
        (["+optimizer.foo=1"], "unknown key optimizer.foo"),
        (["+foo=1"], "unknown key foo"),
        (["schedule=one_cycle", "+schedule.rise=0.3"], "schedule.rise was renamed to schedule.pct_start"),
        (["schedule=step", "+schedule.every=3"], "schedule.every was renamed to schedule.step_size"),
        (["normalization=batch", "batch_size=1"], "at least 2"),
        (["tracking.per_layer=[foo]"], "quantity foo; known are activation_abs_mean, .*zero_gradients, each also"),
        (["tracking.per_layer=[grad_norm,log10_]"], "unknown quantity log10_;"),
        (["tracking.per_layer=[backward_gain]"], "unknown quantity backward_gain"),  # one for every operation
        (["probes.every=0"], "probes.every must be a number of steps of at least 1"),
    ],
)
def test_mistakes_are_said_in_one_line_before_anything_begins(overrides, said):
    with pytest.raises(UserError, match=said) as error:
        make_plan(composed(*overrides))
    assert "\n" not in str(error.value)


def test_every_quantity_of_a_layer_may_be_tracked_whatever_is_probed():
    assert make_plan(composed("tracking.per_layer=[]")).tracker.per_layer == []
    names = ["saturation", "log10_grad_norm_clipped", "log10_spectral_norm"]
    for words in (["tracking=none", "probes=none"], ["tracking=mlflow", "probes=light"]):
        assert make_plan(composed(*words, f"tracking.per_layer=[{','.join(names)}]")).tracker.per_layer == names


def test_auto_gain_and_sigma_w():
    assert make_plan(composed("initializer.gain=auto", "activation=tanh")).initializer.gain == pytest.approx(5 / 3)
    initializer = make_plan(composed("initializer.sigma_w=1.5")).initializer
    assert initializer.weight_std(100, 7) == pytest.approx(0.15)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, command):
    home = tmp_path_factory.mktemp("home")
    words = ["bpx.train", "+experiment=classification", "epochs=40", "dataset.val_size=0.1", "seed=3"]
    done = command(*words, cwd=home)
    assert done.returncode == 0, done.stderr
    return home, done, next((home / "outputs" / "classification").iterdir())


def test_a_run_says_what_it_did(trained):
    _, done, _ = trained
    assert done.stderr == ""
    for words in (
        "epoch 1/40",
        "layer_03",
        "accuracy  test",
        "figures",
        "mlflow ui",
        "workflowType=machine_learning",
    ):
        assert words in done.stdout


@pytest.mark.parametrize("ui", ["mlflow ui", ""])
def test_a_server_needs_no_command_to_be_looked_at(tmp_path, capsys, ui):
    data = SimpleNamespace(fallback=False, name="toy", x_train=[0], x_test=[0])
    seen = SimpleNamespace(first=None, last=None, finding=None)
    look = [f"look      {ui}"] if ui else []
    tracker = SimpleNamespace(unsent="", directions=[*look, "open      http://host/#/runs/1"])
    console = Console(False, 1, 1, None)
    console.report(data, {"time/train_seconds": 1.0}, seen, tmp_path, tracker, "")
    said = capsys.readouterr().out
    assert "open      http://host/#/runs/1" in said and ("look      " in said) == bool(ui)


def test_the_run_is_in_mlflow(trained):
    import mlflow

    home, done, directory = trained
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_id in done.stdout
    assert run.data.tags["bpx.outcome"] == "finished" and run.data.tags["bpx.dataset"] == "classification"
    assert run.data.params["optimizer.lr"] == "0.01" and run.data.params["seed"] == "3"
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "classification"
    wanted = {"cost/train", "cost/val", "accuracy/val", "cost/test", "accuracy/test", "accuracy/train",
              "time/train_seconds"}  # fmt: skip
    for quantity in ("grad_norm", "log10_delta_l2", "activation_std", "log10_update_ratio"):
        wanted |= {f"{quantity}/layer_{i:02d}" for i in (1, 2, 3)}
    assert wanted <= run.data.metrics.keys()
    assert run.data.metrics["accuracy/test"] > 0.8
    history = client.get_metric_history(run.info.run_id, "cost/val")
    assert [m.step for m in history] == [23 * e for e in range(1, 41)]
    local = records.read_metrics(directory / "metrics.jsonl")
    np.testing.assert_allclose([m.value for m in history], local["cost/val"][1])
    names = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert {"config", "figures", "train.log", "gradient_flow.parquet"} <= names
    figures = {a.path for a in client.list_artifacts(run.info.run_id, "figures")}
    expected = ("curves", "confusion", "decision", "gradient_norms", "profile")
    assert {f"figures/{n}.png" for n in expected} <= figures


@pytest.mark.parametrize("installed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_model_takes_raw_features_anywhere(installed, trained, tmp_path):
    home, done, directory = trained
    run_id = (directory / "mlflow_run_id").read_text().strip()
    code = f"""
import sys, warnings
warnings.simplefilter("ignore")
import mlflow, numpy as np
from sklearn.datasets import make_classification
mlflow.set_tracking_uri("sqlite:///{home / "mlflow.db"}")
model = mlflow.pyfunc.load_model("runs:/{run_id}/model")
x, y = make_classification(n_samples=1000, n_features=2, n_classes=3, n_clusters_per_class=1,
                           n_redundant=0, random_state=42)
p = model.predict(x, {{"output": "probabilities"}})
for kind in ("float32", "float64"):
    assert np.allclose(model.predict(x.astype(kind), {{"output": "probabilities"}}), p, atol=1e-4)
assert model.predict(np.ones((2, 2), np.uint8)).shape == (2,) and (model.predict(x) == p.argmax(axis=1)).all()
assert p.shape == (1000, 3) and np.allclose(p.sum(axis=1), 1, atol=1e-5)
assert model.metadata.signature is not None and model.input_example is not None
import bpx
print(bpx.__file__, np.mean(p.argmax(axis=1) == y))
"""
    hidden = f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]; sys.meta_path[:] = " \
        "[f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"  # fmt: skip
    words = [sys.executable, "-c", code if installed else hidden + code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, score = done.stdout.split()
    assert float(score) > 0.8 and where.startswith(str(ROOT)) == installed


def test_the_local_record_is_whole(trained):
    _, _, directory = trained
    record = records.read(directory / "gradient_flow.parquet")
    steps, layers, norms = record.grid("grad_norm")
    assert layers == ["layer_01", "layer_02", "layer_03"]
    assert steps[:6].tolist() == [0, 1, 2, 4, 8, 16] and steps[-1] == 39 * 23
    assert (norms > 0).all()
    result = json.loads((directory / "result.json").read_text())
    assert result["outcome"] == "finished"
    config = yaml.safe_load((directory / "config" / "config.yaml").read_text())
    assert config["epochs"] == 40
    assert "classification" in (directory / "train.log").read_text()


def test_same_seed_same_run(tmp_path, command, process):
    words = ["bpx.train", "+experiment=classification", "epochs=3", "tracking=none", "tracking.figures=false"]
    for run in (command, process):
        assert run(*words, cwd=tmp_path).returncode == 0
    first, second = (np.load(d / "model.npz") for d in (tmp_path / "outputs" / "classification").iterdir())
    assert all(first[key].tobytes() == second[key].tobytes() for key in first)
    assert not (tmp_path / "mlflow.db").exists()


def test_divergence_is_a_result(tmp_path, command):
    words = ["bpx.train", "dataset=gaussian", "loss=mean_squared_error", "optimizer.lr=1e6"]
    words += ["tracking=none", "tracking.figures=false"]
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0 and "diverged" in done.stdout, done.stderr
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    assert json.loads((directory / "result.json").read_text())["outcome"] == "diverged"
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        assert all(math.isfinite(v) for v in json.loads(line)["metrics"].values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["activation=foo"], "known are elu, gelu"),
        (
            ["model=null"],
            "model must be one of convnet, gru, lstm, mlp, plain_conv, ",
        ),
        (["schedule=step", "schedule.factor=0.5"], "schedule.factor was renamed to schedule.gamma"),
        (["modl.depth=3"], "unknown key modl.depth; did you mean model.depth"),
        (["batch_size=1000000"], "at most the 1437 training samples"),
        (["dataset=mnist", "dataset.path=/nonexistent"], "holds no mnist files"),
        (["dataset=file", "dataset.path=nope.csv"], "there is no such file"),
        (["dataset=file", "dataset.path=."], r"dataset.path=. is a folder: expected a file"),
        (["schedule=plateau"], "schedule=plateau follows cost/val, and dataset digits has no validation part"),
        (["early_stopping=3"], "early_stopping follows cost/val, and dataset digits has no validation part"),
        (["normalization=batch", "batch_size=4"], "1437 training samples leave a last batch of 1 at batch_size=4"),
        (["tracking.uri=http://127.0.0.1:9"], "does not answer"),
        (["tracking.uri=sqlite:////nonexistent/x.db"], "tracking.uri: the folder /nonexistent does not exist: give a"),
        (["tracking.uri=nonsense"], "tracking.uri nonsense is neither a database nor a server: give a database"),
    ],
)
def test_exit_code_two_one_line_and_nothing_begun(tmp_path, command, words, said):
    done = command("bpx.train", *words, cwd=tmp_path, timeout=30)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and said in done.stderr
    assert not (tmp_path / "outputs").exists()
    if (tmp_path / "mlflow.db").exists():
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        assert not client.search_runs([e.experiment_id for e in client.search_experiments()])


def test_the_traceback_comes_back_on_request(tmp_path, process):
    done = process("bpx.train", "optimizer.lr=-1", cwd=tmp_path, env={"HYDRA_FULL_ERROR": "1"})
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_silent_server_is_given_up_within_ten_seconds(tmp_path, command):
    import socket
    import time

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        start = time.monotonic()
        done = command("bpx.train", f"tracking.uri=http://127.0.0.1:{server.getsockname()[1]}", cwd=tmp_path)
    assert done.returncode == 2 and "does not answer" in done.stderr
    assert time.monotonic() - start < 10


@pytest.mark.slow
def test_two_runs_on_a_fresh_directory_at_once(tmp_path):
    words = [sys.executable, "-m", "bpx.train", "epochs=1", "tracking.figures=false", "tracking.model=false"]
    both = [subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 2


def test_without_mnist_the_run_is_named_for_what_it_is(tmp_path, called, monkeypatch):
    def refuse(*words, **more):
        raise OSError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", refuse)
    words = ["dataset=mnist", "epochs=1", "tracking=none", "tracking.figures=false"]
    done = called("bpx.train", *words)
    assert done.code == 0, done.err
    assert "NOT THE DATA ASKED FOR" in done.out and "digits28 (fallback)" in done.out
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    assert json.loads((directory / "result.json").read_text())["dataset"] == "digits28 (fallback)"
    done = called("bpx.train", *words, "dataset.fallback=null")
    assert done.code == 2 and "give dataset.path" in done.err


@pytest.mark.slow
def test_the_main_job_learns_mnist(tmp_path, command):
    if not DATA:
        pytest.skip("BPX_DATA_DIR holds no MNIST")
    done = command("bpx.train", "+experiment=mnist", cwd=tmp_path, env={"BPX_DATA_DIR": DATA}, timeout=600)
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "outputs" / "mnist").iterdir()
    metrics = json.loads((directory / "result.json").read_text())["metrics"]
    assert metrics["accuracy/test"] >= 0.983
    assert (directory / "figures" / "samples.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize(("model", "low", "high"), [("lstm", 0, 0.01), ("rnn", 0.15, 0.2)])
def test_an_lstm_learns_to_add_over_a_hundred_steps_and_a_plain_network_does_not(model, low, high, tmp_path, command):
    words = (f"+experiment=adding_{model}", "probes=none", "tracking=none", "tracking.figures=false")
    done = command("bpx.train", *words, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    (directory,) = (tmp_path / "outputs" / f"adding_{model}").iterdir()
    metrics = json.loads((directory / "result.json").read_text())["metrics"]
    assert low < metrics["rmse/test"] ** 2 < high


def test_readme_names_the_commands():
    text = (ROOT / "README.md").read_text()
    assert "pip install -e . && python -m bpx.train +experiment=mnist" in text
    assert "pip install -e '.[test]' && pytest" in text


@pytest.mark.parametrize("words", [[], ["normalization=batch"], ["initializer=lsuv"]])
def test_fewer_samples_than_the_default_batch_size_are_one_batch(tmp_path, called, words):
    (tmp_path / "xor.csv").write_text("x1,x2,label\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n")
    given = ["dataset=file", "dataset.path=xor.csv", "dataset.test_size=0", "epochs=3", "tracking.figures=false"]
    done = called("bpx.train", *given, *words)
    said = "note      batch_size 32 is more than the 4 training samples: one batch holds all 4"
    assert done.code == 0 and done.out.splitlines().count(said) == 1, done.err
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    assert yaml.safe_load((directory / "config" / "config.yaml").read_text())["batch_size"] == 4
    assert yaml.safe_load((directory / "config" / "overrides.yaml").read_text()) == [*given, *words]
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bpx").experiment_id])
    assert run.data.params["batch_size"] == "4" and run.data.params["epochs"] == "3"
    again = called("bpx.train", f"resume={directory}", "epochs=6")
    assert again.code == 0 and "batch_size" not in again.out, again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batch_size=5"], "batch_size must be at most the 4 training samples, got 5"),
        (["batch_size=33"], "batch_size must be at most the 4 training samples, got 33"),
        (["dataset.train_size=1", "normalization=batch"], "normalization=batch needs a batch_size of at least 2"),
    ],
)
def test_a_batch_that_the_samples_do_not_fill_is_refused(tmp_path, called, words, said):
    (tmp_path / "xor.csv").write_text("x1,x2,label\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n")
    done = called("bpx.train", "dataset=file", "dataset.path=xor.csv", "dataset.test_size=0", *words)
    assert done.code == 2 and done.err.count("\n") == 1 and said in done.err
    assert not (tmp_path / "outputs").exists()
