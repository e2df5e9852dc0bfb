"""Parts in a module of the user's own, with YAMLs in a folder of the user's own, go through every process."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import bpx
from bpx.engine import mlp
from bpx.engine.activations import ACTIVATIONS, ELU
from bpx.engine.features import Scaler
from bpx.engine.model_files import load_model, save_model
from bpx.engine.parts import describe

WORDS = ("--config-dir", "conf", "activation=isru", "initializer=lecun_normal", "model.depth=3", "model.width=10")
QUIET = ("progress=false", "checkpoint.keep=1", "dataset=moons")
LOADED = """
import sys
from bpx.engine.model_files import load_model
try:
    load_model(sys.argv[1])
except ValueError as error:
    print(error)
assert "myact" not in sys.modules
print(load_model(sys.argv[1], allow=("myact",)).predict([[1, 2]]).shape)
import mlflow
mlflow.set_tracking_uri(sys.argv[2])
with open(f"{sys.argv[1]}/mlflow_run_id") as file:
    address = f"runs:/{file.read().strip()}/model"
print(mlflow.pyfunc.load_model(address, model_config={"allow": ["myact"]}).predict([[1.0, 2.0]]).shape)
"""


@pytest.fixture
def home(tmp_path):
    """A folder with the README's module and its YAML."""
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S) if "ISRU" in c]
    imports = "from dataclasses import dataclass\nfrom typing import ClassVar, final\nimport numpy as np\n"
    imports += "from bpx.engine import ActivationFunction, Array\n"
    (tmp_path / "myact.py").write_text(imports + code)
    (tmp_path / "conf" / "activation").mkdir(parents=True)
    (tmp_path / "conf" / "activation" / "isru.yaml").write_text("_target_: myact.ISRU\n")
    return tmp_path


@pytest.mark.slow
def test_an_activation_of_ones_own_is_trained_drawn_saved_and_resumed(home, process):
    store = f"sqlite:///{home / 'm.db'}"
    done = process("bpx.train", *WORDS, *QUIET, f"tracking.uri={store}", "epochs=1", cwd=home)
    assert done.returncode == 0 and "could not" not in done.stdout + done.stderr
    (run,) = (home / "outputs" / "default").iterdir()
    assert (run / "figures" / "phase.png").exists()
    assert json.loads((run / "delivery.json").read_text())["todo"] == []  # the model has arrived, too
    assert json.loads((run / "model.json").read_text())["spec"]["activation"] == {
        "name": "isru",
        "_target_": "myact.ISRU",
    }

    words = [sys.executable, "-c", LOADED, str(run), store]
    loaded = subprocess.run(words, cwd=home, capture_output=True, text=True)
    refused, shape, shape_in_mlflow = loaded.stdout.splitlines()
    assert refused.endswith('activation myact.ISRU is not part of bpx; to import its module, give allow=("myact",)')
    assert shape == shape_in_mlflow == "(1, 2)"

    asked = process("bpx.train", f"resume={run}", "epochs=2", cwd=home)
    assert asked.returncode == 2 and "activation._target_=myact.ISRU" in asked.stderr and asked.stderr.count("\n") == 1
    again = process("bpx.train", f"resume={run}", "epochs=2", "activation._target_=myact.ISRU", cwd=home)
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_an_activation_of_ones_own_is_swept_and_compared(home, process):
    words = (*WORDS[:2], *WORDS[3:], *QUIET, "tracking=none", "tracking.figures=false", "epochs=1")
    done = process("bpx.train", "-m", *words, "activation=isru,tanh", cwd=home)
    assert done.returncode == 0, done.stderr
    runs = list((home / "outputs" / "default").iterdir())
    compared = process("bpx.compare", *map(str, runs), cwd=home)
    assert compared.returncode == 0 and re.search(r"activation.*ISRU", compared.stdout)
    search = ("hydra/sweeper=bpx_optuna", "initializer.sigma_w=interval(0.8,2)", "hydra.sweeper.n_trials=2")
    done = process("bpx.train", "-m", *words, "activation=isru", "dataset.val_size=0.2", *search, cwd=home)
    assert done.returncode == 0, done.stderr
    scale = json.loads((home / "outputs" / "default-sweep" / "study.json").read_text())["depth_scale"]
    assert len(scale["xi_c"]) > 0  # theory has taken the object


@pytest.mark.slow
def test_the_gradient_check_and_theory_know_an_activation_of_ones_own(home, process):
    checked = process("bpx.gradcheck", *WORDS, "dataset=moons", cwd=home)
    assert checked.returncode == 0 and "the gradient is correct" in checked.stdout
    theory = process("bpx.theory", *WORDS, cwd=home)
    assert theory.returncode == 0 and "phase diagram: outputs/theory/isru" in theory.stdout


def test_diagnose_knows_an_activation_of_ones_own(home, monkeypatch):
    monkeypatch.syspath_prepend(home)
    import myact

    rng = np.random.default_rng(0)
    net = mlp(10, [20] * 8, 3, myact.ISRU(), initializer={"name": "normal", "std": 0.05})
    found = bpx.diagnose(net, rng.normal(size=(50, 10)), rng.integers(0, 3, 50))
    assert found.verdict == "vanishing" and "isru" in found.sentence
    sys.modules.pop("myact")


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
