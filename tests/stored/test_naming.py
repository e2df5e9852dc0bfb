"""Runs are told apart by their names, which stay short."""

import pytest

from bpx.runs.study import compose
from bpx.stored.keys import EVERYTHING, KEYS, NOTHING, Use, uses
from bpx.stored.naming import MAX_NAME, OUTPUTS, output_folder, parameters, run_name
from bpx.system.errors import UserError
from bpx.system.tree import CONF, flatten

CHOICES = {
    "activation": "sigmoid",
    "initializer": "xavier_normal",
    "dropout": "none",
    "tracking": "mlflow",
    "optimizer": "sgd",
    "model": "residual_mlp",
}


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], ""),
        (["activation=sigmoid", "initializer=xavier_normal", "model.depth=30"], "sigmoid xavier_normal depth=30"),
        (["dropout=none", "++seed=1", "optimizer.lr=0.1"], "seed=1 lr=0.1"),  # there is no dropout by default
        (["model.depth=30", "activation=sigmoid", "model=residual_mlp"], "depth=30 sigmoid residual"),
        (["optimizer.lr=0.01", "epochs=20", "activation=relu", "initializer.gain=null", "progress=true"], ""),
        (["tracking.uri=http://u:p@h", "tracking=none", "progress=false", "hydra.run.dir=x"], ""),
        (["model.hidden=[3,4]", "seed=1"], "hidden=[3,4] seed=1"),
        (
            ["initializer=xavier_normal", "initializer.bias_std=0.25", "epochs=100"],
            "xavier_normal bias_std=0.25 epochs=100",
        ),
        (["initializer=xavier_normal", "initializer.bias_std=0.25", "epochs=100000"], "xavier_normal bias_std=0.25 …"),
    ],
)
def test_a_name_says_what_was_changed(overrides, name):
    assert run_name(CHOICES, overrides) == name


def test_what_differs_comes_first_and_nothing_is_too_long():
    assert run_name({"experiment": "mnist"}, ["+experiment=mnist", "epochs=3"]) == "epochs=3 mnist"
    words = [f"dataset.{key}=/{'far/' * 6}" for key in ("path", "label")]
    assert run_name({"experiment": "mnist"}, words) == f"path=/{'far/' * 6} … mnist"
    long = run_name({}, [f"dataset.path=/{'far/' * 30}"])
    assert len(long) == MAX_NAME and long.endswith("…")


@pytest.mark.parametrize(
    ("key", "used"),
    [
        ("optimizer.lr", EVERYTHING),
        ("tracking.figures", NOTHING),
        ("tracking.uri", Use.RESUMED),
        ("tracking", Use.RESUMED),
        ("hydra/sweeper/sampler", NOTHING),
        ("checkpoint.every", Use.COMPARISON),
        ("dataset.path", EVERYTHING & ~Use.STUDY),
        ("dataset.subset", EVERYTHING),
        ("tracking_of_mine", EVERYTHING),
    ],
)
def test_a_key_is_part_of_what_its_longest_prefix_is(key, used):
    assert uses(key) == used


def test_every_key_of_the_table_exists():
    groups = {path.name for path in CONF.iterdir()}
    known = {*flatten(compose("dataset=file")), *groups, "checkpoint"}
    assert set(KEYS) <= known


@pytest.mark.parametrize("name", ["..", "../x", "/tmp/x", "a/../../x", ".", "", "a\x1bb", "a\nb"])
def test_a_name_that_leads_out_of_outputs_is_refused(name):
    with pytest.raises(UserError, match=r"hydra\.sweeper\.study_name must name a folder inside outputs/") as error:
        output_folder("hydra.sweeper.study_name", name)
    assert "\n" not in str(error.value) and output_folder("experiment", "a/b") == OUTPUTS / "a" / "b"


@pytest.mark.parametrize("group", sorted(path.name for path in CONF.iterdir() if path.is_dir()))
def test_a_parameter_is_what_was_typed(group):
    """Each option of each group, by its own name: ``initializer=critical`` builds LecunNormal."""
    if group in ("experiment", "sweep", "hydra"):
        return
    for path in (CONF / group).glob("*.yaml"):
        more = ["dataset.path=a.csv"] if (group, path.stem) == ("dataset", "file") else []
        assert parameters(compose(f"{group}={path.stem}", *more))[group] == path.stem


def test_an_option_that_was_changed_keeps_its_name_and_one_of_ones_own_its_class():
    assert parameters(compose("initializer.sigma_w=1.3", "initializer=lecun_normal"))["initializer"] == "lecun_normal"
    assert parameters(compose("activation._target_=mine.Wave"))["activation"] == "Wave"
