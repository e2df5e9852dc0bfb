"""Time and memory by size: records of a run, layers, features, classes, trials of a study.

python benchmarks/scale.py [largest]     prints a Markdown table of the sizes up to ``largest`` (default 1,000,000)

Every size is one command in a process of its own, untracked, with figures and report as a run leaves them: CPU seconds
and the largest resident memory are those of the process. ``growth`` is the exponent of the CPU time beyond the smallest
size's, between a size and the one before it: 1 is linear.
"""

import math
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

RUN = ["tracking=none", "progress=false"]
SPACE = "optimizer.lr=tag(log,interval(1e-2,1e-1))"
SIZES = {
    "records of a run": (1_000, 10_000, 100_000, 1_000_000),
    "layers": (10, 100, 1_000, 10_000),
    "features": (100, 1_000, 10_000, 100_000),
    "classes": (10, 100, 1_000),
    "trials of a study": (200, 2_000, 20_000),
}


def records(home, size):
    """A step and a record of every layer each time."""
    return ["dataset=classification", "probes=light", "probes.every=1", f"epochs={size}", f"max_steps={size}"]


def layers(home, size):
    return ["dataset=classification", f"model.depth={size}", "model.width=10", "activation=tanh", "max_steps=20"]


def features(home, size):
    rng = np.random.default_rng(0)
    np.savez(home / "data.npz", x=rng.standard_normal((200, size)).astype("float32"), y=np.arange(200) % 2)
    return ["dataset=file", "dataset.path=data.npz", "model.depth=2", "model.width=32", "max_steps=20"]


def classes(home, size):
    rng = np.random.default_rng(0)
    y = np.arange(20 * size) % size
    np.savez(home / "data.npz", x=rng.standard_normal((20 * size, 20)).astype("float32"), y=y)
    return ["dataset=file", "dataset.path=data.npz", "model.depth=2", "model.width=32", "max_steps=20"]


def trials(home, size):
    """One trial more where ``size`` are finished."""
    words = ["-m", "hydra/sweeper=bpx_optuna", "hydra/sweeper/sampler=random", SPACE, "dataset.val_size=0.2"]
    words += ["max_steps=20", "tracking.figures=false"]
    started(home, [*words, "hydra.sweeper.n_trials=1"])
    (journal,) = home.glob("outputs/*/optuna.journal")
    study = optuna.load_study(study_name=journal.parent.name, storage=JournalStorage(JournalFileBackend(str(journal))))
    (first,) = study.trials
    rng = np.random.default_rng(0)
    for number in range(1, size):
        study.add_trial(
            create_trial(
                params={"optimizer.lr": float(10 ** rng.uniform(-2, -1))},
                distributions=first.distributions,
                values=[float(rng.random())],
                user_attrs=first.user_attrs | {"bpx.directory": f"trial_{number:04d}"},
            )
        )
    return [*words, f"hydra.sweeper.n_trials={size + 1}"]


COMMANDS = dict(zip(SIZES, (records, layers, features, classes, trials), strict=True))


def started(home, words):
    """Run the command and return its CPU seconds and its largest resident memory in MiB."""
    command = [sys.executable, "-m", "bpx.train", *RUN, *words]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, " ".join(command)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main(largest):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{datetime.now():%Y-%m-%d}\n\n| what | size | CPU / s | memory / MiB | growth |\n|---|---:|---:|---:|---:|")
    for what, sizes in SIZES.items():
        base, before = None, None
        for size in (s for s in sizes if s <= largest):
            with tempfile.TemporaryDirectory() as home:
                words = COMMANDS[what](Path(home), size)
                seconds, memory = started(Path(home), words)
            base = seconds if base is None else base
            growth = ""
            if before is not None and before[1] > base:
                growth = f"{math.log((seconds - base) / (before[1] - base)) / math.log(size / before[0]):.2f}"
            print(f"| {what} | {size:,} | {seconds:.1f} | {memory:.0f} | {growth} |", flush=True)
            before = (size, seconds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**6)
