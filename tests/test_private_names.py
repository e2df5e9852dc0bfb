"""Names that other libraries do not document: used in one file a library, still there, with the versions tried."""

import ast
import inspect
import tomllib

import pytest
from conftest import ROOT

from bpx.cli import command
from bpx.sweep import library as optuna_library
from bpx.tracking import library as mlflow_library

PRIVATE_IN = {"bpx/cli/command.py", "bpx/sweep/library.py", "bpx/tracking/library.py"}
FILES = sorted((ROOT / "bpx").rglob("*.py"))


def private(name):
    return name.startswith("_") and not name.startswith("__") and not name.endswith("_")  # Hydra's _target_


def defined(trees):
    """Return every name that bpx itself gives to a function, a class, a variable or an attribute."""
    found = {"_fields", "_make", "_replace", "_exit"}  # of the standard library and its data model
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def foreign(tree, own):
    """Yield the private names of other libraries that a module imports or reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("bpx"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            yield from (name for name in names if private(name))
        elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            yield node.attr


def test_private_names_stand_in_one_file_a_library():
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in FILES}
    own = defined(trees.values())
    found = {path: set(foreign(tree, own)) for path, tree in trees.items()}
    assert {path for path, names in found.items() if names} == PRIVATE_IN
    assert found["bpx/cli/command.py"] == {"_internal"}
    assert found["bpx/tracking/library.py"] == {"_initialize_tables"}
    assert found["bpx/sweep/library.py"] == {"_storage", "_study_id", "_trial_id"}


def test_a_private_name_is_seen():
    tree = ast.parse("from mlflow.utils import _secret\nstudy._cache\nself._own = 1\nself._own")
    assert set(foreign(tree, defined([tree]))) == {"_secret", "_cache"}


def test_the_private_names_are_there():
    import optuna
    from hydra._internal.utils import get_args_parser
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
    from mlflow.utils.request_utils import _get_request_session

    assert get_args_parser().parse_known_args(["a=1"])[0].overrides == ["a=1"]
    assert list(inspect.signature(_initialize_tables).parameters) == ["engine"]
    assert list(inspect.signature(create_sqlalchemy_engine).parameters) == ["db_uri"]
    assert callable(_get_request_session)  # tests/tracking/test_outage.py holds what it is wrapped for
    study = optuna.create_study()
    trial = study.ask()
    assert optuna_library.id_of(optuna_library.trial_of(study, trial.number)) == optuna_library.id_of(trial)
    missing = [name for name in optuna_library.TRANSACTIONS if not hasattr(optuna_library.RDBStorage, name)]
    assert not missing


@pytest.mark.parametrize(
    ("package", "tried"),
    [("hydra-core", command.HYDRA), ("mlflow", mlflow_library.TRIED), ("optuna", optuna_library.TRIED)],
)
def test_no_other_version_is_installed_than_those_tried(package, tried):
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"{package}>={tried[0]},<{tried[1]}" in dependencies
