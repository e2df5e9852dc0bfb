"""Shared by all tests: no network, no real cache, no environment of the person who runs them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest_plugins = ["sweeping"]

ROOT = Path(__file__).resolve().parent.parent
DATA = os.environ.get("BPX_DATA_DIR")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    for name in ("BPX_DATA_DIR", "MLFLOW_TRACKING_URI", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def mnist_dir():
    if not DATA or not (Path(DATA) / "mnist").is_dir():
        pytest.skip("BPX_DATA_DIR holds no MNIST")
    return Path(DATA)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def command():
    """Run a command of bpx as a person would and return what it did."""

    def run(*words, cwd, env=None, timeout=300):
        full = {**os.environ, **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=cwd, env=full, capture_output=True, text=True, timeout=timeout
        )

    return run
