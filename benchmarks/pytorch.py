"""What watching a PyTorch model costs, beside the bare loop and two ways that people use instead.

python benchmarks/pytorch.py          prints a Markdown table: a bare step, ratios to it, peak memory

The contenders make their steps in turn, so that whatever else the machine does hits all of them; a time is the median.
``idle`` is a watched step that is not due; a step per epoch that is costs (standard - 1) / steps_per_epoch more.
``norms`` is the gradient norm of every parameter, as Lightning's ``grad_norm`` utility computes it; ``histories`` is
mean, standard deviation and norm of every parameter, of its gradient and of its update, as trackers do that keep all.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

import bpx.torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "pytorch"))
from architectures import Encoder, resnet18

BATCH, EPOCH = 64, 782  # steps of 50,000 samples


def resnet():
    return resnet18(64), torch.randn(BATCH, 3, 32, 32)


def encoder():
    return Encoder(True, d=128, depth=6), torch.randn(BATCH, 32, 128)


CASES = {"ResNet-18, 32×32": resnet, "6-layer encoder, 32 tokens of 128": encoder}
WATCHED = {
    "idle": {"every": 10**9},
    "light": {"every": 1, "probes": "light"},
    "standard": {"every": 1},
}


def norms(model, before):
    return {name: p.grad.norm(2).item() for name, p in model.named_parameters() if p.grad is not None}


def histories(model, before):
    found = {}
    for name, p in model.named_parameters():
        step = p.detach() - before[name] if before else p.grad
        for what, t in (("w", p.detach()), ("g", p.grad), ("u", step)):
            found[name, what] = (t.mean().item(), t.std().item(), t.norm().item())
    return found


class Loop:
    """A training loop, watched or with a function that is called after each step."""

    def __init__(self, make, watch=None, each=None):
        torch.manual_seed(0)
        self.model, self.x = make()
        self.y = torch.arange(BATCH) % 10
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.each, self.folder = each, Path(tempfile.mkdtemp())
        self.watched = nullcontext()
        if watch is not None:
            self.watched = bpx.torch.watch(
                self.model, self.optimizer, tracking="none", directory=self.folder / "run", **watch
            )
        self.watched.__enter__()

    def step(self):
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        before = None
        if self.each is histories:
            before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizer.step()
        if self.each is not None:
            self.each(self.model, before)

    def timed(self):
        started = time.perf_counter()
        self.step()
        return time.perf_counter() - started

    def close(self):
        self.watched.__exit__(None, None, None)
        shutil.rmtree(self.folder)


def measure(make, steps):
    loops = {"bare": Loop(make)} | {name: Loop(make, watch) for name, watch in WATCHED.items()}
    loops |= {"norms": Loop(make, each=norms), "histories": Loop(make, each=histories)}
    for loop in loops.values():
        for _ in range(2):
            loop.step()
    times = {name: [] for name in loops}
    for _ in range(steps):
        for name, loop in loops.items():
            times[name].append(loop.timed())
    for loop in loops.values():
        loop.close()
    return {name: statistics.median(found) for name, found in times.items()}


def peak(case, name):
    """Return the largest resident size, in MiB, of a process that makes six steps."""
    words = [sys.executable, __file__, "--peak", case, name]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak:
        case, name = given.peak
        loop = Loop(CASES[case], WATCHED.get(name))
        for _ in range(6):
            loop.step()
        loop.close()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print("| a step, batch 64 | bare / ms | idle | each epoch | light, each step | standard, each step | norms |"
          " histories | peak, bare / MiB | idle | standard |")  # fmt: skip
    print("|---" + "|---:" * 10 + "|")
    for case, make in CASES.items():
        memory = [
            peak(case, name) for name in ("bare", "idle", "standard")
        ]  # first: a child inherits its parent's peak
        times = measure(make, given.steps)
        ratio = {name: seconds / times["bare"] for name, seconds in times.items()}
        epoch = ratio["idle"] + (ratio["standard"] - ratio["idle"]) / EPOCH
        shown = [ratio["idle"], epoch, ratio["light"], ratio["standard"], ratio["norms"], ratio["histories"]]
        cells = [f"{r:.3f}×" for r in shown] + [f"{memory[0]:.0f}", *(f"{m / memory[0]:.2f}×" for m in memory[1:])]
        print(f"| {case} | {1000 * times['bare']:.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
