"""A full disk, a directory that cannot be written: one line that names the path, and what was there stays valid."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from bpx.runs import run as running
from bpx.system import files
from bpx.system.errors import UserError
from bpx.system.tree import CONF
from bpx.training import checkpoint_file

QUICK = ["dataset=classification", "epochs=3", "tracking=none", "tracking.figures=false", "progress=false"]


def train_run(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*QUICK, *words])
    return running.train_run(config, "default", Path("outputs/default"), words, quiet=True)


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Let the run directory be one in which something is in the way."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "run"
    (directory / "config").mkdir(parents=True)
    monkeypatch.setattr(running, "run_directory", lambda parent: directory)
    return directory


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "file",
    [
        "checkpoints/step-0000000075.bpx",
        "checkpoints/rows-000001.bpx",
        "config/config.yaml",
        "gradient_flow.parquet",
        "result.json",
    ],
)
def test_a_full_disk_is_one_line_that_names_the_file(file, prepared, monkeypatch):
    create = files._create

    def full(path, mode):
        return os.open("/dev/full", os.O_WRONLY) if path.name.startswith(f".{Path(file).name}.") else create(path, mode)

    monkeypatch.setattr(files, "_create", full)
    with pytest.raises(UserError) as error:
        train_run()
    assert str(error.value) == f"cannot write {prepared / file}: {os.strerror(errno.ENOSPC)}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_the_metrics(prepared):
    (prepared / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError) as error:
        train_run()
    assert str(error.value) == f"cannot write {prepared / 'metrics.jsonl'}: {os.strerror(errno.ENOSPC)}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_the_log(prepared, capfd):
    (prepared / "train.log").symlink_to("/dev/full")
    with pytest.raises(UserError) as error:
        train_run()
    assert str(error.value) == f"cannot write {prepared / 'train.log'}: {os.strerror(errno.ENOSPC)}"
    assert capfd.readouterr().err == ""


def test_earlier_checkpoints_outlive_a_full_disk(tmp_path, command):
    words = ["bpx.train", *QUICK, "checkpoint.every=1", "model.width=40", "probes=none"]
    assert command(*words, cwd=tmp_path).returncode == 0
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    before = {p.name: p.read_bytes() for p in (directory / "checkpoints").iterdir()}
    limit = len(before["step-0000000075.bpx"]) - 100
    full = [sys.executable, "-m", "bpx.train", f"resume={directory}", "epochs=5"]
    done = subprocess.run(
        full,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (
        done.returncode == 2 and done.stderr.count("\n") == 1 and "step-0000000100.bpx: File too large" in done.stderr
    )
    after = {p.name: p.read_bytes() for p in (directory / "checkpoints").iterdir() if p.name in before}
    assert after == before and not list((directory / "checkpoints").glob(".*"))
    done = command("bpx.train", f"resume={directory}", "epochs=5", cwd=tmp_path)
    assert done.returncode == 0 and "resumed at step 75 of 125" in done.stdout, done.stderr


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, to be mounted with options of one's choice; root alone may have one."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return place

    if os.geteuid() or shutil.which("mount") is None:
        pytest.skip("root alone can mount a disk")
    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", place], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("tracking", "size"), [("none", "400k"), ("mlflow", "1100k"), ("mlflow", "1500k")])
def test_a_disk_that_fills_up_and_gets_space_again(tracking, size, disk, process):
    home = disk(f"size={size}")
    words = [f"tracking={tracking}", "tracking.figures=false", "tracking.model=false", "progress=false"]
    words += ["dataset=classification", "epochs=40", "checkpoint.every=1", "checkpoint.keep=99", "model.width=60"]
    full = process("bpx.train", *words, cwd=home)
    assert full.returncode == 2 and full.stderr.count("\n") == 1, full.stderr
    (directory,) = (home / "outputs" / "default").iterdir()
    assert f"cannot write {directory.relative_to(home)}/" in full.stderr and "No space left" in full.stderr
    kept = sorted((directory / "checkpoints").glob("step-*"))
    assert not list(directory.rglob(".*.bpx.*"))
    for path in kept:
        checkpoint_file.read(path)  # raises where it is damaged
    subprocess.run(["mount", "-o", "remount,size=60m", home], check=True)
    done = process("bpx.train", f"resume={directory}", cwd=home)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert f"resumed at step {int(kept[-1].stem.removeprefix('step-')) if kept else 0} of 1000" in done.stdout
    assert "damaged" not in done.stdout and (directory / "result.json").is_file()


@pytest.mark.parametrize("tracking", ["none", "mlflow"])
def test_a_disk_that_can_only_be_read(tracking, disk, command):
    home = disk("size=1m,ro")
    done = command("bpx.train", *QUICK, f"tracking={tracking}", cwd=home)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == "", done.stderr
    assert ("outputs" if tracking == "none" else "mlflow.db") in done.stderr and not list(home.iterdir())


@pytest.mark.parametrize("place", ["outputs", "outputs/default"])
def test_something_in_the_way_of_the_run_directory(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(place).parent.mkdir(exist_ok=True)
    Path(place).write_text("a file")
    with pytest.raises(UserError, match="cannot write the run directory outputs/default/") as error:
        train_run()
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="there is no /sys here")
@pytest.mark.parametrize(("more", "said"), [(["tracking=none"], "outputs"), ([], "/sys/kernel/mlflow.db")])
def test_a_directory_that_nobody_can_write(more, said, command):
    done = command("bpx.train", "dataset=classification", "epochs=1", *more, cwd="/sys/kernel")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and said in done.stderr and "cannot" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_directory(tmp_path, command):
    tmp_path.chmod(0o555)
    done = command("bpx.train", *QUICK, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "outputs" in done.stderr


def test_what_replaces_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyError), files.replaced(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a"]
    with files.replaced(path) as file:
        file.write(b"new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["checkpoint.every=0"], "checkpoint.every must be at least 1"),
        (["checkpoint.unit=hours"], "checkpoint.unit must be epochs or steps"),
        (["checkpoint.keep=-1"], "checkpoint.keep must be at least 0"),
        (["checkpoint.best=f1"], "checkpoint.best must be null or one of cost/train"),
        (["+checkpoint.foo=1"], "unknown key checkpoint.foo"),
    ],
)
def test_mistakes_about_checkpoints(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=said):
        train_run(*words)
    assert not Path("outputs").exists()


def test_no_checkpoints_where_none_are_wanted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not (train_run("checkpoint.keep=0").directory / "checkpoints").exists()


@pytest.mark.slow
def test_a_full_store_costs_no_trial(disk, process, tmp_path):
    """MLflow's database alone is on a disk that fills up: trials wait for space, none counts as failed."""
    place = disk("size=1000k")
    words = ["-m", "hydra/sweeper=bpx_optuna", "dataset=classification", "dataset.val_size=0.2", "model.width=10"]
    words += ["epochs=2", "optimizer.lr=tag(log,interval(1e-3,1))", f"tracking.uri=sqlite:///{place}/mlflow.db"]
    full = process("bpx.train", *words, "hydra.sweeper.n_trials=60", cwd=tmp_path)
    assert full.returncode == 2 and full.stderr.count("\n") == 1, full.stderr
    assert "full" in full.stderr or "No space left" in full.stderr
    subprocess.run(["mount", "-o", "remount,size=60m", place], check=True)
    (table,) = tmp_path.glob("outputs/*/trials.csv")
    ended = table.read_text().count("finished")
    done = process("bpx.train", *words, f"hydra.sweeper.n_trials={ended + 2}", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert table.read_text().count("finished") == ended + 2
    assert not {"failed", "crashed"} & set(table.read_text().replace("\n", ",").split(","))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["12k", "200k", "1200k"])
