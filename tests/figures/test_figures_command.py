"""python -m bpx.figures: the figures of a run drawn again from what it has left."""

import pytest

from bpx.config.plan import make_plan
from bpx.figures.__main__ import main
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.system.errors import UserError


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["tracking=none", "tracking.figures=svg", "epochs=1", "max_steps=3", "progress=false"]
    return train_run(compose(*words), "r", tmp_path / "outputs" / "tests", [], quiet=True).directory


@pytest.mark.slow
def test_a_run_is_drawn_in_the_format_asked_for_and_again_from_its_record_alone(run, capsys):
    drawn = {path.stem for path in (run / "figures").iterdir()}
    assert {"curves", "profile", "confusion"} <= drawn
    assert {path.suffix for path in (run / "figures").iterdir()} == {".svg"}
    for name in ("model.json", "model.npz", "result.json", "train.log"):
        (run / name).unlink()
    assert main([str(run), "format=pdf"]) == 0
    assert {path.stem for path in (run / "figures").glob("*.pdf")} == drawn
    assert f"figures   {len(drawn)} in {run / 'figures'}" in capsys.readouterr().out
    (run / "evaluation.npz").unlink()
    assert main([str(run), "out=elsewhere"]) == 0
    assert {path.stem for path in run.parents[2].joinpath("elsewhere").iterdir()} == drawn - {"confusion", "samples"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "takes one run, got 0"),
        (["nowhere"], "nowhere is neither a directory nor the id of a run"),
        (["empty"], "empty holds neither a run (config/config.yaml) nor a sweep (trials.csv)"),
        (["empty", "format=bmp"], "format must be one of png, pdf, svg, got 'bmp'"),
        (["empty", "fmt=pdf"], "unknown key fmt; keys are format=, out="),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and says in said.err


def test_a_format_of_figures_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="must be true, false or png or pdf or svg, got jpg"):
        make_plan(compose("tracking=none", "tracking.figures=jpg"))
