"""What a person sees of a run in a terminal of 80 columns."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest

WORDS = ["-m", "bpx.train", "epochs=2", "model.width=10", "dataset.val_size=0.2", "tracking.figures=false"]


def shown(home, columns):
    """Return what the command writes to a terminal of so many columns, without what steers it."""
    process, screen = pty.fork()
    if process == 0:
        os.chdir(home)
        os.execv(sys.executable, [sys.executable, *WORDS, "tracking.model=false"])
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    text = b""
    while True:
        try:
            read = os.read(screen, 65536)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        text += read
    assert os.waitpid(process, 0)[1] == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode())


@pytest.mark.slow
def test_everything_fits_into_80_columns_and_the_link_is_whole(tmp_path):
    lines = [line for part in shown(tmp_path, 80).splitlines() for line in part.split("\r")]
    assert lines[0].startswith("bpx ") and "starting" in lines[0]
    assert any("making mlflow.db, once" in line for line in lines)
    (link,) = [line for line in lines if line.startswith("open ")]
    assert re.fullmatch(
        r"open +http://127\.0\.0\.1:5000/#/experiments/1/runs/\w{32}\?workflowType=machine_learning", link
    )
    paths = ("open ", "runs ", "record ", "figures ")
    assert not [line for line in lines if len(line) > 80 and not line.startswith(paths)]
    bar = [line for line in lines if line.startswith("epoch 2.0/2")][-1]
    assert "cost" in bar and "accuracy" in bar and bar.rstrip().endswith("left")
    table = next(line for line in lines if "at start" in line)
    assert table.count("at start") == 2 and table.count("at end") == 2
    assert any("(delta, δ = ∂J/∂z" in line for line in lines)
