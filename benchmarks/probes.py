"""What measuring costs: runs with probes and MLflow beside the same training with neither.

python benchmarks/probes.py [rounds]     prints Markdown tables: medians over the rounds, ratios to probes=none

Every run is a process of its own in a directory of its own, as a person would start it; the variants take turns.
Training is timed from the first step to the moment when the last record is written and the last metric sent;
set-up is everything before (interpreter, imports, schema, data, theory), closing everything after (evaluation,
figures, model, artifacts). MNIST is looked for in BPX_DATA_DIR; the first round, which is not counted, warms the
caches.
"""

import statistics
import subprocess
import sys
import tempfile
import time

CASES = {
    "784-128-64-10, batch 32, 5 epochs": ["model.hidden=[128,64]", "batch_size=32", "epochs=5"],
    "784-50x100-10, batch 128, 2 epochs": ["model.depth=50", "model.width=100", "batch_size=128", "epochs=2"],
}
VARIANTS = {
    "none, untracked": ["probes=none", "tracking=none"],
    "standard, MLflow": ["probes=standard"],
    "light every step, MLflow": ["probes=light", "probes.every=1"],
    "full, MLflow": ["probes=full"],
}
BARS = {
    "standard, MLflow": (1.10, 1.10),
    "light every step, MLflow": (1.60, 1.35),
}
SEEN = """
import sys, time
from bpx.runs import execution
from bpx.runs.measurement import Measurement
from bpx.tracking import MLflowTracker
from bpx.train import main
fit, test, write, send = execution.fit, execution.evaluated, Measurement.close, MLflowTracker._begin_to_send
marks, tracker = {}, None
def sending(self, spool):
    global tracker
    tracker = self
    send(self, spool)
def training(*a, **k):
    marks["first"] = time.time()
    yield from fit(*a, **k)
def evaluation(net, data):
    start = time.time()
    found = test(net, data)
    marks["evaluation"] = time.time() - start
    return found
def written(self):
    write(self)
    delivery = getattr(tracker, "_delivery", None)
    if delivery is not None:  # have everything sent that waits, then let it go on
        delivery.finish(None)
        tracker._begin_to_send(delivery.spool)
    marks["flushed"] = time.time()
execution.fit, execution.evaluated = training, evaluation
Measurement.close, MLflowTracker._begin_to_send = written, sending
sys.argv = ["bpx.train", *sys.argv[1:]]
code = main()
print("MARKS", marks["first"], marks["flushed"], marks["evaluation"], time.time())
sys.exit(code)
"""


def measure(words, home):
    """Run a training and return the seconds of set-up, training, closing, and of the evaluation within closing."""
    start = time.time()
    command = [sys.executable, "-c", SEEN, "dataset=mnist", "dataset.fallback=null", "progress=false", *words]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    first, flushed, evaluation, end = map(float, done.stdout.rsplit("MARKS", 1)[1].split())
    return first - start, flushed - first - evaluation, end - flushed + evaluation, evaluation


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found = {}
    with tempfile.TemporaryDirectory() as home:
        for case, shape in CASES.items():
            for turn in range(rounds + 1):
                for variant, words in VARIANTS.items():
                    took = measure([*shape, *words], home)
                    if turn:
                        found.setdefault((case, variant), []).append(took)
    print("| network | probes | training / s | to none | bar | set-up / s | closing / s | of it evaluation / s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for i, case in enumerate(CASES):
        base = [t[1] for t in found[case, "none, untracked"]]
        for variant in VARIANTS:
            took = [statistics.median(column) for column in zip(*found[case, variant], strict=True)]
            ratio = statistics.median(t[1] / b for t, b in zip(found[case, variant], base, strict=True))
            bar = f"{BARS[variant][i]:.2f}" if variant in BARS else ""
            setup, training, closing, evaluation = took
            times = f"{setup:.1f} | {closing:.1f} | {evaluation:.1f}"
            print(f"| {case} | {variant} | {training:.2f} | {ratio:.2f} | {bar} | {times} |")


if __name__ == "__main__":
    main()
