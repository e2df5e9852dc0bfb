"""Atomic files, paths that stay inside, locks, text for people."""

import gc
import os
import signal
import subprocess
import sys

import pytest

from bpx.system.files import inside, remove_temporaries, replaced
from bpx.system.imports import importing
from bpx.system.locks import is_held, lock, machine_lock
from bpx.system.text import masked, one_line, printable


def test_a_link_is_replaced_and_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "a"
    victim.write_text("mine")
    path.symlink_to(victim)
    (tmp_path / f".a.{os.getpid()}").symlink_to(victim)
    with replaced(path) as file:
        file.write(b"new")
    assert victim.read_text() == "mine" and path.read_text() == "new" and not path.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "victim"]


def test_the_mode_of_a_file_is_the_one_asked_for(tmp_path):
    with replaced(tmp_path / "a", 0o600) as file:
        file.write(b"secret")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("path", ["../b", "/etc/passwd", "c/../../b", "link", "folder/link", "folder", "pipe", "way/b"])
def test_what_is_outside_or_a_link_is_refused(path, tmp_path):
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "b").write_text("b")
    (root / "link").symlink_to(tmp_path / "b")
    (root / "folder" / "link").symlink_to(tmp_path / "b")
    (root / "way").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    with pytest.raises(ValueError, match=r"outside|a link|a pipe") as error:
        inside(root, path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"a link|a pipe"):
        inside(root)


def test_what_is_inside_is_returned_whatever_leads_to_its_folder(tmp_path):
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder" / "a").write_text("a")
    (tmp_path / "other").symlink_to(root)
    assert inside(tmp_path / "other", "folder/a") == (root / "folder" / "a").resolve()
    assert inside(root, "not/there") == root.resolve() / "not" / "there" and inside(root) == root.resolve()


def test_temporaries_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    kept = [tmp_path / ".lock", tmp_path / "a.1234", tmp_path / ".hidden", tmp_path / ".mlflow.db.new"]
    gone = [tmp_path / "checkpoints" / ".step-0000000075.bpx.1234", tmp_path / ".delivery.json.99"]
    for path in (*kept, *gone):
        path.write_text("")
    remove_temporaries(tmp_path)
    assert [p.exists() for p in (*kept, *gone)] == [True] * 4 + [False] * 2


def test_a_lock_lasts_as_long_as_its_process(tmp_path):
    path = tmp_path / "x"
    assert not is_held(path)
    code = (
        f"from pathlib import Path; from bpx.system.locks import lock; f = lock(Path({str(path)!r})); print(); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    assert is_held(path)
    for shared in (False, True):
        with pytest.raises(BlockingIOError):
            lock(path, shared=shared)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert not is_held(path)
    with lock(path, shared=True), lock(path, shared=True), pytest.raises(BlockingIOError):
        lock(path)


def test_a_lock_does_not_follow_a_link(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="x"):
        lock(tmp_path / "x")
    assert not (tmp_path / "victim").exists()


def test_the_lock_of_a_name_is_this_users(monkeypatch):
    mine = machine_lock("http://h")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert machine_lock("http://h") != mine and machine_lock("http://h").name.startswith("bpx-4711-")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://me:secret@host:5000/a is away", "http://host:5000/a is away"),
        ("'postgresql+psycopg://u:p/w@h:5432/db'", "'postgresql+psycopg://h:5432/db'"),
        ("mysql://h/db?user=u&password=secret&x=1", "mysql://h/db?user=u&password=***&x=1"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://me:p@ss@host:5000", "http://host:5000"),
        ("http://me:p@ss/w@rd@host:5000 'a@b'", "http://host:5000 'a@b'"),
        ("http://me@firm:p/w@host", "http://host"),
        ("https://token@host:5000/a@b", "https://host:5000/a@b"),
        ("postgresql://u:12/3@h/db", "postgresql://h/db"),
        ("postgresql+pg8000://u:1?2#3@h/db", "postgresql+pg8000://h/db"),
        ("sqlite:///C:/a@b", "sqlite:///C:/a@b"),
    ],
)
def test_passwords_are_masked_and_nothing_else(text, said):
    assert masked(text) == said


def test_what_steers_a_terminal_is_escaped():
    assert printable("a\x1b]0;title\x07\x9b2J\u202eb\tc\nü×…") == "a\\x1b]0;title\\x07\\x9b2J\\u202eb\tc\nü×…"
    assert one_line(ValueError("\n  http://a:b@c  \x1b[1m\nmore")) == "http://c \\x1b[1m"
    assert one_line(KeyError()) == "KeyError"


def test_no_garbage_is_collected_during_an_import():
    gc.unfreeze()
    with importing("no.such.module"):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0  # a user's objects stay collectable
    gc.freeze()  # as a command does
    frozen = gc.get_freeze_count()
    try:
        with importing("no.such.module"):
            assert not gc.isenabled()
            with importing("another"):
                pass
            assert not gc.isenabled()
            made = []
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        assert not any(made is each for each in gc.get_objects())
        frozen = gc.get_freeze_count()
        with importing("gc"):  # imported before
            assert gc.isenabled()
        gc.disable()
        with importing("no.such.module"):
            pass
        assert not gc.isenabled()
        assert gc.get_freeze_count() == frozen
    finally:
        gc.enable()
        gc.unfreeze()
