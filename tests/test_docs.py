"""The documentation: what it quotes, lists, links and commands is so."""

import re
import runpy
import shlex
import subprocess
import sys

import numpy as np
import pytest
from conftest import DATA, ROOT, write_own_parts

from bpx.engine import ACTIVATIONS, mlp, sgd
from bpx.probes import PROBES
from bpx.probes.probe import ProbeContext
from bpx.theory import mean_field

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md",
         *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip


def blocks(path, language=""):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_configuration_reference_is_up_to_date():
    page = runpy.run_path(str(ROOT / "docs" / "configuration.py"))["page"]()
    assert page == (ROOT / "docs" / "configuration.md").read_text(), "run: python docs/configuration.py"
    assert "|  |" not in page, "a key or an option that nothing is said of: a comment in its YAML does"


def test_quoted_code_stands_in_the_engine():
    text = (ROOT / "docs" / "backpropagation.md").read_text()
    source, lines = "", 0
    for named, code in re.findall(r"^\[(bpx/[\w/]+\.py)\]|^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        source = (ROOT / named).read_text() if named else source
        for line in code.splitlines():
            assert line.strip() in source, line
            lines += 1
    assert lines > 20


def test_every_measured_quantity_is_explained():
    net = mlp(4, [5, 5], 3, normalization="batch", dropout=0.1).bind(8)
    context = ProbeContext(
        net, sgd(clip_norm=1.0, clip_value=1.0, clip_units=1.0).bind(net.parameters), np.zeros((40, 4), np.float32)
    )
    measured = {key[2] for probe in PROBES.values() for key in probe(context).keys}
    for page in ("concepts.md", "record.md"):
        text = (ROOT / "docs" / page).read_text()
        assert not [quantity for quantity in measured | {"branch_gain"} if f"`{quantity}`" not in text], page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_theory_names_what_the_library_has():
    text = (ROOT / "docs" / "theory.md").read_text()
    named = set(re.findall(r"`(?:mean_field\(φ, σw, σb\))?\.(\w+)`", text))
    assert named == {"q_star", "chi_1", "xi_q", "xi_c"} <= set(vars(mean_field(ACTIVATIONS["tanh"](), 1.5)))


CONFORMANCE = """
import sys
import pytest
from bpx.engine import activations
exec(sys.stdin.read(), vars(activations))
activations.ACTIVATIONS["isru"] = activations.ISRU
sys.exit(pytest.main(["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow", "-k", "isru", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_the_activation_that_the_readme_adds_conforms():
    (code,) = [c for c in blocks(ROOT / "README.md", "python") if "ActivationFunction" in c]
    assert '"isru"' in code and "activations.ISRU" in "".join(blocks(ROOT / "README.md", "yaml"))
    words = [sys.executable, "-c", CONFORMANCE, *(f"tests/{part}" for part in ("engine", "probes", "theory"))]
    done = subprocess.run(words, input=code, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) >= 10


def commands():
    """Every bpx command that a page tells a person to type, once."""
    seen = {}
    for page in PAGES:
        for block in blocks(page):
            for line in block.splitlines():
                line = line.split(" #")[0].strip()
                if re.match(r"python -m (bpx|experiments)\.", line):
                    seen.setdefault(line, page.relative_to(ROOT))
    return sorted(seen)


STUDY = re.compile(r"python -m experiments\.(\w+)")  # run one by one in test_experiments
A_RUN = re.compile(r"\bRUN\b|outputs/\w+/[\w-]+")
ELSEWHERE = ("hydra.sweeper.storage=", "hydra/launcher=", "&", "DIRECTORY")  # where their servers are


@pytest.mark.slow
@pytest.mark.parametrize("line", [c for c in commands() if not STUDY.match(c)])
def test_every_command_runs(line, tmp_path, process):
    if any(word.startswith(ELSEWHERE) for word in line.split()):
        pytest.skip("run where a launcher, a server or a run is tested")
    rows = "".join(f"{i},{i % 7},{'xyz'[i % 3]}\n" for i in range(200))
    if "--config-dir" in line:
        write_own_parts(tmp_path)
    (tmp_path / "flowers.csv").write_text(f"a,b,species\n{rows}")
    env = {"PYTHONPATH": str(ROOT)} | ({"BPX_DATA_DIR": DATA} if DATA else {})
    module, *words = shlex.split(line.removeprefix("python -m "))
    short = {"bpx.train": ["max_steps=3"]}.get(module, [])
    short += ["hydra.sweeper.n_trials=2"] if any(word.startswith("+sweep=") for word in words) else []
    places = [i for i, word in enumerate(words) if A_RUN.search(word)]
    if places:
        short = ["epochs=2"] if words[places[0]].startswith("resume=") else []
        for i in places:
            process("bpx.train", "epochs=1", "model.depth=3", f"model.width={20 + i}", cwd=tmp_path, env=env)
            *_, latest = sorted((tmp_path / "outputs" / "default").iterdir(), key=lambda p: p.stat().st_ctime)
            words[i] = A_RUN.sub(str(latest.relative_to(tmp_path)), words[i])
    done = process(module, *words, *short, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr + done.stdout


NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.mark.slow
def test_what_the_readme_opens_with_is_what_is_printed(tmp_path, command):
    """Words to the letter, numbers to 5 %: the last bits differ between machines."""
    opening = blocks(ROOT / "README.md")[:4]
    assert "+experiment=vanishing" in opening[0] and opening[2].startswith(opening[0].strip())
    for typed, printed in zip(opening[::2], opening[1::2], strict=True):
        module, *words = shlex.split(typed.removeprefix("python -m "))
        done = command(module, *words, cwd=tmp_path)
        sentence, accuracy = printed.split("accuracy")
        shown = {line.split("  ")[0]: line for line in reversed(done.stdout.splitlines())}
        said = next(line for line in shown.values() if line.startswith("at initialization"))
        for quoted, real in ((sentence, said), (f"accuracy{accuracy}", shown["accuracy"])):
            quoted, real = " ".join(quoted.split()), " ".join(real.split())
            assert NUMBER.sub("#", quoted) == NUMBER.sub("#", real)
            numbers = [[float(n) for n in NUMBER.findall(text)] for text in (quoted, real)]
            assert numbers[0] == pytest.approx(numbers[1], rel=0.05)


def test_every_study_command_exists():
    named = {STUDY.match(c)[1] for c in commands() if STUDY.match(c)}
    assert named and all((ROOT / "experiments" / f"{name}.py").exists() for name in named)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, code in enumerate(blocks(page, "python")):
        if "from bpx" in code and "import torch" not in code:  # those run in tests/pytorch
            path = tmp_path / f"{i}.py"
            path.write_text(code)
            runpy.run_path(str(path))


@pytest.mark.slow
def test_python_examples_are_typed(tmp_path):
    """mypy --strict accepts what a reader copies; the activation of the README stands in a module with these names."""
    header = (
        "from dataclasses import dataclass\nfrom typing import ClassVar, final\nimport numpy as np\n"
        "from bpx.engine import ActivationFunction, Array\n"
    )
    paths = []
    for page in PAGES:
        codes = blocks(page, "python")
        for i, code in enumerate(["\n\n".join(codes)] if page.name == "own_parts.md" else codes):
            if "import " in code or "ActivationFunction" in code:
                paths.append(tmp_path / f"{page.parent.name}_{page.stem}_{i}.py".replace("-", "_"))
                paths[-1].write_text(code if "import " in code else header + code)
    assert len(paths) >= 4
    paths.append(tmp_path / "public.py")
    paths[-1].write_text("import bpx\nreveal_type(bpx.diagnose)\nreveal_type(bpx.engine.mlp)\n")
    words = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *paths]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("def (") == 2 and "Any)" not in done.stdout.split("public.py")[-1], done.stdout
