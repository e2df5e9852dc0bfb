"""What every command says of itself and of mistakes: one line and exit code 2, whatever stands in the way."""

import shlex
import signal
import subprocess
import sys
import typing
from importlib import import_module

import pytest
from conftest import ROOT

import bpx
from bpx.__main__ import main
from bpx.cli import overrides
from bpx.cli.help import GROUPS, help_page
from bpx.config.calls import KINDS, check_type, target
from bpx.runs.study import compose
from bpx.system.errors import UserError
from bpx.system.tree import flatten, load_option, options_of


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["bpx.train", "--depth", "5"],
            "--depth: keys are given as key=value, without dashes; did you mean model.depth?",
        ),
        (["bpx.train", "optimizer=[1,2]"], "optimizer must be one of adam, adamw"),
        (["bpx.train", "++hydra.sweeper.params={a:1}", "-m", "seed=1,2"], "hydra.sweeper.params"),
        (["bpx.train", "experiment=mnist"], "write +experiment=mnist"),
        (["bpx.train", "sweep=lr"], "write +sweep=lr"),
        (["bpx.train", "lr=0.1"], "unknown key lr; did you mean optimizer.lr?"),
        (["bpx.train", "-m", "hydra.sweeper.x=1"], "hydra.sweeper has: sampler, pruner, objective"),
        (["bpx.train", "hydra.run.dir=afile"], "hydra.run.dir has no effect: every run has its own directory"),
        (["bpx.theory"], "cannot use outputs/theory: Not a directory"),
        (["bpx.gradcheck"], "cannot write the run directory outputs/gradcheck"),
        (["bpx", "nosuch"], "bpx nosuch: there is no such command; known are train, theory"),
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
        ("bpx", "bpx gradcheck"),
        ("bpx.train", "python -m bpx.train [+experiment=NAME]"),
        ("bpx.theory", "python -m bpx.theory"),
        ("bpx.gradcheck", "python -m bpx.gradcheck"),
        ("bpx.coordcheck", "python -m bpx.coordcheck"),
        ("bpx.compare", "python -m bpx.compare"),
        ("bpx.figures", "python -m bpx.figures RUN"),
        ("bpx.sync", "python -m bpx.sync DIRECTORY"),
        ("experiments", "python -m experiments [NAME ...] [seeds=N]"),
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


