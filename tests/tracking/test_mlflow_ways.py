"""The logged model in MLflow's own ways: predict, evaluate, serve, and the registry."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.system.errors import UserError
from bpx.tracking import library

# MLflow's own
pytestmark = pytest.mark.filterwarnings("ignore")
QUIET = ("probes=none", "checkpoint.keep=0", "tracking.figures=false")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("ways")


def trained(home, *words):
    config = compose(*QUIET, f"tracking.uri=sqlite:///{home / 'mlflow.db'}", *words)
    done = train_run(config, "test", home / "outputs", [], quiet=True)
    return done, f"runs:/{(done.directory / 'mlflow_run_id').read_text().strip()}/model"


@pytest.fixture(scope="module")
def digits(home):
    """A run on scikit-learn's digits, whose classes are integers, registered."""
    return trained(home, "epochs=20", "tracking.register=digits net")


@pytest.fixture(scope="module")
def flowers(home):
    """A run on a table whose classes are words, and the table."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 120)
    frame = pd.DataFrame({"length": rng.normal(kind * 3, 1), "petals": rng.integers(3, 9, 120)})
    frame["species"] = np.array(["aster", "rose"])[kind]
    frame.to_csv(home / "flowers.csv", index=False)
    words = ("dataset=file", f"dataset.path={home / 'flowers.csv'}", "dataset.label=species")
    return *trained(home, *words), frame


@pytest.fixture
def mlflow(home, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    return mlflow


def test_predict_gives_classes_and_by_one_argument_probabilities(mlflow, digits, flowers):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    model = mlflow.pyfunc.load_model(digits[1])
    classes = model.predict(x)
    assert classes.dtype == int and np.mean(classes == y) > 0.9
    p = model.predict(x, params={"output": "probabilities"})
    assert p.shape == (len(x), 10) and np.allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(axis=1), classes)
    (parameter,) = model.metadata.signature.params.params
    assert (parameter.name, parameter.default) == ("output", "classes")
    with pytest.raises(ValueError, match="output must be classes or probabilities, got 'logits'"):
        model.predict(x, params={"output": "logits"})
    _, address, frame = flowers
    assert set(mlflow.pyfunc.load_model(address).predict(frame)) == {"aster", "rose"}


def test_a_regression_gives_numbers(mlflow, home):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=90), "b": rng.normal(size=90)})
    frame["price"] = 3 * frame.a - frame.b
    frame.to_csv(home / "prices.csv", index=False)
    done, address = trained(home, "dataset=file", f"dataset.path={home / 'prices.csv'}", "dataset.target=price")
    model = mlflow.pyfunc.load_model(address)
    assert model.metadata.signature.params is None and model.predict(frame).shape == (90,)
    scores = mlflow.models.evaluate(address, frame, targets="price", model_type="regressor").metrics
    assert scores["r2_score"] > 0.5 and done.metrics["r2/train"] > 0.5


def test_mlflow_evaluates_the_classifier(mlflow, digits, flowers):
    from sklearn.datasets import load_digits

    _, address, frame = flowers
    scores = mlflow.models.evaluate(address, frame, targets="species", model_type="classifier").metrics
    right = mlflow.pyfunc.load_model(address).predict(frame) == frame["species"]
    assert scores["accuracy_score"] == pytest.approx(np.mean(right)) and np.mean(right) > 0.8
    x, y = load_digits(return_X_y=True)
    scores = mlflow.models.evaluate(digits[1], x, targets=y, model_type="classifier").metrics
    assert scores["accuracy_score"] > 0.9
    assert scores["accuracy_score"] >= min(digits[0].metrics[f"accuracy/{part}"] for part in ("train", "test"))


def test_the_model_is_registered_as_one_version(mlflow, digits):
    done, address = digits
    client = mlflow.MlflowClient()
    (version,) = client.search_model_versions("name = 'digits net'")
    assert version.run_id == done.directory.joinpath("mlflow_run_id").read_text().strip()
    x = np.zeros((1, 64))
    by_name = mlflow.pyfunc.load_model("models:/digits net/1").predict(x)
    np.testing.assert_array_equal(by_name, mlflow.pyfunc.load_model(address).predict(x))


def test_the_runs_table_has_columns_that_runs_fill(mlflow, home):
    """The view is kept as MLflow's interface keeps a shared one, whose names its own code still has."""
    done, _ = trained(home, "epochs=2", "probes=light", "model.depth=3")
    client = mlflow.MlflowClient()
    run = client.get_run(done.directory.joinpath("mlflow_run_id").read_text().strip())
    kept = client.get_experiment(run.info.experiment_id).tags[f"mlflow.sharedViewState.{library.VIEW}"]
    columns = json.loads(kept)["selectedColumns"]
    for column in columns:
        kind, _, name = column.partition(".")
        assert name.strip("`") in getattr(run.data, kind), column
    assert run.data.metrics["gradient_flow/factor"] == pytest.approx(10 ** run.data.metrics["gradient_flow/slope"])
    pages = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
    code = "".join(path.read_text(encoding="utf-8") for path in pages.glob("main.*.js"))
    for word in ('"mlflow.sharedViewState."', '"viewStateShareKey"', '"selectedColumns"', 'e+".`"+t+"`"'):
        assert word in code, word


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tracking.register=a/b",), "tracking.register must be a name without"),
        (("tracking.register=''",), "tracking.register must be a name without"),
        (("tracking.register=net", "tracking.model=false"), "tracking.register needs tracking.model=true"),
    ],
)
def test_a_name_that_cannot_be_registered_is_refused_before_training(home, words, message):
    with pytest.raises(UserError, match=message):
        trained(home, *words)


