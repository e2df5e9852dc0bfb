"""Shared by all tests: no network, no real cache, no environment of the person who runs them."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import OrderedDict
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import settings

from bpx.system.tree import CONF
from bpx.tracking import library

pytest_plugins = ["sweeping"]

settings.register_profile("default", derandomize=True)  # the same cases in every run
settings.register_profile("random", derandomize=False)  # pytest --hypothesis-profile=random: other cases
settings.load_profile("default")

ROOT = Path(__file__).resolve().parent.parent
DATA = os.environ.get("BPX_DATA_DIR")

os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # a server in a test has no jobs: seven processes fewer
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job; what tests start inherits it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def write_own_parts(folder):
    """Write the module and the YAMLs of docs/own_parts.md into a folder, and return the number of YAMLs."""
    page = (ROOT / "docs" / "own_parts.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (folder / "mine.py").write_text("\n\n".join(blocks))
    files = re.findall(r"`(conf/\w+/\w+\.yaml)`.*?\n```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for path, text in files:
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    return len(files)


def thinned(*kinds, every=3):
    """Return every combination as parameters: one in ``every`` in the plain command, the others being slow.

    Any two kinds still meet in all their values, where one of a third has at least ``every``.
    """
    combinations = product(*(list(enumerate(kind)) for kind in kinds))
    return [
        pytest.param(*(value for _, value in one), marks=[pytest.mark.slow] if sum(i for i, _ in one) % every else [])
        for one in combinations
    ]


def composed(*words):
    """Return the configuration that the words compose."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(words))


@pytest.fixture(scope="session", autouse=True)
def compositions():
    """Let Hydra compose the same words once in a row: a command does it twice, the first time to know its mode."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import open_dict

    load, latest = ConfigLoaderImpl.load_configuration, OrderedDict()

    def load_once(self, config_name, overrides, run_mode, from_shell=True, validate_sweep_overrides=True):
        places = " ".join(str(source) for source in self.get_search_path().get_path())
        own = "command-line" in places or any(
            word in text for text in overrides for word in ("hydra.searchpath", "hydra.job", "???")
        )
        key = (config_name, places, *overrides)
        if not own and key in latest:
            if validate_sweep_overrides:
                parsed = OverridesParser.create().parse_overrides(overrides)
                self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
            config = deepcopy(latest[key])
            with open_dict(config.hydra):
                config.hydra.runtime.cwd = os.getcwd()
            return config
        config = load(self, config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        if not own:
            latest[key] = deepcopy(config)
            if len(latest) > 32:
                latest.popitem(last=False)
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigLoaderImpl, "load_configuration", load_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def new_store(tmp_path_factory):
    """Return what makes a SQLite store's tables here: MLflow itself once, which takes seconds, copies from then on."""
    template, create = tmp_path_factory.mktemp("store") / "mlflow.db", library.create_schema

    def copied(uri):
        if not template.exists():
            create(f"sqlite:///{template}")
        shutil.copyfile(template, unquote(uri.removeprefix("sqlite:///")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "create_schema", copied)
        yield copied


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


@dataclass
class Called:
    """What a command did: its exit code, its words, the files that it left."""

    code: int
    out: str
    err: str
    made: list[str]


@contextmanager
def within(seconds):
    """Fail the test after so many seconds, with an exception that no command catches as an error of its own."""

    def late(number, frame):
        pytest.fail(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(home, module, *words, env=None, seconds=300):
    """Run a command of bpx in this process, through Hydra's own runner, with ``home`` as working directory."""
    from hydra.core.global_hydra import GlobalHydra

    out, err, argv, folder, before = io.StringIO(), io.StringIO(), sys.argv, Path.cwd(), dict(os.environ)
    GlobalHydra.instance().clear()
    os.environ.pop("HYDRA_FULL_ERROR", None)
    os.environ.update(env or {})
    os.chdir(home)
    sys.argv = [module, *words]
    main = import_module(f"{module}.__main__" if find_spec(module).submodule_search_locations else module).main
    try:
        with within(seconds), redirect_stdout(out), redirect_stderr(err):
            code = main(list(words)) if signature(main).parameters else main()
    except SystemExit as left:
        code = left.code
    finally:
        sys.argv = argv
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
    return Called(code or 0, out.getvalue(), err.getvalue(), sorted(path.name for path in Path(home).iterdir()))


@pytest.fixture
def called(tmp_path):
    """Run a command of bpx in this process and return what it did."""
    return partial(call, tmp_path)


@pytest.fixture(scope="session")
def command():
    """Run a command of bpx in this process, in another directory, and return what it did as of a process."""

    def run(module, *words, cwd, env=None, timeout=300):
        done = call(cwd, module, *words, env=env, seconds=timeout)
        return subprocess.CompletedProcess([module, *words], done.code, done.out, done.err)

    return run


@pytest.fixture(scope="session")
def process():
    """Run a command of bpx in a process of its own, as a person would, and return what it did."""

    def run(*words, cwd, env=None, timeout=300):
        full = {**os.environ, **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=cwd, env=full, capture_output=True, text=True, timeout=timeout
        )

    return run
