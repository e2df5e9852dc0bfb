"""What every command says of itself and of mistakes: one line and exit code 2, whatever stands in the way."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["bpx.train", "--depth", "5"],
            "--depth: keys are given as key=value, without dashes; did you mean model.depth?",
        ),
        (["bpx.train", "epochs=1", "-m", "seed=1"], "seed=1: write all key=value side by side"),
        (["bpx.train", "experiment=mnist"], "write +experiment=mnist"),
        (["bpx.train", "sweep=lr"], "write +sweep=lr"),
        (["bpx.train", "lr=0.1"], "unknown key lr; did you mean optimizer.lr?"),
        (["bpx.train", "-m", "hydra.sweeper.x=1"], "hydra.sweeper has: sampler, pruner, objective"),
        (["bpx.train", "hydra.run.dir=afile"], "cannot use afile: File exists"),
        (["bpx.theory"], "cannot use outputs/theory: Not a directory"),
        (["bpx.gradcheck"], "cannot write the run directory outputs/gradcheck"),
        (["bpx", "train"], "the commands are python -m bpx.train"),
        (["bpx.sync"], "takes one run directory"),
    ],
    ids=" ".join,
)
def test_mistakes_are_one_line(words, said, tmp_path, command):
    (tmp_path / "afile").touch()
    (tmp_path / "outputs").touch()
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("bpx", "python -m bpx.gradcheck"),
        ("bpx.train", "python -m bpx.train [+experiment=NAME]"),
        ("bpx.theory", "python -m bpx.theory"),
        ("bpx.gradcheck", "python -m bpx.gradcheck"),
        ("bpx.compare", "python -m bpx.compare"),
        ("bpx.sync", "python -m bpx.sync DIRECTORY"),
        ("experiments", "python -m experiments [seeds=N]"),
    ],
)
def test_help_has_its_own_header(module, said, tmp_path, command):
    done = command(module, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout and (module == "bpx" or done.stdout.startswith(said))
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves_is_no_error(tmp_path):
    words = [sys.executable, "-m", "bpx.gradcheck", "--help"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_no_table_is_cut_where_there_is_no_terminal(capsys, monkeypatch):
    from rich.table import Table

    from bpx.cli.command import terminal

    monkeypatch.setenv("COLUMNS", "40")
    table, row = Table(), [f"{i}.23456789e-100" for i in range(20)]
    table.add_row(*row)
    terminal().print(table)
    assert any(all(number in line for number in row) for line in capsys.readouterr().out.splitlines())
    terminal().print(" ".join(row))
    assert capsys.readouterr().out == " ".join(row) + "\n"
    terminal(quiet=True).print("x")
    assert capsys.readouterr().out == ""
