"""A tracking server that goes away, comes back, never does, or is slow."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import pytest
from sweeping import ended
from test_tracker import DATA, network, opened

from bpx import sync
from bpx.tracking import MLflowTracker, TrackingError, delivery, library, store
from bpx.tracking.spool import Spool

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")


class Server:
    """A real MLflow server that can be stopped and started again on its port."""

    def __init__(self, home):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.home, self.uri = home, f"http://127.0.0.1:{self.port}"

    def start(self):
        words = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=self.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return self
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise AssertionError("the server does not start")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def server(tmp_path_factory, new_store):
    home = tmp_path_factory.mktemp("server")
    new_store(f"sqlite:///{home}/mlflow.db")
    server = Server(home).start()
    yield server
    server.stop()


def until(true, seconds=30):
    """Wait for what has to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.1)


def steps(tracker, name="m"):
    return [m.step for m in tracker._client.get_metric_history(tracker.run_id, name)]


@pytest.mark.slow
def test_what_a_server_misses_it_gets_in_order_and_once(server, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(delivery, "SEND_EVERY", 0.2)
    data, _ = network(tmp_path)
    capfd.readouterr()
    tracker = opened(server.uri, tmp_path, data)
    tracker.log(0, 0.0, {"m": 0.0})
    until(lambda: steps(tracker) == [0])
    server.stop()
    start = time.monotonic()
    for step in range(1, 500):
        tracker.log(step, step / 10, {"m": step})
    tracker.tag("word", "first")
    tracker.tag("word", "second")
    assert time.monotonic() - start < 0.5, "training waits for a server that is not there"
    until(lambda: "does not answer" in tracker._delivery.failure)
    server.start()
    until(lambda: tracker._delivery.failure == "" and tracker._spool.empty)
    assert steps(tracker) == list(range(500))
    tracker.save_model(tmp_path, data)
    tracker.finish("finished")
    assert tracker.unsent == "" and capfd.readouterr() == ("", "")
    assert tracker.ui_command == "" and tracker.link.startswith(f"{server.uri}/#/experiments/")
    run = tracker._client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED" and run.data.tags["word"] == "second"
    assert steps(tracker) == list(range(500))


@pytest.mark.slow
def test_what_it_never_got_is_sent_later_and_only_once(server, tmp_path, capsys):
    data, _ = network(tmp_path)
    tracker = opened(server.uri, tmp_path, data)
    server.stop()
    for step in range(300):
        tracker.log(step, step / 10, {"m": step})
    (tmp_path / "a.txt").write_text("a")
    tracker.artifact(tmp_path / "a.txt", "figures")
    tracker.save_model(tmp_path, data)
    start = time.monotonic()
    tracker.finish("finished")
    assert time.monotonic() - start < 10
    assert "does not answer" in tracker.unsent and "\n" not in tracker.unsent
    assert sync.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    server.start()
    for _ in range(2):
        shutil.copy(tmp_path / "delivery.json", tmp_path / "before.json")
        assert sync.main([str(tmp_path)]) == 0
        run = tracker._client.get_run(tracker.run_id)
        assert run.info.status == "FINISHED" and run.data.tags["bpx.outcome"] == "finished"
        assert steps(tracker) == list(range(300))
        assert [a.path for a in tracker._client.list_artifacts(tracker.run_id, "figures")] == ["figures/a.txt"]
        models = tracker._client.search_logged_models([run.info.experiment_id])
        assert [str(m.status) for m in models if m.source_run_id == tracker.run_id] == ["READY"]
    # a process that died before it noted what it had sent
    held = json.loads((tmp_path / "before.json").read_text())
    (tmp_path / "delivery.json").write_text(json.dumps({**held, "sent": 0}))
    assert sync.main([str(tmp_path)]) == 0
    assert steps(tracker) == list(range(300))


@pytest.mark.slow
def test_a_server_gone_in_mid_training_does_not_end_the_run(server, tmp_path, command):
    words = ["bpx.train", "epochs=300", "tracking.figures=false", "progress=false", f"tracking.uri={server.uri}"]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, "-m", *words], cwd=tmp_path, **more)
    with ended(process):
        while not any(path.stat().st_size for path in tmp_path.glob("outputs/default/*/metrics.jsonl")):
            assert process.poll() is None
            time.sleep(0.05)
        server.stop()
        said, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and errors == "", errors
    (directory,) = (tmp_path / "outputs" / "default").iterdir()
    flat = " ".join(said.split())
    assert "not sent" in flat and "does not answer" in flat
    assert f"python -m bpx.sync {directory.relative_to(tmp_path)}" in flat
    server.start()
    done = command("bpx.sync", str(directory), cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    run_id = (directory / "mlflow_run_id").read_text().strip()
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    for name in ("cost/train", "accuracy/test"):
        local = [(line["step"], line["metrics"][name]) for line in lines if name in line["metrics"]]
        assert [(m.step, m.value) for m in client.get_metric_history(run_id, name)] == local
    assert client.get_run(run_id).info.status == "FINISHED"


def test_a_store_that_goes_while_a_run_is_opened_is_one_line(tmp_path, monkeypatch):
    """The run exists, its parameters cannot be sent, and it cannot be ended either."""
    tracker = MLflowTracker(uri=f"sqlite:///{tmp_path / 'x.db'}")
    tracker.connect()

    def gone(*words, **more):
        raise OSError("gone")

    monkeypatch.setattr(tracker._client, "log_batch", gone)
    monkeypatch.setattr(tracker._client, "set_terminated", gone)
    with pytest.raises(TrackingError, match="gone"):
        tracker.start("run", {"a": 1}, {}, None, tmp_path)
    tracker.finish("crashed")


def test_a_dataset_that_two_runs_name_at_once_is_named_again(tmp_path, monkeypatch):
    from mlflow.exceptions import MlflowException

    tracker = MLflowTracker(uri=f"sqlite:///{tmp_path / 'x.db'}")
    tracker.connect()
    log_inputs, refused = tracker._client.log_inputs, []

    def once(*words, **more):
        if not refused:
            refused.append(words)
            raise MlflowException("UNIQUE constraint failed: datasets")
        log_inputs(*words, **more)

    monkeypatch.setattr(tracker._client, "log_inputs", once)
    tracker.start("run", {}, {}, DATA, tmp_path)
    tracker.finish("finished")
    assert refused and len(tracker._client.get_run(tracker.run_id).inputs.dataset_inputs) == 1


class Slow(BaseHTTPRequestHandler):
    """Take a second for every request, as a server behind a bad line would."""

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(1)
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


def work(log):
    """Make steps for a second or two, telling of every hundredth, and return how long they took."""
    import numpy as np

    a = np.random.default_rng(0).standard_normal((200, 200))
    start = time.perf_counter()
    for step in range(3000):
        np.dot(a, a)
        if step % 100 == 0:
            log(step, 0.0, {f"m/{i}": step for i in range(20)})
    return time.perf_counter() - start


@pytest.mark.slow
def test_a_slow_server_does_not_slow_training(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(delivery, "SEND_EVERY", 0.1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as slow:
        threading.Thread(target=slow.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{slow.server_port}"
        ratios = []
        for i in range(5):
            quick = work(lambda *_: None)
            home = tmp_path / str(i)
            home.mkdir()
            tracker = MLflowTracker(uri=uri)
            tracker._open_files(home)
            spool = Spool(home, {"uri": uri, "experiment": "0", "run": "r"})
            tracker._spool, tracker._delivery = spool, delivery.Delivery(MlflowClient(uri), spool, uri)
            ratios.append(work(tracker.log) / quick)
            tracker._delivery._ending.set()
            super(MLflowTracker, tracker).finish("finished")
        slow.shutdown()
    assert min(ratios) < 1.05, ratios


class Dripping(BaseHTTPRequestHandler):
    """Never come to the end of an answer: of its header, of its body a byte at a time, or as fast as can be."""

    how = "body"
    asked = 0  # answers that are whole, before the one that is not

    def answer(self):
        cls = type(self)
        cls.asked -= 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if cls.asked >= 0:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                return
            self.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"" if self.how == "header" else b"\r\n"))
            piece, pause = (b" " * 2**16, 0.0) if self.how == "endless" else (b"x", 0.2)
            while True:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:  # nobody listens any more
            pass

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def dripping():
    with ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("how", ["header", "body", "endless"])
def test_a_server_whose_answer_never_ends_is_one_line(how, dripping, tmp_path, command, monkeypatch):
    monkeypatch.setattr(Dripping, "how", how)
    monkeypatch.setattr(Dripping, "asked", 0)
    words = ["dataset=digits", "epochs=1", "tracking.figures=false", "progress=false", f"tracking.uri={dripping}"]
    done = command("bpx.train", *words, cwd=tmp_path, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and dripping in done.stderr, done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("how", ["header", "body"])
def test_an_answer_that_never_ends_is_left_behind_later_too(how, dripping, monkeypatch):
    monkeypatch.setattr(Dripping, "how", how)
    monkeypatch.setattr(Dripping, "asked", 0)
    monkeypatch.setattr(library, "ANSWER_WITHIN", 1.0)
    client = library.open_client(dripping)
    with pytest.raises(TimeoutError, match="no answer within 1 s"):
        client.set_tag("0" * 32, "key", "value")
    monkeypatch.setattr(library, "FILES_WITHIN", 1.0)
    with pytest.raises(TimeoutError, match="no answer within 1 s"):
        client.download_artifacts("0" * 32, "config")


def test_every_answer_is_bounded_in_size(dripping, monkeypatch):
    monkeypatch.setattr(Dripping, "how", "endless")
    monkeypatch.setattr(Dripping, "asked", 0)
    monkeypatch.setattr(library, "MAX_ANSWER", 2**20)
    client = library.open_client(dripping)
    with library.quietly(), pytest.raises(Exception, match="an answer of more than 1,048,576 bytes"):
        client.get_run("0" * 32)


@pytest.mark.parametrize(("limit", "read", "closed"), [(5, 4, True), (6, 1, True), (6, 4, False)])
def test_a_connection_whose_answer_is_not_read_to_its_end_is_closed(limit, read, closed):
    class Body:
        closed = False

        def stream(self):
            yield from (b"ab", b"cd", b"ef")

        def close(self):
            self.closed = True

    body = Body()
    pieces = library.BoundedBody(body, limit).stream()
    with suppress(ValueError):
        list(islice(pieces, read))
    pieces.close()
    assert body.closed == closed


TARGET = '"target": {"uri": "u", "experiment": "e", "run": "r"}'


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", '{"format": 1}', "[" * 5000, '{"format": 1, "target": {}, "sent": 0, "todo": []}'),
        f'{{"format": 1, {TARGET}, "sent": "x", "todo": []}}',
        f'{{"format": 1, {TARGET}, "sent": 0, "todo": [["run", "rm"]]}}',
        f'{{"format": 1, {TARGET}, "sent": 0, "todo": [["artifact", "/etc/passwd", ""]]}}',
        f'{{"format": 1, {TARGET}, "sent": 0, "todo": [["artifact", "../x", ""]]}}',
        f'{{"format": 1, {TARGET}, "sent": 0, "todo": [["artifact"]]}}',
        f'{{"format": 1, {TARGET}, "sent": 0, "todo": [["tag", "a"]]}}',
        f'{{"format": 1, {TARGET}, "sent": 0, "todo": [["end", "FINISHED", "now"]]}}',
        f'{{"format": 1, {TARGET}, "sent": 0, "todo": [["model", 1]]}}',
    ],
)
def test_a_damaged_spool_is_one_line(content, tmp_path, capsys):
    (tmp_path / "delivery.json").write_text(content)
    assert sync.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path / 'delivery.json'}" in said and "cannot be used" not in said


@pytest.mark.parametrize("line", ["hello", "null", '{"a":1}', '{"step": 1, "at": 2, "metrics": {"a": "b"}}'])
def test_a_damaged_line_of_metrics_is_not_the_fault_of_the_store(line, tmp_path, capsys):
    tracker = opened(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, DATA)
    tracker.finish("finished")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    assert sync.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path / 'metrics.jsonl'} is damaged" in said and "cannot be used" not in said


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("postgresql://h/db", ["connect_timeout"]),
        ("postgresql+psycopg://h/db", ["connect_timeout"]),
        ("postgresql+pg8000://h/db", ["timeout"]),  # pg8000.connect(..., timeout=None)
        ("mysql+pymysql://h/db", ["connect_timeout"]),
        ("sqlite:///mlflow.db", []),
    ],
)
def test_the_timeout_has_the_name_that_the_driver_gives_it(uri, names):
    assert list(store.connect_args(uri)) == names


