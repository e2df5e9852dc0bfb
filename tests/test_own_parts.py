"""Parts in a module of the user's own, with YAMLs in a folder of the user's own, go through every command."""

import importlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import write_own_parts

import bpx
from bpx.config.plan import make_plan
from bpx.engine import mlp
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.features import Scaler
from bpx.engine.model_files import load_model, save_model
from bpx.engine.parts import describe
from bpx.engine.rectifiers import ELU
from bpx.records import read
from bpx.runs.study import compose
from bpx.system.errors import UserError

DIRECTORY = ("--config-dir", "conf")
NETWORK = ("activation=sine", "initializer=triangular", "normalization=absolute", "loss=squared_hinge",
           "model.depth=4", "model.width=10")  # fmt: skip
PARTS = (*DIRECTORY, *NETWORK, "optimizer=signs", "schedule=inverse_root", "dataset=rings", "probes=mine")
SHORT = ("progress=false", "checkpoint.keep=1", "epochs=1")
LOADED = """
import sys
from bpx.engine.model_files import load_model
try:
    load_model(sys.argv[1])
except ValueError as error:
    print(error)
assert "mine" not in sys.modules
print(load_model(sys.argv[1], allow=("mine",)).predict([[1, 2]]).shape)
import mlflow
mlflow.set_tracking_uri(sys.argv[2])
with open(f"{sys.argv[1]}/mlflow_run_id") as file:
    address = f"runs:/{file.read().strip()}/model"
model = mlflow.pyfunc.load_model(address, model_config={"allow": ["mine"]})
print(model.predict([[1.0, 2.0]], {"output": "probabilities"}).shape)
"""


@pytest.fixture
def home(tmp_path):
    """A folder with the module and the YAMLs of docs/own_parts.md."""
    assert write_own_parts(tmp_path) == 8
    return tmp_path


@pytest.fixture
def mine(home, monkeypatch):
    """The module itself."""
    monkeypatch.syspath_prepend(home)
    yield importlib.import_module("mine")
    del sys.modules["mine"]


@pytest.mark.slow
def test_own_parts_of_every_kind_are_trained_drawn_saved_and_resumed(home, process, command):
    store = f"sqlite:///{home / 'm.db'}"
    words = (*PARTS, *SHORT, f"tracking.uri={store}", "tracking.per_layer=[largest_weight]")
    done = process("bpx.train", *words, cwd=home)
    assert done.returncode == 0 and "could not" not in done.stdout + done.stderr, done.stderr
    (run,) = (home / "outputs" / "default").iterdir()
    assert {p.stem for p in (run / "figures").iterdir()} >= {"profile", "gains", "decision", "curves"}
    assert json.loads((run / "delivery.json").read_text())["todo"] == []  # the model has arrived, too
    spec = json.loads((run / "model.json").read_text())["spec"]
    assert spec["activation"] == {"name": "sine", "_target_": "mine.Sine"}
    assert spec["normalization"] == {"name": "absolute", "_target_": "mine.Absolute", "eps": 1e-5}
    assert spec["loss"] == {"name": "squared_hinge", "_target_": "mine.SquaredHinge", "margin": 1.0}
    first = read(run / "gradient_flow.parquet").select(quantity="largest_weight", step=0)
    assert len(first.value) == 5 and (first.value > 0).all()
    assert "largest_weight/layer_01" in (run / "metrics.jsonl").read_text()

    words = [sys.executable, "-c", LOADED, str(run), store]
    loaded = subprocess.run(words, cwd=home, capture_output=True, text=True)
    refused, shape, shape_in_mlflow = loaded.stdout.splitlines()
    assert refused.endswith('activation mine.Sine is not part of bpx; to import its module, give allow=("mine",)')
    assert shape == shape_in_mlflow == "(1, 2)"

    refusals = {(): "give allow=[mine]", ("allow=mine",): "allow must be a list", ("allow=[min]",): "give allow=[mine]"}
    for allow, said in refusals.items():
        asked = command("bpx.train", f"resume={run}", "epochs=2", *allow, cwd=home)
        assert asked.returncode == 2 and said in asked.stderr and asked.stderr.count("\n") == 1
    again = process("bpx.train", f"resume={run}", "epochs=2", "allow=[mine]", cwd=home)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_stored_configuration_allows_itself_nothing(home, process):
    done = process("bpx.train", *PARTS, *SHORT, "tracking=none", "tracking.figures=false", "allow=[mine]", cwd=home)
    assert done.returncode == 0, done.stderr
    (run,) = (home / "outputs" / "default").iterdir()
    asked = process("bpx.train", f"resume={run}", "epochs=2", cwd=home)
    assert asked.returncode == 2 and "give allow=[mine]" in asked.stderr


@pytest.mark.slow
def test_own_parts_are_swept_and_compared(home, process):
    words = (*PARTS, *SHORT, "tracking=none", "tracking.figures=false", "dataset.val_size=0.2")
    done = process("bpx.train", "-m", *words, "activation=sine,tanh", "normalization=absolute,none", cwd=home)
    assert done.returncode == 0, done.stderr
    runs = list((home / "outputs" / "default").iterdir())
    assert len(runs) == 4
    compared = process("bpx.compare", *map(str, runs), cwd=home)
    assert compared.returncode == 0 and re.search(r"activation.*Sine", compared.stdout)
    assert re.search(r"normalization.*Absolute", compared.stdout)
    search = ("hydra/sweeper=bpx_optuna", "initializer.gain=interval(0.8,2)", "hydra.sweeper.n_trials=2")
    done = process("bpx.train", "-m", *words, *search, cwd=home)
    assert done.returncode == 0, done.stderr
    search = ("hydra/sweeper=bpx_optuna", "initializer.sigma_w=interval(0.8,2)", "hydra.sweeper.n_trials=2")
    plain = (*words, "normalization=none", "initializer=lecun_normal", "hydra.sweeper.study_name=plain")
    done = process("bpx.train", "-m", *plain, *search, cwd=home)
    assert done.returncode == 0, done.stderr
    texts = [path.read_text() for path in home.glob("outputs/*/study.json")]
    (study,) = (json.loads(text) for text in texts if "initializer.sigma_w" in text)
    assert len(study["depth_scale"]["xi_c"]) > 0  # theory has taken the object


