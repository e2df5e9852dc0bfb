"""What reaches the terminal."""

import io
import os
import sys

import pytest
from rich.panel import Panel
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


def test_a_text_is_no_markup(capsys):
    """Of "iris[final].csv" the terminal showed "iris.csv", and "a[/b].csv" ended a run with a traceback."""
    names = ["iris[final].csv", "a[/b].csv", "[bold]x[/]", "at:smile:.csv"]
    table = Table(title=names[0])
    table.add_column(names[1])
    table.add_row(names[2], names[3])
    out = terminal()
    for text in (*names, Panel(names[0]), table):
        out.print(text, style="bold red")
    out.print(table)
    said = capsys.readouterr().out
    assert said.startswith("\n".join(names) + "\n")
    assert [said.count(name) for name in names] == [4, 3, 3, 3]


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