@pytest.mark.slow
def test_mlflow_serves_rows_of_integers(mlflow, home, digits, flowers):
    """JSON of ints in, ints out; words out where the classes are words; probabilities where they are asked for."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    rows = x[:5].astype(int).tolist()
    with served(home, digits[1]) as ask:
        answer = ask({"inputs": rows})["predictions"]
        assert all(type(value) is int for value in answer) and np.mean(np.array(answer) == y[:5]) >= 0.8
        assert ask({"dataframe_split": {"data": rows}})["predictions"] == answer
        p = ask({"inputs": rows, "params": {"output": "probabilities"}})["predictions"]
        assert np.argmax(p, axis=1).tolist() == answer
    _, address, frame = flowers
    with served(home, address) as ask:
        answer = ask({"dataframe_records": frame.head(4).to_dict("records")})["predictions"]
        assert answer == mlflow.pyfunc.load_model(address).predict(frame.head(4)).tolist()


class served:
    """``mlflow models serve`` as a process; as a context, a function that asks it."""

    def __init__(self, home, address):
        self.home, self.address = home, address

    def __enter__(self):
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["mlflow", "models", "serve", "-m", self.address, "--env-manager", "local", "-p", str(port)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if shutil.which("uvicorn", path=path) is None:
            pytest.skip("uvicorn, which MLflow runs, is not on the path")
        self.log = (self.home / f"serve-{port}.log").open("w+")
        more = {"cwd": self.home, "env": os.environ | {"PATH": path}, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen([sys.executable, "-m", *words], stdout=self.log, **more)
        self.url = f"http://127.0.0.1:{port}/"
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "ping", timeout=2).close()
                return self.ask
            except (OSError, urllib.error.URLError):
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        self.__exit__()
        raise TimeoutError((self.home / f"serve-{port}.log").read_text())

    def __exit__(self, *_):
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout
        self.process.terminate()
        for pid in children.split():
            subprocess.run(["kill", pid], check=False)
        self.process.wait(20)
        self.log.close()

    def ask(self, body):
        request = urllib.request.Request(
            self.url + "invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from error
