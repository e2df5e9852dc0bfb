"""What README and docs/pytorch.md show of PyTorch runs, and prints what they quote."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
PAGES = ROOT / "README.md", ROOT / "docs" / "pytorch.md"
NUMBER = re.compile(r"\d[\d.e+-]*\d|\d")


def examples():
    for page in PAGES:
        parts = re.findall(r"^```python\n(.*?)^```(?:\n\n```\n(.*?)^```)?", page.read_text(), flags=re.M | re.S)
        yield from (pytest.param(*part, id=f"{page.stem}-{i}") for i, part in enumerate(parts) if "torch" in part[0])


@pytest.mark.parametrize(("code", "printed"), list(examples()))
def test_an_example_runs_and_prints_what_is_quoted(code, printed, tmp_path):
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if printed:
        quoted, said = " ".join(printed.split()), " ".join(done.stdout.split())
        assert NUMBER.sub("#", quoted) == NUMBER.sub("#", said)
        numbers = [[float(n) for n in NUMBER.findall(text)] for text in (quoted, said)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.02)


def test_there_are_examples():
    assert len(list(examples())) == 6