def test_the_environment_is_restored_when_the_last_thread_leaves(monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    before = dict(os.environ)
    first, second = library.quietly(), library.quietly()
    with first:
        second.__enter__()  # as a thread does that leaves later
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    second.__exit__(None, None, None)
    assert dict(os.environ) == before


@pytest.mark.parametrize("words", [[], ["a", "b"], ["/nonexistent"], ["--what"]])
def test_sync_says_what_it_takes(words, capsys):
    assert sync.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_waits_is_for_its_owner_alone(tmp_path):
    spool = Spool(tmp_path, {"uri": "http://me:secret@127.0.0.1:1", "experiment": "e", "run": "r"})
    for tell in (spool.save, lambda: spool.add("tag", "a", "b"), lambda: spool.arrived(0)):
        tell()
        assert (tmp_path / "delivery.json").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["delivery.json"] and Spool.load(tmp_path).todo == spool.todo


def test_a_directory_in_use_is_not_synced(tmp_path):
    tracker = opened(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, DATA)
    with pytest.raises(TrackingError, match="another process is writing"):
        delivery.sync(tmp_path)
    tracker.finish("finished")
    assert delivery.sync(tmp_path).run == tracker.run_id


def test_a_store_that_stays_locked_gets_the_rest_later(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FREE_WITHIN", 0.3)
    database = tmp_path / "mlflow.db"
    tracker = opened(f"sqlite:///{database}", tmp_path, DATA)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        tracker.log(1, 0.1, {"m": 1.0})
        tracker.finish("finished")
        assert str(database) in tracker.unsent and "locked" in tracker.unsent
        with pytest.raises(TrackingError, match="locked"):
            delivery.sync(tmp_path)
        other.execute("ROLLBACK")
    assert delivery.sync(tmp_path).run == tracker.run_id
    assert steps(tracker) == [1] and tracker._client.get_run(tracker.run_id).info.status == "FINISHED"


def test_a_link_is_not_sent(tmp_path, capsys):
    home, secret = tmp_path / "run", tmp_path / "secret"
    (home / "figures").mkdir(parents=True)
    secret.write_text("secret")
    (home / "figures" / "a.png").symlink_to(secret)
    target = {"uri": f"sqlite:///{tmp_path / 'x.db'}", "experiment": "0", "run": "r"}
    spool = Spool(home, target)
    spool.add("artifact", "figures", "figures")
    assert sync.main([str(home)]) == 2 and not (tmp_path / "x.db").exists()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"a.png is a link to {secret}" in said
    with pytest.raises(ValueError, match="is a link"):
        delivery._artifact(None, spool, "figures", "figures")
