"""Who may import whom."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest
from conftest import ROOT

import bpx
from bpx.engine import mlp

ALLOWED = {  # of bpx itself, from the ground up; a room may always import from itself
    "system": (),
    "engine": (),
    "data": ("engine.arrays", "engine.features", "system"),
    "records": ("engine.arrays", "system"),
    "testing": ("engine", "data", "probes"),
    "theory": ("engine.activation", "engine.activations", "engine.arrays", "engine.numbers"),
    "probes": ("engine",),
    "figures": (
        "engine.activation",
        "engine.activations",
        "engine.arrays",
        "engine.parts",
        "records",
        "system.run_files",
        "system.text",
        "theory",
    ),
    "training": ("engine", "data", "probes", "records", "system"),
    "tracking": ("data.dataset", "records", "engine.features", "engine.model_files", "system"),
    "stored": ("data", "engine.arrays", "engine.building", "records", "system", "tracking.download", "training"),
    "diagnosis": ("engine", "probes", "theory", "figures", "records"),
    "reports": ("engine.arrays", "figures", "records", "stored", "system"),
    "torch": ("engine", "theory", "probes", "diagnosis", "figures", "records", "reports", "tracking", "system"),
    "config": ("engine", "data", "probes", "theory", "training", "tracking", "diagnosis", "system"),
    "cli": ("config", "diagnosis", "engine", "figures", "system", "theory"),
}
ALLOWED["runs"] = (*(set(ALLOWED) - {"torch", "testing"}),)
ALLOWED["sweep"] = (*ALLOWED["runs"], "runs")
FLOORS = 8
ENTRIES = (
    "__init__",
    "__main__",
    "train",
    "gradcheck",
    "coordcheck",
    "compare",
    "export",
    "sync",
)  # import anything, nothing imports them
ONLY_IN = {
    "matplotlib": ("figures", "sweep"),
    "mlflow": (
        "tracking/active_run.py",
        "tracking/experiment.py",
        "tracking/mlflow_tracker.py",
        "tracking/delivery.py",
        "tracking/download.py",
        "tracking/library.py",
        "tracking/pyfunc_model.py",
        "tracking/system_metrics.py",
    ),
    "optuna": ("sweep",),
    "torch": ("torch",),
    "plotly": ("reports",),
    "hydra": ("cli", "config", "runs", "sweep"),
}
ENGINE_STANDS_ON = ("numpy", "scipy.linalg.blas", "scipy.special")
HEAVY = {"mlflow", "matplotlib", "sklearn", "optuna", "plotly"}
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
    room, stem = place.parts[0].removesuffix(".py"), place.stem
    for name in imported(path):
        top, _, rest = name.partition(".")
        if rest == "__version__":
            continue  # a word of the package, no module
        if top == "bpx" and stem != "__main__" and room not in ENTRIES and not within(rest, (room, *ALLOWED[room])):
            yield f"{place} imports {name}"
        elif top == "bpx" and (rest.split(".")[0] in ENTRIES or "__main__" in rest):
            yield f"{place} imports the entry point {name}"
        if top in ONLY_IN and not any(str(place).startswith(where) for where in ONLY_IN[top]):
            yield f"{place} imports {name}"
        foreign = top != "bpx" and top not in sys.stdlib_module_names
        if room == "engine" and foreign and not within(name, ENGINE_STANDS_ON):
            yield f"{place} imports {name}"


def room(name):
    """Return the room of a module, given by its dotted name."""
    return name.split(".")[1] if "." in name else "__init__"


def floors(imports):
    """Return the floor of every room: 0 imports no other, and each stands above all that it imports.

    Raises CycleError where two rooms import each other.
    """
    below = {}
    for name, targets in imports.items():
        if room(name) not in ENTRIES and not name.endswith("__main__"):
            below.setdefault(room(name), set()).update(map(room, targets))
    below = {name: rooms - {name, *ENTRIES} for name, rooms in below.items()}
    floor = {}
    for name in TopologicalSorter(below).static_order():
        floor[name] = max((floor[other] + 1 for other in below[name]), default=0)
    return floor


def module(path):
    """Return a file's dotted name; a package is its own module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def graph(paths):
    """Return what every module imports of the others, inside functions too."""
    known = {module(path): path for path in paths}
    imports = {name: set() for name in known}
    for name, path in known.items():
        for target in imported(path):
            while target and target not in known:
                target = target.rpartition(".")[0]
            if target and target != name:
                imports[name].add(target)
    return imports


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_who_imports_whom(path):
    assert not list(complaints(path, path.relative_to(ROOT / "bpx")))


