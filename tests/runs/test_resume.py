"""A run that was stopped goes on, and ends where it would have ended."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir

from bpx import records
from bpx.compare import compare
from bpx.records.records import COLUMNS
from bpx.runs.resume import find_run_to_resume
from bpx.runs.run import send_rest, train_run
from bpx.system.errors import UserError
from bpx.system.interrupts import Interrupted
from bpx.system.tree import CONF
from bpx.tracking import LocalTracker

WORDS = [
    *("epochs=6", "max_steps=null", "batch_size=8", "optimizer=adam", "dropout=inverted", "dropout.rate=0.2"),
    *("normalization=batch", "probes=light", "dataset.val_size=0.2", "progress=false", "tracking.figures=false"),
    *("tracking.model=false", "checkpoint.every=50", "checkpoint.unit=steps", "checkpoint.best=cost/val"),
]
LOCAL = [*WORDS, "tracking=none"]


def the_run(home, *but):
    (directory,) = {p.parent.parent for p in (home / "outputs").glob("*/*/config/config.yaml")} - set(but)
    return directory


def numbers(directory):
    """Everything a run computed, but for the time that it took."""
    metrics = {}
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        for name, value in record["metrics"].items():
            assert (record["step"], name) not in metrics, "logged twice"
            if name != "time/train_seconds":
                metrics[record["step"], name] = value
    model = np.load(directory / "model.npz")
    rows = records.read(directory / "gradient_flow.parquet")
    columns = [getattr(rows, name).tolist() for name in COLUMNS[:-1]]
    return metrics, {name: model[name].tobytes() for name in model}, columns, rows.value.tobytes(), rows.about


@pytest.fixture(scope="module")
def whole(tmp_path_factory, command):
    """A run that was never touched."""
    home = tmp_path_factory.mktemp("whole")
    done = command("bpx.train", *LOCAL, cwd=home)
    assert done.returncode == 0, done.stderr
    return the_run(home)


def stopped(home, whole, step):
    """A copy of the untouched run as it would lie there, had it been killed behind a checkpoint."""
    directory = home / "outputs" / "default" / "stopped"
    shutil.copytree(whole, directory)
    for path in (directory / "checkpoints").glob("*.bpx"):
        kind, _, number = path.stem.partition("-")
        if (kind == "step" and int(number) > step) or kind == "best":
            path.unlink()
    for name in ("result.json", "gradient_flow.parquet", "model.npz"):
        (directory / name).unlink()
    return directory


@pytest.fixture
def resume(tmp_path, monkeypatch, capsys):
    """Resume a run in this process, as the command would in one of its own."""

    def go_on(directory, *more):
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        code, errors = 0, ""
        try:
            again = find_run_to_resume(str(directory), [f"resume={directory}", *more])
            send_rest(again) if again.outcome else train_run(
                again.config, again.name, again.directory.parent, more, resume_from=again
            )
        except UserError as error:
            code, errors = 2, f"error: {error}\n"
        return SimpleNamespace(returncode=code, stdout=capsys.readouterr().out, stderr=errors)

    return go_on


@pytest.fixture(scope="module")
def kept(tmp_path_factory, command):
    """The untouched run once more, with all of its checkpoints."""
    home = tmp_path_factory.mktemp("kept")
    assert command("bpx.train", *LOCAL, "checkpoint.keep=99", cwd=home).returncode == 0
    return the_run(home)


@pytest.mark.parametrize("step", [50, 150, 450, 863, -1])
def test_a_killed_run_ends_where_the_untouched_one_ends(step, whole, kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, step)
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9999, "met')  # cut off by the kill
    done = resume(directory)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert f"resumed at step {step // 50 * 50 if step > 0 else 0} of 864" in done.stdout
    assert "differ" not in done.stdout
    assert numbers(directory) == numbers(whole)


def test_only_the_newest_and_the_best_are_kept(whole):
    names = sorted(p.name for p in (whole / "checkpoints").iterdir() if not p.name.startswith("rows"))
    assert names == ["best.bpx", "step-0000000850.bpx", "step-0000000864.bpx"]
    best = json.loads((whole / "checkpoints" / "best.bpx").read_bytes().split(b"\n")[1])["facts"]
    costs = {k[0]: v for k, v in numbers(whole)[0].items() if k[1] == "cost/val"}
    assert costs[best["step"]] == best["value"] == min(costs.values())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "rows", "text"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(damage, whole, kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, 200)
    newest = directory / "checkpoints" / "step-0000000200.bpx"
    facts = json.loads(newest.read_bytes().split(b"\n")[1])["facts"]
    bad = directory / "checkpoints" / f"rows-{facts['parts']:06d}.bpx" if damage == "rows" else newest
    content = bytearray(bad.read_bytes())
    content[-9] ^= 1
    bad.write_bytes({"cut": content[:-100], "empty": b"", "text": b"no checkpoint\n"}.get(damage, bytes(content)))
    done = resume(directory)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert f"{bad} is damaged" in done.stdout.replace("\n", "")
    steps = re.findall(r"resumed at step (\d+)", done.stdout)
    assert steps == ["150"] or (damage == "rows" and int(steps[0]) <= 150)
    assert numbers(directory) == numbers(whole)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: b"hello\n", "expected at least"),
        (lambda content: content[:50], "expected at least"),
        (lambda content: b"", "expected at least"),
        (lambda content: b"hello\n" + content, "line 1: expected step, at and metrics"),
        (lambda content: content.replace(b'"step": 2', b'"stop": 2', 1), "expected step, at and metrics"),
        (lambda content: content + b"null\n", "expected step, at and metrics as JSON, got 'null"),
    ],
)
def test_damaged_metrics_are_refused_before_anything_is_changed(damage, said, whole, tmp_path, resume):
    directory = tmp_path / "outputs" / "default" / "finished"
    shutil.copytree(whole, directory)
    path = directory / "metrics.jsonl"
    intact = path.read_bytes()
    path.write_bytes(damage(intact))
    assert path.read_bytes() != intact
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    done = resume(directory, "epochs=7")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"{path} is damaged: " in done.stderr and said in done.stderr
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before
    path.write_bytes(intact)
    assert "resumed at step 864 of 1008" in resume(directory, "epochs=7").stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["optimizer.lr=0.5"], "this changes optimizer.lr 0.001 -> 0.5"),
        (["optimizer=sgd"], "this changes optimizer=sgd"),
        (["seed=1"], "this changes seed 0 -> 1"),
        (["epochs=3"], "more epochs than 6, not fewer"),
        (["epochs=300"], "evaluated every 2 epochs"),
        (["epochs=x"], "epochs must be an integer"),
        (["no.such=1"], "unknown key no.such"),
    ],
)
def test_a_changed_configuration_is_refused(more, said, kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, 100)
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    done = resume(directory, *more)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before


def test_more_epochs_end_where_a_longer_run_ends(whole, tmp_path, command):
    directory = tmp_path / "outputs" / "default" / "finished"
    shutil.copytree(whole, directory)
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    done = command("bpx.train", f"resume={directory}", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 1
    assert "is finished, and nothing is left to do; to train on, give epochs above 6" in done.stdout
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before
    done = command("bpx.train", f"resume={directory}", "epochs=8", cwd=tmp_path)
    assert done.returncode == 0 and "changed: epochs 6 -> 8" in done.stdout, done.stderr
    assert command("bpx.train", *LOCAL, "epochs=8", cwd=tmp_path).returncode == 0
    longer, more = numbers(the_run(tmp_path, directory)), numbers(directory)
    assert more[1:] == longer[1:]
    assert {k: v for k, v in more[0].items() if k not in longer[0]}.keys() == {
        (864, name) for name in ("cost/test", "accuracy/test", "accuracy/train")
    }
    assert {k: v for k, v in more[0].items() if k in longer[0]} == longer[0]


def test_a_schedule_over_the_whole_run_takes_no_more_epochs(tmp_path, command):
    words = ["epochs=1", "schedule=cosine", "tracking=none", "tracking.figures=false"]
    assert command("bpx.train", *words, cwd=tmp_path).returncode == 0
    done = command("bpx.train", f"resume={the_run(tmp_path)}", "epochs=2", cwd=tmp_path)
    assert done.returncode == 2 and "schedule=cosine is laid out over the whole run" in done.stderr


@pytest.mark.parametrize("word", ["nowhere", "0123456789abcdef0123456789abcdef"])
def test_a_run_that_is_not_there(word, tmp_path, resume):
    done = resume(word)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and word in done.stderr


def test_another_threads_count_is_said(kept, tmp_path, command):
    directory = stopped(tmp_path, kept, 850)
    done = command("bpx.train", f"resume={directory}", "threads=2", cwd=tmp_path, env={"OPENBLAS_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr
    assert "the last bits may differ: threads was 1 and is 2" in done.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "  _target_: os.system",
            "optimizer._target_=os.system is not part of bpx; to import its module, give allow=[os]",
        ),
        ("  _target_: bpx.runs.run.os.system", "optimizer._target_=bpx.runs.run.os.system is not part"),
        ("  lr: '${oc.create:{_target_: os.getcwd}}'", "optimizer.lr is an interpolation"),
        ("  lr: ${oc.env:HOME}", "optimizer.lr is an interpolation"),
        ("  ${oc.env:HOME}: 1", "is an interpolation"),
        ("  lr: [0.1, {a: '${seed}'}]", "optimizer.lr.1.a is an interpolation"),
        ("  lr: &a [0.1]\n  momentum: *a", "YAML alias"),
        ("  lr: " + "0" * 2**20, "at most"),
    ],
    ids=lambda text: text[:40],
)
def test_a_configuration_that_would_run_foreign_code_is_refused(line, said, kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, 100)
    config = directory / "config" / "config.yaml"
    text = config.read_text()
    assert "optimizer:\n" in text
    text = re.sub(r"(?m)^  _target_: bpx\.engine\.optimizers\.adam\n|^  lr: .*\n", "", text)
    config.write_text(text.replace("optimizer:\n", f"optimizer:\n{line}\n", 1))
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    done = resume(directory)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before


def test_the_module_of_a_part_of_ones_own_is_allowed_to_be_resumed(kept, tmp_path, resume, monkeypatch):
    directory = stopped(tmp_path, kept, 100)
    config = directory / "config" / "config.yaml"
    config.write_text(config.read_text().replace("bpx.engine.optimizers.adam", "my_parts.my_adam"))
    (tmp_path / "my_parts.py").write_text("from bpx.engine.optimizers import adam as my_adam\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = resume(directory)
    assert done.returncode == 2 and "to import its module, give allow=[my_parts]" in done.stderr
    done = resume(directory, "allow=[my_parts]")
    assert done.returncode == 0 and "resumed at step 100" in done.stdout, done.stderr


@pytest.mark.parametrize("place", ["model.json", "train.log", "config", "checkpoints/rows-000001.bpx", "metrics.jsonl"])
def test_a_link_in_a_run_directory_is_refused(place, kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, 100)
    victim, path = tmp_path / "victim", directory / place
    path.rename(victim) if path.exists() else victim.write_text("mine")
    path.symlink_to(victim)
    before = victim.read_bytes() if victim.is_file() else None
    done = resume(directory)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is a link to" in done.stderr, done.stderr
    assert before is None or victim.read_bytes() == before


def test_a_spool_that_asks_for_files_from_elsewhere_is_refused(kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, 100)
    target = {"uri": f"sqlite:///{tmp_path / 'x.db'}", "experiment": "1", "run": "a" * 32}
    for path in ("/etc/passwd", "../../../secret"):
        held = {"format": 1, "target": target, "sent": 0, "todo": [["artifact", path, ""]]}
        (directory / "delivery.json").write_text(json.dumps(held))
        done = resume(directory)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "is outside of" in done.stderr, done.stderr
    assert not (tmp_path / "x.db").exists()


def test_a_run_is_not_gone_on_with_on_other_data(tmp_path, command):
    rng = np.random.default_rng(0)

    def write(shift):
        rows = [f"{a + shift},{b},{int(a > b)}" for a, b in rng.random((200, 2))]
        (tmp_path / "my.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")

    write(0)
    words = ["dataset=file", "dataset.path=my.csv", "epochs=2", "tracking=none", "tracking.figures=false"]
    assert command("bpx.train", *words, cwd=tmp_path).returncode == 0
    directory = the_run(tmp_path)
    (directory / "result.json").unlink()
    write(1)
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    for damage in (None, b"", b"{}"):
        if damage is not None:
            (directory / "dataset.json").write_bytes(damage)
            before[directory / "dataset.json"] = damage
        done = command("bpx.train", f"resume={directory}", cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and done.stdout == "", done
        said = "was begun on my.csv (sha256" if damage is None else "the data of the run are not known"
        assert said in done.stderr
        after = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != ".lock"}
        assert after == {p: c for p, c in before.items() if p.name != ".lock"}


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_makes_no_later_one_vanish(keep, whole, kept, tmp_path, resume, monkeypatch):
    directory = stopped(tmp_path, kept, 400)
    for path in sorted((directory / "checkpoints").glob("step-*"))[:-1]:
        path.unlink()
    newest = directory / "checkpoints" / "step-0000000400.bpx"
    newest.write_bytes(newest.read_bytes()[:-100])
    reached = []
    for _ in range(3):
        monkeypatch.setattr(Stopper, "seen", 0)
        again = find_run_to_resume(str(directory), [f"resume={directory}", f"checkpoint.keep={keep}"])
        monkeypatch.chdir(tmp_path)
        with pytest.raises(Interrupted, match="resumes it"):
            train_run(again.config, "", directory.parent, [], resume_from=again, quiet=True, watcher=Stopper())
        left = sorted((directory / "checkpoints").glob("step-*"))
        assert 1 <= len(left) <= keep
        reached.append(int(left[-1].stem.removeprefix("step-")))
    assert 0 < reached[0] < reached[1] < reached[2] and newest not in left
    done = resume(directory)
    assert f"resumed at step {reached[-1]} of 864" in done.stdout and "is damaged" not in done.stdout
    assert numbers(directory) == numbers(whole)


@pytest.mark.parametrize("behind", [1, 5, 70])
def test_the_last_steps_before_nan_are_told_after_a_resume_too(behind, tmp_path, resume, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*LOCAL, "schedule=exponential", "schedule.factor=1.05", "optimizer=sgd", "checkpoint.keep=9999"]
    words = [w for w in words if w not in ("optimizer=adam", "checkpoint.every=50")] + ["checkpoint.every=1"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*words, "optimizer.lr=0.01", "normalization=none"])
    done = train_run(config, "default", Path("outputs/default"), words, quiet=True)
    told = json.loads((done.directory / "nonfinite.json").read_text())
    at = told["event"]["step"]
    assert done.outcome == "diverged" and len(told["frames"]) == 8 and at > 71
    (done.directory / "result.json").unlink()
    for path in (done.directory / "checkpoints").glob("step-*"):
        if int(path.stem.removeprefix("step-")) > at - behind:
            path.unlink()
    (done.directory / "nonfinite.json").unlink()
    again = resume(done.directory)
    assert again.returncode == 0 and f"resumed at step {at - behind} of" in again.stdout, again
    assert json.loads((done.directory / "nonfinite.json").read_text()) == told


def test_what_a_killed_process_left_half_written_is_removed(kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, 850)
    left = [directory / "checkpoints" / ".step-0000000864.bpx.123", directory / ".delivery.json.99999"]
    for path in left:
        path.write_bytes(b"half")
    assert resume(directory).returncode == 0 and not any(path.exists() for path in left)


@pytest.mark.parametrize("content", [b"", b"- 1", b"a: [", b"\xff\xfe", b"a: ${b}", b"epochs: 3"])
def test_a_damaged_configuration_is_one_line(content, kept, tmp_path, resume):
    directory = stopped(tmp_path, kept, 100)
    (directory / "config" / "config.yaml").write_bytes(content)
    done = resume(directory)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


def begun(home, words, wait=lambda directory: (directory / "checkpoints").is_dir()):
    """Start a run and wait until it has come so far."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bpx.train", *words], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(6000):
        found = list((home / "outputs").glob("*/*/config/config.yaml"))
        if found and wait(found[0].parent.parent):
            return process, found[0].parent.parent
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it does not begin")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_within_two_seconds_and_the_run_goes_on(number, code, tmp_path, command):
    import mlflow

    words = [w for w in WORDS if not w.startswith("epochs")]
    process, directory = begun(tmp_path, [*words, "epochs=40"])
    start = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - start < 2
    assert process.returncode == code
    assert said == f"interrupted; `python -m bpx.train resume={directory.relative_to(tmp_path)}` resumes it\n"
    assert not (directory / "figures").exists() and not (directory / "result.json").exists()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = (directory / "mlflow_run_id").read_text().strip()
    run = client.get_run(run_id)
    assert run.info.status == "KILLED" and run.data.tags["bpx.outcome"] == "interrupted"
    done = command("bpx.train", f"resume={run_id}", cwd=tmp_path)
    assert done.returncode == 0 and "resumes it" not in done.stderr, done.stderr
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.tags["bpx.outcome"] == "finished"
    history = client.get_metric_history(run_id, "cost/val")
    assert [m.step for m in history] == [144 * e for e in range(1, 41)]
    assert len(client.search_runs([run.info.experiment_id])) == 1


