"""Pictures while a run trains: few, in their own thread, within their share of the time, and seen in MLflow by step."""

import builtins
import itertools
import sys
import threading

import mlflow
import pytest

from bpx.runs import live
from bpx.runs.live import LivePictures
from bpx.runs.outputs import Outputs
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.tracking import LocalTracker


class Taker:
    figure_format, takes_images = "png", True

    def __init__(self):
        self.taken = []

    def image(self, path, key, step):
        assert path.read_bytes().startswith(b"\x89PNG")
        self.taken.append((key, step))


class NoRows:
    def excerpt(self, steps, about):
        return self


@pytest.fixture
def drawn(monkeypatch):
    """Let a picture take a set time of the processor, and return the steps drawn."""
    steps = []

    def draw(self, step, part):
        steps.append(step)
        self.count += 1
        self._cost = 0.01
        self.seconds += 0.01

    monkeypatch.setattr(LivePictures, "_draw", draw)
    monkeypatch.setattr(live, "FIRST_COST", 0.01)
    return steps


def test_drawing_keeps_to_its_share_of_the_time(tmp_path, drawn, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(live.time, "thread_time", lambda: clock[0])
    pictures = LivePictures(tmp_path, Taker(), 10**6)
    for step in range(0, 10**6, 10**4):
        clock[0] = step / 10**6  # a run of a second: 0.02 seconds for pictures
        pictures.observe(step, NoRows(), {})
        if pictures._thread is not None:
            pictures._thread.join()
        assert pictures.seconds <= live.SHARE * clock[0] + 1e-9
    assert drawn == [500000]  # the second would take it beyond two hundredths


def test_the_share_is_of_the_processor_and_counts_the_import(tmp_path, drawn, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(live.time, "perf_counter", lambda: 1e6)  # waiting is no time to draw in
    monkeypatch.setattr(live.time, "thread_time", lambda: clock[0])
    pictures = LivePictures(tmp_path, Taker(), 10**6)
    pictures.observe(0, NoRows(), {})
    clock[0] = 1.0
    loaded = builtins.__import__

    def slow(name, *rest):
        clock[0] += 0.3 * (name == "bpx.figures.live")
        return loaded(name, *rest)

    monkeypatch.setattr(builtins, "__import__", slow)
    pictures.observe(1, NoRows(), {})
    monkeypatch.undo()
    pictures._thread.join()
    assert drawn == [1] and pictures.seconds == pytest.approx(0.31)


def test_the_thread_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "SHARE", 1e9)
    monkeypatch.delitem(sys.modules, "bpx.figures.live", raising=False)
    imported = []
    monkeypatch.setattr(
        LivePictures, "_draw", lambda self, step, part: imported.append("bpx.figures.live" in sys.modules)
    )
    pictures = LivePictures(tmp_path, Taker(), 100)
    pictures.observe(0, NoRows(), {})
    pictures._thread.join()
    assert imported == [True]


def test_a_long_run_has_at_most_twenty_at_even_distances(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(live, "SHARE", 1e9)
    pictures = LivePictures(tmp_path, Taker(), 1000)
    for step in range(0, 1000, 3):
        pictures.observe(step, NoRows(), {})
        if pictures._thread is not None:
            pictures._thread.join()
    assert len(drawn) <= 20 and min(b - a for a, b in itertools.pairwise(drawn)) >= 50


def test_a_run_without_figures_or_a_store_draws_none(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(live, "SHARE", 1e9)
    for name, value in (("figure_format", ""), ("takes_images", False)):
        taker = Taker()
        setattr(taker, name, value)
        pictures = LivePictures(tmp_path, taker, 100)
        pictures.observe(50, NoRows(), {})
        pictures.close(NoRows(), {})
    assert drawn == []


def test_a_run_too_short_has_its_first_and_its_last_record(tmp_path, drawn):
    pictures = LivePictures(tmp_path, Taker(), 100)
    for step in (0, 50, 99):
        pictures.observe(step, NoRows(), {})
    assert drawn == []
    pictures.close(NoRows(), {})
    assert drawn == [0, 99]


class AtOnce(threading.Thread):
    """A thread that is over when it has been started: how many pictures there are is then certain."""

    def start(self):
        super().start()
        self.join()


def test_each_picture_shows_its_own_step(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "SHARE", 1e9)
    monkeypatch.setattr(live.threading, "Thread", AtOnce)
    monkeypatch.setattr(LocalTracker, "takes_images", True)
    drawn = []
    monkeypatch.setattr(LivePictures, "_draw", lambda self, step, part: drawn.append((step, part.records())))
    words = ["model.depth=1", "model.width=4", "epochs=3", "tracking=none", "tracking.model=false", "progress=false"]
    for name, returned in (("draw_figures", {}), ("write_report", "")):
        monkeypatch.setattr(Outputs, name, lambda *_, returned=returned: returned)
    train_run(compose(*words), "r", tmp_path, words, quiet=True)
    assert [step for step, _ in drawn] == [int(r.select(quantity="delta_l2").step.max()) for _, r in drawn]
    assert len(drawn) > 4


@pytest.mark.slow
def test_mlflow_has_the_pictures_by_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(live, "SHARE", 1e9)
    words = ["model.depth=4", "epochs=2", "tracking.model=false", "progress=false"]
    done = train_run(compose(*words), "r", tmp_path / "outputs" / "tests", words, quiet=True)
    files = sorted((done.directory / "live").iterdir())
    run_id = (done.directory / "mlflow_run_id").read_text().strip()
    stored = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").list_artifacts(run_id, "images")
    names = [artifact.path for artifact in stored if artifact.path.endswith(".png")]
    steps = {int(name.split("+")[2]) for name in names}
    assert len(names) == len(files) >= 2
    assert steps == {int(file.stem.rpartition("-")[2]) for file in files}
    assert all(name.startswith("images/layers+step+") for name in names)