def test_a_sweep_whose_disk_fills_up_goes_on_when_there_is_space(size, disk, process):
    home = disk(f"size={size}")
    words = ["-m", "hydra/sweeper=bpx_optuna", "dataset.val_size=0.2", "model.width=10", "epochs=2"]
    words += ["optimizer.lr=tag(log,interval(1e-3,1))", f"tracking={'mlflow' if size == '1200k' else 'none'}"]
    full = process("bpx.train", *words, "hydra.sweeper.n_trials=60", cwd=home)
    assert full.returncode == 2 and full.stderr.count("\n") == 1, full.stderr
    assert "No space left" in full.stderr or "disk is full" in full.stderr
    subprocess.run(["mount", "-o", "remount,size=60m", home], check=True)
    done = process("bpx.train", *words, "hydra.sweeper.n_trials=8", cwd=home)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (journal,) = home.glob("outputs/*/optuna.journal")
    assert all(map(json.loads, journal.read_bytes().splitlines())) and not list(journal.parent.glob("*.worker-*"))


def test_less_address_space_than_libraries_need_is_one_line(called, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (900_000 * 1024, 900_000 * 1024))
    done = called("bpx.train", "dataset=digits")
    assert (done.code, done.made) == (2, [])
    assert done.err == "error: ulimit -v 900000: at least 1200000 (kB of address space) are needed\n"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["model.width=9000", "model.depth=3"], ["model.width=3000", "model.depth=40"]])
def test_too_little_address_space_is_one_line(words, process, tmp_path):
    limit = (resource.RLIMIT_AS, (2_500_000 * 1024,) * 2)  # ulimit -v 2500000
    command = [sys.executable, "-m", "bpx.train", "dataset=digits", *words, "max_steps=2", "tracking=none"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(*limit),
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: out of memory (")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root becomes somebody else")
@pytest.mark.parametrize("hidden", [".", "delivery.json"])
def test_a_run_directory_that_cannot_be_read_is_one_line(hidden, process, tmp_path):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*nobody, sys.executable, "-c", "import bpx"], cwd="/", capture_output=True).returncode:
        pytest.skip("nobody else can run this interpreter")
    words = ["dataset=digits", "epochs=1", "probes=none", "tracking.figures=false", "progress=false"]
    assert process("bpx.train", *words, cwd=tmp_path).returncode == 0
    (directory,) = tmp_path.glob("outputs/default/*")
    for folder in (tmp_path, *tmp_path.parents[: len(tmp_path.parts) - 2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (directory / hidden).chmod(0o600)
    command = [*nobody, sys.executable, "-m", "bpx.sync", str(directory)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert str(directory) in done.stderr and "Permission denied" in done.stderr
