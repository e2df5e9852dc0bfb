"""The coordinate check: exponents as theory has them, in the standard parametrization and in muP."""

import re

import numpy as np
import pytest

from bpx import coordcheck
from bpx.coordcheck import exponent

WORDS = ("dataset=digits", "model.depth=2", "activation=tanh", "initializer=lecun_normal")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(coordcheck, "WIDTHS", (64, 128, 256))
    monkeypatch.setattr(coordcheck, "WIDE", 0)
    monkeypatch.setattr(coordcheck, "SEEDS", 2)


def test_adam_grows_with_the_width_and_mup_does_not(small, called, tmp_path):
    done = called("bpx.coordcheck", *WORDS, "optimizer=adam")
    assert done.code == 1 and done.err == ""
    powers = {line.split()[1]: [float(p) for p in re.findall(r"n\^(\S+)", line)] for line in done.out.split("\n")
              if line.startswith("│")}  # fmt: skip
    for layer, (z, change, mup_z, mup_change) in powers.items():
        last, first = layer == "layer_03", layer == "layer_01"
        assert abs(z) < 0.1 and abs(mup_z + 0.5 * last) < 0.1  # the last matrix is smaller by 1 / sqrt(n)
        assert (change < 0.2) == first and (first or change > 0.5) and abs(mup_change) < 0.2
    said = done.out.splitlines()
    assert said[-2].startswith("standard  updates grow with the width: layer_02 n^+") and "layer_01" not in said[-2]
    assert said[-1] == "mup       updates keep their size at every width"
    (directory,) = (tmp_path / "outputs" / "coordcheck").iterdir()
    assert (directory / "coordcheck.png").stat().st_size > 10_000
    with np.load(directory / "coordcheck.npz") as arrays:
        assert arrays["mup_change"].shape == arrays["standard_z"].shape == (coordcheck.STEPS + 1, 3, 3)
        np.testing.assert_allclose(arrays["mup_change"][:, 0], arrays["standard_change"][:, 0])  # at base_width


@pytest.mark.slow
def test_mup_configured_is_what_the_exit_code_is_of(small, called):
    done = called("bpx.coordcheck", *WORDS, "optimizer=adam", "initializer=mup", "initializer.gain=1")
    assert done.code == 0 and "standard  updates grow" in done.out


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model.depth=0", "coordcheck needs hidden layers: model.depth must be at least 1, got 0"),
        ("optimizer.lr=-1", "optimizer.lr must be positive"),
    ],
)
def test_mistakes_are_one_line(word, said, called):
    done = called("bpx.coordcheck", "dataset=digits", word)
    assert (done.code, done.out, done.made) == (2, "", [])
    assert said in done.err and done.err.count("\n") == 1


@pytest.mark.slow
def test_updates_that_are_not_finite_are_growth(small, called):
    done = called("bpx.coordcheck", *WORDS, "activation=relu", "optimizer.lr=1e4")
    assert done.code == 1 and "standard  updates grow with the width: layer_01 not finite" in done.out


def test_an_exponent_is_the_slope_of_the_logarithms():
    n = np.array(coordcheck.WIDTHS, float)
    assert exponent(3 * n**-0.5) == pytest.approx(-0.5)
    assert exponent(0 * n) == -np.inf and np.isnan(exponent(n * np.inf))