def test_every_module_has_a_room():
    rooms = {path.relative_to(ROOT / "bpx").parts[0].removesuffix(".py") for path in FILES}
    assert rooms == {*ALLOWED, *ENTRIES}
    assert len(list((ROOT / "bpx").glob("*.py"))) <= 10


def test_the_rooms_stand_on_eight_floors():
    found = floors(graph(FILES))
    assert max(found.values()) + 1 == FLOORS and found["sweep"] == FLOORS - 1


def test_a_two_way_arrow_between_rooms_is_seen():
    with pytest.raises(CycleError):  # without a circle of modules
        floors({"bpx.a.x": {"bpx.b.x"}, "bpx.b.x": set(), "bpx.b.y": {"bpx.a.x"}})


def test_no_import_runs_in_a_circle():
    list(TopologicalSorter(graph(FILES)).static_order())  # raises CycleError


def test_a_circle_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "bpx").mkdir()
    paths = [tmp_path / "bpx" / f"{name}.py" for name in "abc"]
    for path, target in zip(paths, "bca", strict=True):
        path.write_text(f"def f():\n    from bpx.{target} import x\n")
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph(paths)).static_order())


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("engine/x.py", "from bpx import data"),
        ("engine/x.py", "from ..data import Dataset"),
        ("engine/x.py", "import scipy.optimize"),
        ("data/x.py", "def f():\n    import bpx.engine"),
        ("theory/x.py", "from bpx.engine.network import Network"),
        ("records/x.py", "from bpx.engine import mlp"),
        ("tracking/x.py", "import mlflow.pyfunc"),
        ("training/x.py", "from matplotlib import pyplot"),
        ("config/x.py", "def f():\n    from bpx.runs import run"),
        ("cli/x.py", "from bpx.sweep.options import Options"),
        ("reports/x.py", "from bpx.runs.job import RunResult"),
        ("stored/x.py", "from bpx.config import make_plan"),
        ("runs/x.py", "from bpx import train"),
        ("train.py", "from bpx.gradcheck import main"),
        ("compare.py", "from bpx.theory.__main__ import main"),
        ("sync.py", "import optuna"),
        ("figures/x.py", "import torch.nn"),
        ("runs/x.py", "def f():\n    from bpx.torch import diagnose"),
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


def test_nothing_but_its_room_imports_pytorch():
    rooms = "bpx.engine, bpx.data, bpx.theory, bpx.probes, bpx.diagnosis.diagnose, bpx.figures, bpx.records"
    assert "torch" not in loaded(f"import bpx, {rooms}")  # MLflow imports it by itself where it is installed


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


def test_importing_bpx_changes_nothing_in_the_process():
    code = (
        "import logging, os, signal, sys\nsys.argv = ['-m']\n"
        "def state():\n"
        "    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]\n"
        "    return handlers, dict(os.environ), list(logging.root.handlers), os.getcwd()\n"
        "import threadpoolctl\nbefore = state()\nimport bpx, bpx.engine, bpx.theory, bpx.config\n"
        "assert state() == before, state()"
    )
    loaded(code)  # threadpoolctl sets a variable of its own


def test_the_public_names_are_there():
    assert all(hasattr(bpx, name) for name in bpx.__all__) and set(bpx.__all__) <= set(dir(bpx))
    assert bpx.engine.mlp is mlp and not hasattr(bpx, "nonsense")


def test_any_stands_at_the_border_of_other_libraries_alone():
    lines = {
        (path, node.lineno)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "Any"
    }
    assert len(lines) < 60, "give the type: an array, Json, a TypedDict, a Protocol, that of the library"
