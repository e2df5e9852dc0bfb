"""Who may import whom."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

ALLOWED = {
    "engine": set(),
    "data": set(),
    "records": set(),
    "theory": {"engine"},
    "probes": {"engine", "theory"},
    "training": {"engine", "data", "probes", "records"},
    "tracking": {"records", "engine"},
    "figures": {"records", "theory"},
}
ONLY_IN = {
    "matplotlib": ("figures", "sweep"),
    "mlflow": ("tracking",),
    "optuna": ("sweep",),
    "hydra": (
        "commands.py",
        "config.py",
        "run.py",
        "study.py",
        "sweep",
        "train.py",
        "gradcheck.py",
        "theory/__main__.py",
    ),
}
HEAVY = {"mlflow", "matplotlib", "sklearn", "optuna"}
FILES = sorted((ROOT / "bpx").rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_who_imports_whom(path):
    place = path.relative_to(ROOT / "bpx")
    part = place.parts[0].removesuffix(".py")
    for module in imported(path):
        words = module.split(".")
        if words[0] == "bpx" and len(words) > 1 and part in ALLOWED and place.name != "__main__.py":
            assert words[1] == part or words[1] in ALLOWED[part], f"{place} imports {module}"
        if words[0] in ONLY_IN:
            allowed = any(str(place).startswith(where) for where in ONLY_IN[words[0]])
            assert allowed, f"{place} imports {module}"


def loaded(code):
    words = [sys.executable, "-c", f"import sys\n{code}\nprint(*{{m.split('.')[0] for m in sys.modules}})"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


def test_the_engine_stands_alone():
    modules = loaded("import bpx.engine")
    assert not modules & (HEAVY | {"hydra", "omegaconf", "pandas", "pyarrow", "rich"})


@pytest.mark.parametrize("flags", [["--help"], ["--cfg", "job"]])
def test_help_and_cfg_are_quick(flags):
    code = (
        f"sys.argv = ['bpx.train', *{flags!r}]\nimport contextlib, io\nfrom bpx.train import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    main()"
    )
    assert not loaded(code) & HEAVY
