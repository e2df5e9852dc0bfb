"""What a sweep costs: overhead a trial, two workers beside one, a long study taken up again.

python benchmarks/sweep.py [rounds]     prints a Markdown table: medians over the rounds
python benchmarks/sweep.py turns        a trial and the same training untracked, in turn in one process, by both clocks

All commands are processes of their own in a directory of their own, as a person would start them. A trial's time is
its share of the time from the first trial's start to the last one's end, so that asking, composing, tracking and
telling are in it (ten evaluations, each reported to Optuna, none pruned). The same training called directly is
`bpx.runs.run.train_run`, in one process that has made two already.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

TRAINING = [
    "dataset.val_size=0.2",
    "epochs=10",
    "model.depth=8",
    "checkpoint.keep=0",
    "tracking.figures=false",
    "tracking.model=false",
]
PATIENT = "hydra.sweeper.pruner.n_startup_trials=1000"  # the median pruner reads every report and prunes none
SWEEP = ["-m", "hydra/sweeper=bpx_optuna", "hydra/sweeper/sampler=random", PATIENT]
SPACE = ["optimizer.lr=tag(log,interval(1e-2,1e-1))"]
TRIALS, LONG = 16, 500
DIRECT = f"""
import sys, time
from pathlib import Path
from hydra import compose, initialize_config_dir
from bpx.system.tree import CONF
from bpx.runs.run import train_run
with initialize_config_dir(str(CONF), version_base="1.3"):
    config = compose("config", sys.argv[1:] + ["progress=false"])
for i in range({TRIALS} + 2):
    if i == 2:
        began = time.perf_counter()
    train_run(config, "direct", Path("direct"), [], quiet=True)
print((time.perf_counter() - began) / {TRIALS})
"""
TURNS = """
import statistics, time
from hydra import compose, initialize_config_dir
from bpx import train
from bpx.system.tree import CONF
from bpx.sweep import search, trial
with initialize_config_dir(str(CONF), version_base="1.3"):
    untracked = compose("config", ["tracking=none", "tracking.figures=false", "tracking.model=false"]).tracking
train_run, take, alone, trials = trial.train_run, search.Search._take, [], []
def timed(call, *args, **kwargs):
    wall, cpu = time.perf_counter(), time.process_time()
    done = call(*args, **kwargs)
    return done, (time.perf_counter() - wall, time.process_time() - cpu)
def in_turn(config, name, *words, **more):
    done = train_run(config, name, *words, **more)
    plain = config.copy()
    plain.tracking = untracked
    alone.append(timed(train_run, plain, name, trial.Path("direct"), [], quiet=True)[1])
    return done
def take_timed(self):
    both = timed(take, self)[1]
    trials.append([b - a for b, a in zip(both, alone[-1])])
trial.train_run, search.Search._take = in_turn, take_timed
train.main()
for i, clock in enumerate(("wall", "CPU")):
    a_trial, bare = (statistics.median(t[i] for t in times[2:]) for times in (trials, alone))
    print(f"{clock}: a trial {a_trial:.3f} s, untracked {bare:.3f} s, overhead {a_trial - bare:.3f} s")
"""


def study(home):
    journal = home / "outputs" / "default-sweep" / "optuna.journal"
    return optuna.load_study(study_name="default-sweep", storage=JournalStorage(JournalFileBackend(str(journal))))


def start(home, n_trials):
    words = [*SWEEP, *TRAINING, *SPACE, f"hydra.sweeper.n_trials={n_trials}"]
    return subprocess.Popen([sys.executable, "-m", "bpx.train", *words], cwd=home, stdout=subprocess.DEVNULL)


def direct(home, *more):
    words = [sys.executable, "-c", DIRECT, *TRAINING, *more]
    return float(subprocess.run(words, cwd=home, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def seconds_a_trial(home, workers):
    """Run a study with so many workers at once and return the seconds a trial."""
    processes = [start(home, TRIALS * workers) for _ in range(workers)]
    assert [p.wait() for p in processes] == [0] * workers
    trials = study(home).trials
    span = max(t.datetime_complete for t in trials) - min(t.datetime_start for t in trials)
    return span.total_seconds() / len(trials)


def in_turn():
    """Return what a trial costs beside the same training untracked, in wall and in CPU time, as lines of text."""
    with tempfile.TemporaryDirectory() as home:
        words = [sys.executable, "-c", TURNS, *SWEEP, *TRAINING, *SPACE, f"hydra.sweeper.n_trials={TRIALS}"]
        output = subprocess.run(words, cwd=home, capture_output=True, text=True, check=True).stdout
    return "\n".join(output.splitlines()[-2:])


def resuming(home):
    """Return the seconds from the start of a command to its first trial, in a study of LONG finished ones."""
    assert start(home, 1).wait() == 0
    long = study(home)
    (one,) = long.trials
    for _ in range(LONG - 1):
        long.add_trial(
            create_trial(
                values=one.values, params=one.params, distributions=one.distributions, user_attrs=one.user_attrs
            )
        )
    began = datetime.now()
    assert start(home, LONG + 1).wait() == 0
    return (study(home).trials[-1].datetime_start - began).total_seconds()


def measure():
    with tempfile.TemporaryDirectory() as scratch:
        homes = [Path(scratch, name) for name in ("plain", "tracked", "one", "two", "long")]
        for home in homes:
            home.mkdir()
        result = {
            "direct, untracked": direct(homes[0], "tracking=none"),
            "direct, MLflow": direct(homes[1]),
            "one worker": seconds_a_trial(homes[2], 1),
            "two workers": seconds_a_trial(homes[3], 2),
            "resume": resuming(homes[4]),
        }
    return result


def main(rounds):
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    measured = []
    for i in range(rounds):
        began = time.perf_counter()
        measured.append(measure())
        print(f"round {i + 1}: {time.perf_counter() - began:.0f} s", file=sys.stderr)

    def median(of):
        return statistics.median(of(m) for m in measured)

    one = "one worker"
    rows = [
        ("training called directly, untracked / s", median(lambda m: m["direct, untracked"]), ""),
        ("training called directly, with MLflow / s", median(lambda m: m["direct, MLflow"]), ""),
        ("a trial of the sweep, with MLflow / s", median(lambda m: m[one]), ""),
        ("overhead a trial over untracked training / s", median(lambda m: m[one] - m["direct, untracked"]), "0.25"),
        ("overhead a trial over tracked training / s", median(lambda m: m[one] - m["direct, MLflow"]), ""),
        ("trials a minute, two workers over one", median(lambda m: m[one] / m["two workers"]), "at least 1.7"),
        (f"start to next trial after {LONG} finished / s", median(lambda m: m["resume"]), "5"),
    ]
    print("| | measured | bar |\n|---|---:|---:|")
    for name, value, bar in rows:
        print(f"| {name} | {value:.2f} | {bar} |")


if __name__ == "__main__":
    if sys.argv[1:] == ["turns"]:
        print(in_turn())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
