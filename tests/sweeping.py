"""What the tests of sweeps share: the command of a small sweep, a database and a server on free ports."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

WORDS = ["-m", "hydra/sweeper=bpx_optuna", "dataset.val_size=0.2", "tracking=none", "model.width=10"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Sweep:
    """The command of a small sweep in a directory, and the study that it leaves."""

    def __init__(self, home, command):
        self.home, self.command = home, command

    def words(self, *more):
        keys = {word.partition("=")[0] for word in more}
        return [w for w in WORDS if w.partition("=")[0] not in keys] + list(more)

    def __call__(self, *more, env=None, timeout=300):
        words = self.words(*more)
        if env is None:
            return self.command("bpx.train", *words, cwd=self.home, timeout=timeout)
        return subprocess.run(  # modules that PYTHONPATH adds are found by a new process only
            [sys.executable, "-m", "bpx.train", *words],
            cwd=self.home,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, *more, env=None):
        """Start the command in a process group of its own and return it."""
        return subprocess.Popen(
            [sys.executable, "-m", "bpx.train", *self.words(*more)],
            cwd=self.home,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def study(self, name="default-sweep", storage=None):
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        if storage is None:
            storage = JournalStorage(JournalFileBackend(str(self.home / "outputs" / name / "optuna.journal")))
        return optuna.load_study(study_name=name, storage=storage)

    def wait(self, ready, name="default-sweep", storage=None, within=120):
        """Wait until ``ready(trials)`` and return the trials."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                trials = self.study(name, storage).trials
                if ready(trials):
                    return trials
            except (KeyError, OSError):
                pass  # not there yet
            time.sleep(0.2)
        raise AssertionError("it did not come to that in time")


@pytest.fixture
def sweep(tmp_path, command):
    return Sweep(tmp_path, command)


@contextmanager
def ended(*processes):
    """Kill what is left of the processes."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


class Postgres:
    """A PostgreSQL of its own, from whatever package of the system."""

    def __init__(self, programs, directory):
        self.programs, self.directory, self.port = programs, directory, free_port()
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self._run("initdb", "-D", str(directory / "data"), "-A", "trust", "-U", "postgres", "-N")
        self.start()

    def _run(self, program, *words):
        as_user = ["runuser", "-u", self.user, "--"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*as_user, str(self.programs / program), *words],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-l", log, "-w", "-o", options, "start")

    def stop(self):
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "-w", "stop")

    def database(self, name):
        import psycopg

        server = f"postgres@127.0.0.1:{self.port}"
        with psycopg.connect(f"postgresql://{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{server}/{name}"


@pytest.fixture(scope="session")
def postgres_server():
    places = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    found = [Path(place).parent for place in places if place]
    if not found:
        assert "BPX_TEST_ALL" not in os.environ, "PostgreSQL is not installed"
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is missing: pip install 'bpx[distributed]'")
    directory = Path(tempfile.mkdtemp(prefix="bpx-postgres-"))
    if os.getuid() == 0:
        shutil.chown(directory, "postgres")
    server = Postgres(found[0], directory)
    yield server
    server.stop()
    shutil.rmtree(directory)


@pytest.fixture
def database(postgres_server, request):
    return postgres_server.database(f"d{abs(hash(request.node.name))}")


@pytest.fixture
def mlflow_server(tmp_path, new_store):
    """Start `mlflow server` on the loopback and return its address."""
    port = free_port()
    new_store(f"sqlite:///{tmp_path}/server.db")
    words = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "art"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    with ended(process):
        answers(address)
        yield address


def answers(address):
    """Wait until an MLflow server listens."""
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/health", timeout=1).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("mlflow server does not start")
