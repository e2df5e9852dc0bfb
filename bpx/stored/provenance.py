"""Provenance: the command, code version, libraries and machine of a run, in ``provenance.json`` and as tags."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bpx import __version__
from bpx.system.files import Json, leaves, write_json
from bpx.system.run_files import PROVENANCE
from bpx.system.text import masked
from bpx.system.tree import PACKAGE
from bpx.training import numerics_fingerprint

PACKAGES = {"SciPy": "scipy", "MLflow": "mlflow", "Hydra": "hydra-core", "Optuna": "optuna"}
GIT_WITHIN = 5.0  # seconds


def provenance() -> Json:
    """Return the provenance of a run of this process.

    Keys: ``command``, ``user``, ``git`` (commit, branch and whether the tree is dirty, of the working tree that holds
    bpx, else of the working directory; absent outside of any), ``bpx``, ``Python``, the libraries' versions, ``BLAS``
    with its kernel, ``threads``, ``CPU``, ``cores``, ``system``.
    """
    versions = {name: found for name, package in PACKAGES.items() if (found := _version(package))}
    numerics = numerics_fingerprint()
    git = _git(os.getcwd())
    return {
        "command": masked(shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])),
        "user": _user(),
        **({"git": dict(git)} if git else {}),
        "bpx": __version__,
        "Python": platform.python_version(),
        "NumPy": numerics["NumPy"],
        **versions,
        "BLAS": numerics["BLAS"],
        "threads": numerics["threads"],
        "CPU": _cpu(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
    }


def write_provenance(directory: Path) -> dict[str, str]:
    """Write a run's ``provenance.json`` and return MLflow's tags of it; a resumed run is listed under ``resumed``."""
    now, before = provenance(), read_provenance(directory)
    kept = before | {"resumed": [*before.get("resumed", ()), now]} if before else now
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / PROVENANCE, kept)
    return source_tags(kept)


def read_provenance(directory: Path) -> Json:
    """Return a run's provenance, empty if it cannot be read."""
    with suppress(OSError, ValueError):
        held = json.loads((directory / PROVENANCE).read_text(encoding="utf-8"))
        return held if isinstance(held, dict) else {}
    return {}


def source_tags(held: Json) -> dict[str, str]:
    """Return MLflow's source and user tags."""
    git = held.get("git", {})
    tags = {
        "mlflow.source.name": _program(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": git.get("commit", ""),
        "mlflow.source.git.branch": git.get("branch", ""),
        "mlflow.source.git.dirty": git.get("dirty", ""),
        "mlflow.user": held.get("user", ""),
    }
    return {key: value for key, value in tags.items() if value}


def provenance_differences(runs: Sequence[Json]) -> dict[str, list[str]]:
    """Return the entries of provenance in which runs differ, commands excluded; – if a run has no such entry."""
    flat = [
        {key: str(value) for key, value in leaves(run) if key.partition(".")[0] not in ("command", "resumed")}
        for run in runs
    ]
    rows = {key: [run.get(key, "–") for run in flat] for key in dict.fromkeys(key for run in flat for key in run)}
    return {key: row for key, row in rows.items() if len(set(row)) > 1}


@cache
def _git(folder: str) -> Mapping[str, str]:
    """Return commit, branch and state of the working tree of bpx, else that of ``folder``; empty without one."""
    for place in (str(PACKAGE), folder):
        if place == str(PACKAGE) and not _ask_git(place, "ls-files", "__init__.py"):
            continue  # bpx is installed, perhaps in an environment inside an unrelated working tree
        commit = _ask_git(place, "rev-parse", "HEAD")
        if commit:
            changed = _ask_git(place, "status", "--porcelain", "--untracked-files=no")
            branch = _ask_git(place, "rev-parse", "--abbrev-ref", "HEAD")
            return {"commit": commit, "branch": branch, "dirty": "true" if changed else "false"}
    return {}


def _ask_git(folder: str, *words: str) -> str:
    command = ["git", "-c", "core.fsmonitor=false", "-C", folder, *words]  # which would run a program of the tree
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_WITHIN, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _program() -> str:
    """Return the name of the program: the module under ``python -m``, else the script."""
    words = sys.orig_argv
    return words[words.index("-m") + 1] if "-m" in words[:-1] else Path(sys.argv[0] or "python").name


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name
        return ""


@cache
def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