@pytest.mark.slow
def test_a_reader_that_goes_away_stops_the_run_as_a_signal_does(tmp_path, command):
    import mlflow

    words = " ".join([*WORDS, "epochs=400", "progress=true"])
    line = f"{sys.executable} -m bpx.train {words} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    directory = the_run(tmp_path)
    assert done.returncode == 141 and done.stdout.count("\n") == 1
    place = directory.relative_to(tmp_path)
    assert done.stderr == f"interrupted; `python -m bpx.train resume={place}` resumes it\n"
    run = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_run(
        (directory / "mlflow_run_id").read_text().strip()
    )
    assert run.info.status == "KILLED" and list((directory / "checkpoints").glob("step-*"))
    assert (directory / "gradient_flow.parquet").is_file() and not (directory / "result.json").exists()


@pytest.mark.slow
def test_a_terminal_without_letters_and_a_resume_from_elsewhere(tmp_path, command, process):
    """What ascii cannot say is escaped; the spool knows the store, wherever the command is given."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    words = [*WORDS, "epochs=1", "activation=sigmoid", "model.depth=20"]
    done = process("bpx.train", *words, cwd=here, env=env)
    assert done.returncode == 0 and done.stderr == "" and "\\xd7" in done.stdout, done.stderr
    directory = the_run(here)
    done = command("bpx.train", f"resume={directory}", "epochs=2", cwd=there)
    assert done.returncode == 0 and f"tracked in sqlite:///{here}/mlflow.db" in done.stdout, done
    assert not list(there.iterdir())


class Stopper:
    """Follow a run, and send this process a signal at the third record."""

    tags = property(lambda self: {})
    seen = 0

    def started(self, run_id, directory, dataset):
        pass

    def observed(self, metrics):
        self.seen += 1
        if self.seen == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return False


@pytest.mark.parametrize(
    ("keep", "said"),
    [(2, "interrupted; `{}` resumes it"), (0, "interrupted without a checkpoint; `{}` starts over")],
)
def test_a_stopped_run_has_its_record_and_ends_where_the_untouched_one_ends(
    keep, said, whole, tmp_path, resume, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*LOCAL, f"checkpoint.keep={keep}"])
    with pytest.raises(Interrupted) as stopped_by:
        train_run(config, "default", Path("outputs/default"), LOCAL, quiet=True, watcher=Stopper())
    directory = the_run(tmp_path)
    assert stopped_by.value.number == signal.SIGTERM
    assert str(stopped_by.value) == said.format(f"python -m bpx.train resume={directory.relative_to(tmp_path)}")
    rows, all_rows = (records.read(d / "gradient_flow.parquet") for d in (directory, whole))
    reached = rows.step.max()
    assert 0 < reached < all_rows.step.max() and rows.about["finding"]["verdict"] == "healthy"
    assert rows.about["final"] is None
    assert len(rows.step) == (all_rows.step <= reached).sum()
    assert [p.name for p in directory.glob("gradient_flow*")] == ["gradient_flow.parquet"]
    compare([str(directory), str(whole)])
    assert list((tmp_path / "outputs" / "compare").glob("*.png"))
    done = resume(directory)
    assert done.returncode == 0 and f"resumed at step {reached + 1 if keep else 0}" in done.stdout, done
    assert numbers(directory) == numbers(whole)


@pytest.mark.parametrize("place", ["conclude", "finish"])
def test_a_run_stopped_while_it_closes_goes_on_too(place, whole, tmp_path, resume, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=LOCAL)
    act, said = getattr(LocalTracker, place), []

    def stopped_at_first(self, outcome, *more, **options):
        said.append(outcome)
        if len(said) == 1:
            raise KeyboardInterrupt
        act(self, outcome, *more, **options)

    monkeypatch.setattr(LocalTracker, place, stopped_at_first)
    with pytest.raises(Interrupted, match="resumes it" if place == "conclude" else "the run has ended"):
        train_run(config, "default", Path("outputs/default"), LOCAL, quiet=True)
    assert said[0] == "finished"
    directory = the_run(tmp_path)
    assert (directory / "result.json").exists() == (place == "finish")
    done = resume(directory)
    again = "resumed at step 864 of 864" if place == "conclude" else "is finished, and nothing is left to do"
    assert done.returncode == 0 and again in done.stdout, done
    assert numbers(directory) == numbers(whole)


@pytest.mark.slow
def test_a_signal_during_a_measurement_of_minutes_stops_within_two_seconds(tmp_path):
    words = ["dataset=gaussian", "dataset.n_in=1000", "dataset.n_out=500", "model.width=1500", "model.depth=12"]
    words += ["probes=none", "probes.jacobian=1", "tracking=none", "progress=false"]  # 500 backward passes at step 0
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-m", "bpx.train", *words], cwd=tmp_path, **pipes)
    end = time.monotonic() + 60
    while not any("run directory" in log.read_text() for log in tmp_path.glob("outputs/*/*/train.log")):
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(2)
    assert process.poll() is None
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - start < 2 and process.returncode == 143
    assert "interrupted" in errors and errors.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="there is no /proc here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["bpx.train", "bpx.compare", "experiments.vanishing_gradients"])
def test_a_signal_before_anything_is_begun_leaves_no_traceback(module, number, tmp_path):
    for delay in (0, 0.05, 0.15):
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        with open(f"/proc/{process.pid}/maps") as maps:
            while "numpy" not in maps.read():  # it is importing
                assert process.poll() is None
                maps.seek(0)
        time.sleep(delay)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, said) in [(-number, ""), (128 + number, "interrupted\n")]
    assert not list(tmp_path.iterdir())


def test_a_second_signal_stops_at_once(tmp_path):
    process, _ = begun(tmp_path, [*LOCAL, "epochs=100000"])
    os.kill(process.pid, signal.SIGSTOP)  # so that both are there before the step ends
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(10) in (-signal.SIGTERM, -signal.SIGINT, 130, 143)
    process.communicate()


@pytest.mark.slow
def test_a_killed_process_is_noticed_and_its_run_goes_on(tmp_path, command):
    import mlflow

    words = [w for w in WORDS if not w.startswith("epochs")]
    process, directory = begun(tmp_path, [*words, "epochs=120"])
    busy = command("bpx.train", f"resume={directory}", cwd=tmp_path)
    assert busy.returncode == 2 and "another process is writing into it" in busy.stderr
    process.kill()
    process.communicate()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = (directory / "mlflow_run_id").read_text().strip()
    assert client.get_run(run_id).info.status == "RUNNING"
    done = command("bpx.train", "epochs=1", "tracking.figures=false", "tracking.model=false", cwd=tmp_path)
    assert f"{directory.name} was left by a process that died: it is KILLED now" in done.stdout
    assert client.get_run(run_id).info.status == "KILLED"
    done = command("bpx.train", f"resume={directory}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert client.get_run(run_id).info.status == "FINISHED"
    for name in ("cost/val", "cost/train", "lr"):
        steps = [m.step for m in client.get_metric_history(run_id, name)]
        assert steps == sorted(set(steps)), f"{name} has gaps or repeats"


def test_latest_is_the_run_that_was_begun_last(called, tmp_path):
    assert "there is no run under outputs/" in called("bpx.train", "resume=latest").err
    for lr in (0.01, 0.02):
        called("bpx.train", f"optimizer.lr={lr}", "epochs=1", "tracking=none", "tracking.figures=false")
    done = called("bpx.train", "resume=latest", "epochs=2")
    assert (done.code, done.err) == (0, "")
    epochs = {c.read_text().count("epochs: 2") for c in tmp_path.glob("outputs/*/*/config/config.yaml")}
    rates = [c for c in tmp_path.glob("outputs/*/*/config/config.yaml") if "epochs: 2\n" in c.read_text()]
    assert epochs == {0, 1} and [re.search(r"lr: (\S+)", c.read_text())[1] for c in rates] == ["0.02"]
