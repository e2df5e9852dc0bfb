"""How often the 95 % band of freshly drawn networks holds, by benchmarks/coverage.py: three of its cells."""

import runpy
from pathlib import Path

import pytest

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "normalization", "loss"),
    [
        ("tanh", "none", "softmax_cross_entropy"),
        ("relu", "none", "softmax_cross_entropy"),
        ("relu", "layer", "mean_squared_error"),
    ],
)
def test_the_band_holds_with_shortcuts(activation, normalization, loss):
    cell = {
        "activation": activation, "normalization": normalization, "model": "residual_mlp", "shape": "20x100",
        "data": "gaussian", "loss": loss,
    }  # fmt: skip
    share, *_ = BENCHMARK["coverage"](200, 5_000_000, cell).split()
    assert 0.90 <= float(share) <= 0.99  # 200 networks: three standard errors of 0.015
