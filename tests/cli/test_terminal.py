"""What reaches the terminal."""

import io
import os
import sys

import pytest
from rich.table import Table

from bpx.cli.command import accept_any_text, terminal


def test_a_text_steers_no_terminal(capsys):
    table = Table()
    table.add_column("a\x1b[2Jb")
    table.add_row("c\x07d")
    for text in ("plain \x1b]0;title\x07", table):
        terminal().print(text)
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x07" not in said
    assert r"plain \x1b]0;title\x07" in said and r"a\x1b[2Jb" in said and r"c\x07d" in said


def test_a_letter_that_the_encoding_lacks_is_an_escape(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    accept_any_text()
    terminal().print("×0.5 …")
    narrow.flush()
    assert narrow.buffer.getvalue() == b"\\xd70.5 \\u2026\n"


@pytest.mark.parametrize("asked", [False, True])
def test_a_reader_that_is_gone_is_an_error_or_what_is_asked_for(asked, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        out, called = terminal(), []
        if asked:
            out.on_closed = lambda: called.append(1)
            out.print("a")
            out.print("b")
        else:
            with pytest.raises(BrokenPipeError):
                out.print("a")
        monkeypatch.undo()
    assert called == [1] * asked and out.quiet