REFUSED = [
    ("activation=true", "activation must be one of elu"),
    ("activation=3.5", "activation must be one of elu"),
    ("optimizer=${oc.decode:'[1,2]'}", "optimizer must be one of adam"),
    ("hydra.verbose=1", "hydra.verbose must be true, false"),
    ("threads=99999999999999999999", "threads must be at most 1024"),
    ("++model._target_=bpx.engine.optimizers.sgd", "model: sgd() got an unexpected keyword"),
    ("++activation._target_=bpx.engine.optimizers.sgd", "activation._target_ must build what ActivationFunction is"),
    ("++loss._target_=bpx.engine.optimizers.MAX", "loss._target_=bpx.engine.optimizers.MAX cannot be imported"),
    ("dataset._target_=builtins.dict", "dataset._target_ must be a class or a function, got <class 'dict'>"),
    ('tracking.uri="http://[::1"', "tracking.uri: http://[::1 is not a valid address"),
    ("tracking.experiment=''", "tracking.experiment must be a name"),
    ("tracking=none tracking.experiment=x", "unknown key tracking.experiment; tracking=mlflow has it"),
    ("optimizer.momentum=0.5", "unknown key optimizer.momentum; optimizer=momentum or nesterov has it"),
    ("-m model.depth=range(0,1e9)", "model.depth: 1,000,000,000 combinations are more than 10,000"),
    ("-m model.depth=range(3,1)", "model.depth: the range is empty"),
    ("-m model.depth=range(0,inf)", "model.depth=range(0,inf): the range has no end"),
    ("-m optimizer=glob(x*)", "optimizer: no option matches"),
    ("-m seed=glob(*)", "seed: no option matches"),
    ("-m optimizer=glob(*) dropout.name=x", "dropout.name must be inverted or none, got x"),
    ("-m optimizer.lr=interval(0,1)", "optimizer.lr=interval(0,1): interval needs a search: hydra/sweeper=bpx_optuna"),
    ("-m seed=choice(-1,1)", "seed must be at least 0, got -1"),
    ("-m optimizer=momentum,adam optimizer.momentum=choice(0.5,0.9)", "optimizer=adam has no key momentum: sweep"),
    ("-m hydra.sweep.subdir=x seed=1,2", "hydra.sweep.subdir has no effect"),
    ("-m hydra.sweep.dir=x seed=1,2", "hydra.sweep.dir has no effect"),
    ("-m dataset=file seed=1,2", "dataset.path must name an npz, csv, tsv or data file"),
    ("-m dataset=digits batch_size=32,2000", "batch_size must be at most the 1437 training samples, got 2000"),
    ("-m dataset=digits dataset.train_size=100,5000", "dataset.train_size must be at most the 1437 training samples"),
    ("-m dataset=digits schedule=plateau,constant", "schedule=plateau follows cost/val, and dataset digits has no"),
    ("-m dataset=gaussian loss=softmax_cross_entropy seed=1,2", "dataset gaussian has numbers as targets: use loss="),
    ("model.depth=${oops}", "model.depth: Interpolation key 'oops' not found"),
    ("batch_size='???'", "Missing mandatory value: batch_size"),
    ("~dropout.rate", "dropout.rate is missing"),
    ("~optimizer", "optimizer must be one of"),
    ("dataset=digits model=rnn ~activation._target_", "activation._target_ must be a word, got null"),
    ("dataset=digits normalization=layer normalization.name=7", "unknown normalization '7': known are none, batch"),
    ("dataset=digits normalization.name=[3,4]", "unknown normalization '[3, 4]': known are"),
    ("++hydra.sweeper.params={a:1}", "hydra.sweeper.params needs a search, hydra/sweeper=bpx_optuna"),
    ("foo.bar=1", "more); see --help"),
    ("-m dataset=digits optimizer=sgd,adam optimizer.momentum=0.5", "when: {optimizer: momentum}}}"),
    ("-m dataset=digits optimizer=momentum,nesterov optimizer.momentun=0.5", "unknown key optimizer.momentun; did you"),
    (
        "hydra/sweeper=bpx_optuna -m hydra.sweeper.params={seed:{space:1,when:{a:b}}}",
        "new keys of a mapping need a plus: '+hydra.sweeper.params={seed:{space:1,when:{a:b}}}'",
    ),
    (
        "dataset=file dataset.path=Ä(1).csv",
        """dataset.path: Ä(1).csv needs quotes: 'dataset.path="Ä(1).csv"'""",
    ),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words for words, _ in REFUSED])
def test_what_is_wrong_is_known_before_anything_is_made(words, said, called):
    done = called("bpx.train", *words.split())
    assert (done.code, done.err.count("\n"), done.made) == (2, 1, [])
    assert done.err.startswith("error: ") and said in done.err


@pytest.mark.parametrize(
    "text", ["Übung/größe.csv", "a (1) [x].csv", "it's {x}.csv", "a,b=c.csv", 'b\\s".csv', 'e\\"\\', "${x"]
)
def test_the_quoting_that_is_shown_works_when_it_is_pasted(text):
    with pytest.raises(UserError, match="needs quotes: ") as error:
        overrides.parse(f"dataset.path={text}")
    (word,) = shlex.split(str(error.value).partition("needs quotes: ")[2])
    assert overrides.parse(word).value() == text


def test_the_expected_type_of_every_key_is_said_in_words():
    options = [(group, load_option(group, option)) for group in GROUPS for option in options_of(group)]
    for group, node in options:
        if group not in KINDS or "_target_" not in node:
            continue
        build = target(group, node)
        hints = typing.get_type_hints(build.__init__ if isinstance(build, type) else build)
        for key in set(hints) & set(node):
            if hints[key] is not typing.Any:
                with pytest.raises(UserError, match=r" must be [a-z ]+, got") as raised:
                    check_type(key, object(), hints[key])
                assert "<class" not in str(raised.value).partition(", got")[0]


def test_quotes_that_a_choice_needs_are_kept():
    kept = overrides.choice_in_quotes('dataset.path=choice("größe.csv","b (1).csv",c.csv,"1")')
    assert list(overrides.parse(kept).sweep_string_iterator()) == [
        '"größe.csv"',
        "b\\ \\(1\\).csv",
        "c.csv",
        '"1"',
    ]
    for word in (
        "seed=choice(1,2)",
        "seed=1,2",
        "a=choice(b)",
        "a=shuffle(choice('ä','b'))",
        "a=tag(t, choice('ä','b'))",
    ):
        same = overrides.parse(overrides.choice_in_quotes(word)).value()
        assert same.list == overrides.parse(word).value().list


