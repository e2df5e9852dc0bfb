"""Time and memory by size: records of a run, layers, features, classes, trials of a study.

python benchmarks/scale.py                        prints a Markdown table of every size
python benchmarks/scale.py --only layers trials   of some of them
python benchmarks/scale.py --largest 10000 --minutes 10 --gib 8

A size that takes longer than ``--minutes`` of the clock or more than ``--gib`` of address space is said to be not
reached, and the larger ones are left out. Every size is one command in a process of its own, untracked, with figures
and report as a run leaves them: CPU seconds and the largest resident memory are those of the process. ``growth`` is the
exponent of the CPU time beyond the smallest size's, between a size and the one before it: 1 is linear.
"""

import argparse
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
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
    "layers": (10, 100, 1_000, 3_000, 10_000),
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
    assert started(home, [*words, "hydra.sweeper.n_trials=1"]) is not None
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


def started(home, words, seconds=None, gib=None):
    """Run the command and return its CPU seconds and its largest resident memory in MiB; None if it was too much."""

    def limit():
        if gib is not None:
            resource.setrlimit(resource.RLIMIT_AS, (int(gib * 2**30), int(gib * 2**30)))

    command = [sys.executable, "-m", "bpx.train", *RUN, *words]
    with (home / "stderr").open("w") as err:
        process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=err, preexec_fn=limit)
    timer = threading.Timer(seconds or threading.TIMEOUT_MAX, process.send_signal, [signal.SIGKILL])
    timer.daemon = True
    timer.start()
    _, status, used = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(" ".join(command), (home / "stderr").read_text()[-1000:], file=sys.stderr)
        return None
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(SIZES), help="words of: " + ", ".join(SIZES))
    parser.add_argument("--largest", type=int, default=10**6)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--gib", type=float, default=12)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{datetime.now():%Y-%m-%d}\n\n| what | size | CPU / s | memory / MiB | growth |\n|---|---:|---:|---:|---:|")
    for what, sizes in SIZES.items():
        if not any(word in what for word in asked.only):
            continue
        base, before = None, None
        for size in (s for s in sizes if s <= asked.largest):
            with tempfile.TemporaryDirectory() as home:
                words = COMMANDS[what](Path(home), size)
                took = started(Path(home), words, 60 * asked.minutes, asked.gib)
            if took is None:
                print(f"| {what} | {size:,} | not reached | | |", flush=True)
                break
            seconds, memory = took
            base = seconds if base is None else base
            growth = ""
            if before is not None and min(before[1], seconds) > 1.1 * base:  # else it is noise
                growth = f"{math.log((seconds - base) / (before[1] - base)) / math.log(size / before[0]):.2f}"
            print(f"| {what} | {size:,} | {seconds:.1f} | {memory:.0f} | {growth} |", flush=True)
            before = (size, seconds)


if __name__ == "__main__":
    main()