@pytest.mark.slow
def test_the_gradient_check_and_theory_know_own_parts(home, process):
    checked = process("bpx.gradcheck", *DIRECTORY, *NETWORK, "dataset=rings", cwd=home)
    assert checked.returncode == 0 and "the gradient is correct" in checked.stdout
    theory = process("bpx.theory", *DIRECTORY, *NETWORK, cwd=home)
    assert theory.returncode == 0 and "sine, rms normalization" in theory.stdout
    theory = process("bpx.theory", *DIRECTORY, *NETWORK, "normalization=none", cwd=home)
    assert theory.returncode == 0 and "phase diagram: outputs/theory/sine" in theory.stdout


def test_diagnose_knows_own_parts(mine):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 10)), rng.integers(0, 3, 50)
    small = {"name": "normal", "std": 0.05}
    found = bpx.diagnose(mlp(10, [20] * 8, 3, mine.Sine(), initializer=small), x, y)
    assert found.verdict == "vanishing" and "sine" in found.sentence
    found = bpx.diagnose(mlp(10, [20] * 8, 3, mine.Sine(), normalization=mine.Absolute(), initializer=small), x, y)
    rms = bpx.diagnose(mlp(10, [20] * 8, 3, mine.Sine(), normalization="rms", initializer=small), x, y)
    assert found.verdict == rms.verdict == "healthy"
    assert found.predicted_slope == pytest.approx(rms.predicted_slope, abs=0.02)

    class Unlike(mine.Absolute):
        """It says of no normalization of theory that it acts like it."""

        acts_like = None

    found = bpx.diagnose(mlp(10, [20] * 8, 3, mine.Sine(), normalization=Unlike(), initializer=small), x, y)
    assert found.predicted_slope is None and found.reason == "theory has no factor for absolute normalization"


def test_own_parts_pass_the_checks_that_the_page_calls(mine):
    mine.test_my_parts()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+probes.other={_target_:mine.LargestWeight}", "must be a subclass of Probe whose name is other"),
        ("+probes.sine={_target_:mine.Sine}", "must be a subclass of Probe whose name is sine"),
        ("+probes.largest_weight={_target_:mine.LargestWeight,schedule:now}", "probes.largest_weight must"),
        ("+probes.largest_weight={_target_:mine.LargestWeight,when:1}", "unknown key probes.largest_weight.when"),
        ("+normalization._target_=mine.Sine", "normalization._target_ must build what Normalization is, got Sine"),
        ("+normalization._target_=mine.Nothing", "normalization._target_=mine.Nothing cannot be imported"),
    ],
)
def test_what_is_no_such_part_is_one_line(word, said, mine):
    words = ("normalization=none", "~normalization.name") if word.startswith("+norm") else ()
    with pytest.raises(UserError, match=re.escape(said)) as raised:
        make_plan(compose(*words, word))
    assert "\n" not in str(raised.value)


def test_a_model_that_could_not_be_loaded_is_refused_before_it_is_trained(home, process):
    (home / "own.py").write_text(
        "import numpy as np\nfrom bpx.engine import ActivationFunction\n"
        "class Scaled(ActivationFunction):\n    name = 'scaled'\n"
        "    def __init__(self, scale: float = 1.0): self.s = scale\n"
        "    def f(self, z, out): np.multiply(z, self.s, out=out)\n"
        "    def df(self, z, a, out): out.fill(self.s)\n"
    )
    done = process("bpx.train", "activation._target_=own.Scaled", "tracking=none", cwd=home)
    assert done.returncode == 2 and not (home / "outputs").exists()
    assert done.stderr == "error: own.Scaled must keep its parameter scale as an attribute\n"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("os.system", 'activation os.system is not part of bpx; to import its module, give allow=("os",)'),
        ("allowed_not.X", "is not part of bpx"),
        ("allowed.nothing", "activation allowed.nothing cannot be imported"),
        ("allowed.join", "activation allowed.join must be a subclass of ActivationFunction"),
        ("allowed.Path", "activation allowed.Path must be a subclass of ActivationFunction"),
    ],
)
def test_what_is_no_activation_is_not_called(target, said, tmp_path, monkeypatch):
    (tmp_path / "allowed.py").write_text("from os.path import join\nfrom pathlib import Path\n")
    (tmp_path / "allowed_not.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    save_model(tmp_path, mlp(2, [3], 2), Scaler(np.zeros(2), np.ones(2)))
    description = json.loads((tmp_path / "model.json").read_text())
    description["spec"]["activation"] = {"name": "relu", "_target_": target}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        load_model(tmp_path, allow=("allowed",))
    assert "\n" not in str(raised.value)


def test_a_registered_activation_is_described_by_its_name_and_parameters():
    assert describe(ELU(0.5), ACTIVATIONS) == {"name": "elu", "alpha": 0.5}
