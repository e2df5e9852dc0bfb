"""python -m bpx.theory: its table, its picture, and its errors in one line."""

import os
import subprocess
import sys

import pytest
from matplotlib.image import imread

from bpx.cli.command import terminal


def theory(directory, *overrides):
    env = os.environ | {"COLUMNS": "120", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-m", "bpx.theory", *overrides],
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
    )


def test_table_and_phase_diagram(tmp_path):
    done = theory(tmp_path, "activation=tanh", "initializer.sigma_w=2", "model.depth=30")
    assert done.returncode == 0, done.stderr
    for number in ("2.12147", "1.36267", "exploding"):
        assert number in done.stdout
    (picture,) = (tmp_path / "outputs" / "theory").glob("*.png")
    assert picture.name in done.stdout
    assert imread(picture).std() > 0.1


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("initializer=zeros", "no answer"),
        ("initializer.sigma_w=-1", "at least 0"),
        ("model.depth=0", "model.depth"),
        ("activation=sine", "tanh"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(tmp_path, override, text):
    done = theory(tmp_path, override)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and text in done.stderr


def test_one_layer_has_no_slope(capsys):
    from bpx.cli.theory import table
    from bpx.engine.activations import ReLU
    from bpx.theory import Architecture, mean_field, predict

    net = Architecture(ReLU(), (100, 100, 100), (0.14, 0.14))
    terminal().print(table(net, 1.4, mean_field(net.activation, 1.4), predict(net, 1.0)))
    said = capsys.readouterr().out
    assert "none: there is one hidden layer" in said and "+0.0000" not in said and "layer there" not in said
