"""Every study runs, as continuous integration runs it; the gallery shows them all."""

import os
import re
import subprocess
import sys
from importlib import import_module

import pytest
from conftest import DATA, ROOT, thinned

from experiments.gallery import CLASSICS, DEMONSTRATIONS, published

STUDIES = sorted(p.stem for p in (ROOT / "experiments").glob("*.py") if "StudyCommand(" in p.read_text())
NEED_TORCH = ("torch_defaults", "xiong_2020")
GALLERY = (ROOT / "experiments" / "README.md").read_text()


def test_all_studies_are_made_together():
    assert sorted((*DEMONSTRATIONS, *CLASSICS)) == STUDIES


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs(name, tmp_path):
    if name in NEED_TORCH:
        pytest.importorskip("torch")
    env = os.environ | {"PYTHONPATH": str(ROOT)} | ({"BPX_DATA_DIR": DATA} if DATA else {})
    words = [sys.executable, "-W", "error::RuntimeWarning", "-m", f"experiments.{name}", "--quick"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "figure    outputs" in done.stdout and "nan" not in done.stdout.split("\n\n")[-2]
    (picture,) = (tmp_path / "outputs" / name).glob(f"*/{name}.png")
    assert picture.stat().st_size > 20_000
    kept = picture.with_name("study.json")
    assert kept.stat().st_size < 300_000
    again = import_module(f"experiments.{name}").run.redraw(kept, tmp_path / "again.png")
    assert again.finding in done.stdout and again.figure.read_bytes() == picture.read_bytes()


@pytest.mark.parametrize(("name", "said"), [("dropout", "(in one batch)"), ("vanishing_gradients", "(one network)")])
def test_one_seed_has_no_spread(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = import_module(f"experiments.{name}").run(["seeds=1", "tracking=none", "progress=false"])
    assert said in told.finding and "80 %" not in told.finding


@pytest.mark.parametrize("name", STUDIES)
def test_the_gallery_shows_every_study(name):
    assert f"python -m experiments.{name}" in GALLERY
    assert f"(../docs/gallery/{name}.png)" in GALLERY
    assert (ROOT / "docs" / "gallery" / f"{name}.png").stat().st_size > 20_000


def test_the_gallery_has_no_other_pictures():
    shown = set(re.findall(r"docs/gallery/(\w+)\.png", GALLERY))
    assert shown == {p.stem for p in (ROOT / "docs" / "gallery").glob("*.png")} == set(STUDIES)


@pytest.mark.parametrize(
    "name", [*thinned(DEMONSTRATIONS), *(pytest.param(n, marks=pytest.mark.slow) for n in CLASSICS)]
)
def test_the_gallery_is_drawn_and_worded_from_its_data(name, tmp_path):
    data, _ = published(name)
    kept = tmp_path / data.name
    kept.write_bytes(data.read_bytes())
    assert kept.stat().st_size < 300_000
    told = import_module(f"experiments.{name}").run.redraw(kept, tmp_path / f"{name}.png")
    assert told.finding in GALLERY and told.question in GALLERY
    assert told.figure.stat().st_size > 20_000
