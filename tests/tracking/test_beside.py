"""TensorBoard and Weights & Biases beside the local record: what their own readers find is what the record holds."""

import importlib.util
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from bpx.records import read_metrics
from bpx.runs.run import train_run
from bpx.runs.study import compose
from bpx.system.errors import UserError
from bpx.system.run_files import METRICS
from bpx.tracking import beside

WORDS = ("epochs=3", "checkpoint.keep=0", "tracking.figures=false", "probes=light", "optimizer.lr=0.07")
BLOCK, WANDB_HEADER = 32768, 7


def train(home, *words):
    return train_run(compose(*WORDS, *words), "both kept", home / "outputs", [], quiet=True)


def scalars_of(directory):
    return {
        (name, int(step)): float(value)
        for name, (steps, values) in read_metrics(directory / METRICS).items()
        for step, value in zip(steps, values, strict=True)
    }


def test_tensorboards_own_reader_finds_every_metric(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = train(tmp_path, "tracking=[none,tensorboard]")
    found = EventAccumulator(str(done.directory / "tensorboard"), {"scalars": 0, "tensors": 0, "images": 0})
    found.Reload()
    kept = {(tag, event.step): event.value for tag in found.Tags()["scalars"] for event in found.Scalars(tag)}
    expected = scalars_of(done.directory)
    assert kept.keys() == expected.keys() and ("accuracy/test", max(s for _, s in expected)) in kept
    for key, value in expected.items():
        np.testing.assert_allclose(kept[key], value, rtol=1e-6, err_msg=str(key))
    texts = {tag: found.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in found.Tags()["tensors"]}
    assert texts["bpx.verdict"] == "healthy" and texts["bpx.finding"].startswith("Gradients are healthy")
    assert "| optimizer.lr | 0.07 |" in texts["configuration"]


def test_tensorboard_shows_the_pictures_of_layers_by_step(tmp_path):
    pytest.importorskip("tensorboard")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from bpx.tracking.tensorboard import TensorBoard

    Image.new("RGBA", (30, 20)).save(tmp_path / "layers.png")
    board = TensorBoard()
    board.begin(tmp_path, "a run", {})
    board.image(tmp_path / "layers.png", "layers", 7)
    board.end(None)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    (image,) = found.Images("layers")
    assert (image.step, image.width, image.height) == (7, 30, 20)
    assert image.encoded_image_string == (tmp_path / "layers.png").read_bytes()


def records_of(path):
    """Yield the records of a file of Weights & Biases: LevelDB's log format, whose reader they have in Go alone."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), WANDB_HEADER, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # the rest of a block too short for a head
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def test_weights_and_biases_keeps_every_metric(tmp_path):
    wandb = pytest.importorskip("wandb")
    done = train(tmp_path, "tracking=[none,wandb]")
    wandb.teardown()  # its service has written by then
    (path,) = Path(done.directory, "wandb").glob("offline-run-*/*.wandb")
    kept, summary, runs, exits = {}, {}, [], []
    for record in records_of(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            step = items["_step"]
            kept |= {(name, step): value for name, value in items.items() if not name.startswith("_")}
        elif kind == "summary":
            summary |= {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.summary.update}
        elif kind == "run":
            runs.append(record.run)
        elif kind == "exit":
            exits.append(record.exit.exit_code)
    assert kept == pytest.approx(scalars_of(done.directory))
    assert summary["bpx.verdict"] == "healthy" and summary["bpx.finding"].startswith("Gradients are healthy")
    assert runs[0].run_id == done.directory.name and runs[0].display_name == "both kept" and runs[0].project == "bpx"
    config = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in runs[0].config.update}
    assert config["optimizer.lr"] == 0.07 and exits == [0]


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    pytest.importorskip("tensorboard")
    from bpx.tracking.tensorboard import TensorBoard

    def fail(self, step, metrics):
        raise OSError("its disk is full")

    monkeypatch.setattr(TensorBoard, "log", fail)
    done = train(tmp_path, "tracking=[none,tensorboard]")
    assert done.outcome == "finished" and scalars_of(done.directory)
    assert caplog.text.count("tracking.also.tensorboard failed and is left out from here on: its disk is full") == 1


def test_one_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert beside.importlib.util is importlib.util
    with pytest.raises(UserError, match=r"tracking=wandb needs wandb: pip install 'bpx\[wandb\]'"):
        train(tmp_path, "tracking=[none,wandb]")


def test_the_command_line_takes_a_list(command, tmp_path):
    pytest.importorskip("tensorboard")
    for n, words in enumerate(("tracking=tensorboard", "tracking=[mlflow,tensorboard]"), 1):
        done = command("bpx.train", *WORDS, words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(list(tmp_path.glob("outputs/default/*/tensorboard/events.*"))) == n
    assert (tmp_path / "mlflow.db").exists()
    done = command("bpx.train", "tracking=[mlflow,tensorbord]", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "there is no such option" in done.stderr
