"""Who may import whom."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

ALLOWED = {  # of bpx itself; a part may always import from itself
    "engine": (),
    "data": ("engine.features", "system"),
    "records": ("system",),
    "theory": ("engine.activations", "engine.numbers"),
    "probes": ("engine", "theory"),
    "diagnosis": ("engine", "probes", "theory", "figures", "records"),
    "system": (),
    "training": ("engine", "data", "probes", "records", "system"),
    "tracking": ("records", "engine.features", "engine.model_files", "system"),
    "figures": ("records", "theory"),
}
ONLY_IN = {
    "matplotlib": ("figures", "sweep"),
    "mlflow": (
        "tracking/mlflow_tracker.py",
        "tracking/delivery.py",
        "tracking/download.py",
        "tracking/store.py",
        "tracking/pyfunc_model.py",
    ),
    "optuna": ("sweep",),
    "hydra": (
        "cli",
        "config.py",
        "runs",
        "sweep",
        "train.py",
        "gradcheck.py",
    ),
}
ENGINE_STANDS_ON = ("numpy", "scipy.linalg.blas", "scipy.special")
HEAVY = {"mlflow", "matplotlib", "sklearn", "optuna"}
FILES = sorted((ROOT / "bpx").rglob("*.py"))


def imported(path):
    """Yield the dotted name of everything that a file imports, inside functions too."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name, places):
    return any(name == place or name.startswith(f"{place}.") for place in places)


def complaints(path, place):
    part = place.parts[0].removesuffix(".py")
    for name in imported(path):
        top, _, rest = name.partition(".")
        if (
            top == "bpx"
            and part in ALLOWED
            and place.name != "__main__.py"
            and not within(rest, (part, *ALLOWED[part]))
        ):
            yield f"{place} imports {name}"
        if top in ONLY_IN and not any(str(place).startswith(where) for where in ONLY_IN[top]):
            yield f"{place} imports {name}"
        foreign = top != "bpx" and top not in sys.stdlib_module_names
        if part == "engine" and foreign and not within(name, ENGINE_STANDS_ON):
            yield f"{place} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_who_imports_whom(path):
    assert not list(complaints(path, path.relative_to(ROOT / "bpx")))


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("engine/x.py", "from bpx import data"),
        ("engine/x.py", "from ..data import Dataset"),
        ("engine/x.py", "import scipy.optimize"),
        ("data/x.py", "def f():\n    import bpx.engine"),
        ("theory/x.py", "from bpx.engine.network import Network"),
        ("records.py", "from bpx.engine import mlp"),
        ("tracking/x.py", "import mlflow.pyfunc"),
        ("training/x.py", "from matplotlib import pyplot"),
    ],
)
def test_a_wrong_import_is_seen(place, line, tmp_path, monkeypatch):
    path = tmp_path / "bpx" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(list(complaints(path, path.relative_to(tmp_path / "bpx")))) == 1


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
