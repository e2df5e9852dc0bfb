"""The gradient check as a command: what it prints, what it leaves, and that it fails where a derivative is wrong."""

import numpy as np
import pytest

from bpx.engine import Dense
from bpx.engine.activations import Tanh

RIGHT = {"slope": Tanh.df, "weights": Dense.backward}


def wrong_slope(self, z, a, out):
    RIGHT["slope"](self, z, a, out)
    out[:, 0] *= 1.001


def wrong_gradient(self, dy):
    out = RIGHT["weights"](self, dy)
    if self.name.startswith("layer_02"):
        self.W.grad[3, 4] += 0.01
    return out


@pytest.mark.parametrize("words", [["+experiment=classification"], ["model=residual_mlp", "normalization=batch"]])
def test_a_composed_network_is_checked(words, tmp_path, command):
    done = command("bpx.gradcheck", *words, cwd=tmp_path, env={"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout  # no number is cut
    assert done.stdout.endswith("the gradient is correct\n") and "layer_01.dense.W" in done.stdout
    (directory,) = (tmp_path / "outputs" / "gradcheck").iterdir()
    assert (directory / "gradcheck.png").stat().st_size > 10_000
    with np.load(directory / "gradcheck.npz") as arrays:
        assert arrays["relative"] < 1e-7 and arrays["lengths"].sum() == len(arrays["analytic"])


def test_gradients_below_round_off_are_reported_as_such(tmp_path, command):
    deep = ["activation=sigmoid", "model.depth=10", "model.width=5", "initializer=normal", "initializer.std=0.1"]
    done = command("bpx.gradcheck", *deep, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    last, unseen = done.stdout.splitlines()[-1], done.stdout.split("whole")[0].count("round-off") - 1
    assert unseen > 1
    assert (
        last
        == f"the gradient is correct where it can be measured: {22 - unseen} of 22 tensors, {unseen} below round-off"
    )


@pytest.mark.parametrize(
    ("owner", "name", "broken", "said"),
    [
        (Tanh, "df", wrong_slope, ["backward of layer_01.activation", "backward of layer_02.activation"]),
        (Dense, "backward", wrong_gradient, ["layer_02.dense.W[3, 4]", "wrong     layer_02.dense.W;"]),
    ],
    ids=["slope", "weights"],
)
def test_a_wrong_derivative_fails_and_is_located(owner, name, broken, said, tmp_path, command, monkeypatch):
    monkeypatch.setattr(owner, name, broken)
    words = ["activation=tanh", "model.width=6", "dataset=classification"]
    done = command("bpx.gradcheck", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "the gradient is WRONG" in done.stdout and all(text in done.stdout for text in said)
    assert "backward of loss" not in done.stdout and "backward of layer_02.dense" not in done.stdout


@pytest.mark.parametrize(
    ("depth", "said"),
    [(14, "step 0, forward: layer_11 dense made "), (6, "a step makes values up to 3.99e+209")],
)
def test_numbers_without_differences_are_no_wrong_derivative(depth, said, tmp_path, command):
    done = command("bpx.gradcheck", "initializer.gain=1e30", f"model.depth={depth}", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: nothing can be checked: {said}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_mistakes_are_one_line(tmp_path, command):
    done = command("bpx.gradcheck", "activation=step", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_fewer_samples_than_the_default_batch_size_are_all_checked(tmp_path, called):
    (tmp_path / "xor.csv").write_text("x1,x2,label\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n")
    words = ["dataset=file", "dataset.path=xor.csv", "dataset.test_size=0", "activation=tanh"]
    done = called("bpx.gradcheck", *words)
    assert done.code == 0 and "the gradient is correct" in done.out, done.err