def test_the_users_home_is_expanded_without_quotes(called, monkeypatch):
    monkeypatch.setenv("HOME", "/no where")
    done = called("bpx.train", "dataset=file", "dataset.path=~/d.csv")
    assert (done.code, done.err) == (2, "error: dataset.path=/no where/d.csv: there is no such file\n")


def test_words_may_stand_before_and_behind_m(called):
    words = ["tracking=none", "tracking.figures=false", "probes=none", "max_steps=1"]
    done = called("bpx.train", *words, "-m", "seed=1,2", "progress=false")
    assert (done.code, done.err) == (0, "") and done.out.count("record ") == 3  # two runs and their parent


def test_a_key_of_a_swept_option_is_looked_for_in_the_option(called):
    words = ["optimizer=momentum,nesterov", "optimizer.momentum=0.5", "probes=none", "max_steps=1"]
    done = called("bpx.train", "-m", "tracking=none", "tracking.figures=false", *words)
    assert (done.code, done.err) == (0, "") and done.out.count("record ") == 2


@pytest.mark.parametrize("words", [["bpx.train"], ["bpx.compare", "a", "b"], ["bpx.sync", "a"], ["bpx.export", "a"]])
def test_a_deleted_working_directory_is_one_line(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "argv", words)
    assert import_module(words[0]).main() == 2
    assert capsys.readouterr().err == "error: the working directory has been deleted: change to another one\n"


def test_too_little_memory_is_one_line(called, monkeypatch):
    def none(*words, **more):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("bpx.runs.run.build_network", none)
    done = called("bpx.train", "tracking=none")
    assert (done.code, done.made) == (2, []) and done.err.startswith("error: out of memory (Unable to allocate 9 TiB)")


def test_every_command_is_a_word_of_bpx():
    """Each ``python -m bpx.X`` that there is, and no other; the console script begins there."""
    from bpx.__main__ import COMMANDS

    entries = {p.stem for p in (ROOT / "bpx").glob("*.py") if '__name__ == "__main__"' in p.read_text()}
    entries |= {p.parent.name for p in (ROOT / "bpx").glob("*/__main__.py")}
    assert set(COMMANDS) == entries - {"__main__"}
    assert 'bpx = "bpx.__main__:console"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"], ["theory", "--version"]])
def test_the_version_is_that_of_bpx(words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bpx", *words])
    assert main(words) == 0 and capsys.readouterr().out == f"bpx {bpx.__version__}\n"


def test_the_version_of_a_command_is_not_that_of_hydra(called):
    assert called("bpx.train", "--version").out == f"bpx {bpx.__version__}\n"


def test_help_needs_no_engine():
    lines = "from bpx.cli.command import command; import bpx.cli.help, sys; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_help_has_a_line_for_each_key(called):
    """Every key of the composed configuration, with its value and what is said of it in its YAML."""
    done = called("bpx.train", "--help", "initializer=critical", "optimizer.lr=0.3")
    lines = {line.split("=")[0].strip(): line for line in done.out.splitlines() if line.startswith("  ")}
    keys = [key for key in flatten(compose("initializer=critical")) if key not in GROUPS]
    assert not [key for key in keys if key not in lines]
    assert not [key for key in keys if len(lines[key].split(None, 1)) < 2], "a key that nothing is said of"
    assert lines["optimizer.lr"].split() == ["optimizer.lr=0.3", "learning", "rate"]
    assert "[critical]" in done.out and lines["initializer.sigma_w"].strip().startswith("initializer.sigma_w=critical")


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("bpx tr", "train\ntheory"),
        ("bpx train activation=", "activation=tanh"),
        ("bpx train optimizer.l", "optimizer.lr"),
    ],
)
def test_the_shell_completes(line, some, tmp_path, command):
    env = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = command("bpx", "-sc", "query=bash", cwd=tmp_path, env=env)
    assert done.returncode == 0 and some in done.stdout


def test_zsh_loads_what_the_completion_of_bash_needs(tmp_path, command):
    said = command("bpx", "-sc", "install=zsh", cwd=tmp_path).stdout
    assert said.index("bashcompinit\n") < said.index("complete -o")


def test_the_help_keeps_to_the_width_of_a_terminal(monkeypatch):
    whole = help_page("python -m bpx.train: train", [])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    page = help_page("python -m bpx.train: train", [])
    assert page.split() == whole.split()
    assert max(len(line) for line in page.splitlines() if line.startswith("  ") and "per_layer" not in line) <= 80
    assert max(map(len, whole.splitlines())) > 80
