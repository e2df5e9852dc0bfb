"""What watching a PyTorch model costs, beside the bare loop and two ways that people use instead.

python benchmarks/pytorch.py [CASE ...]     prints a Markdown table by case: ratios to a bare step, and memory

Every contender makes its step right after a bare one, in one process; a ratio is that of the two, of wall time and of
CPU time, and the median over the pairs is told: whatever else the machine does mostly hits both. ``idle`` is a watched
step that is not due; one step per epoch that is due costs (standard - idle) / steps_per_epoch more. ``norms`` is the
gradient norm of every parameter, as Lightning's ``grad_norm`` utility computes it (the utility itself where Lightning
is installed); ``histories`` is mean, standard deviation and norm of every parameter, of its gradient and of its update,
as Cockpit and other trackers compute at every step.

Memory is that of steps after the one at which the watch begins, each contender in a process of its own (Linux, glibc
2.33 or newer): the most that is allocated when gradients arrive, and the peak of resident memory (getrusage, put back
by clear_refs) over what was resident before the model was made and after a tiny one was watched, for libraries do not
count.
"""

import argparse
import ctypes
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


CASES = {"resnet18": resnet, "encoder": encoder}
WATCHED = {
    "idle": {"every": 10**9},
    "light": {"every": 1, "probes": "light"},
    "standard": {"every": 1},
}


def norms(model, before):
    try:
        from lightning.pytorch.utilities import grad_norm
    except ImportError:
        grad_norm = None
    if grad_norm is not None:
        return {name: float(value) for name, value in grad_norm(model, 2).items()}
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
        started = time.perf_counter(), time.process_time()
        self.step()
        return time.perf_counter() - started[0], time.process_time() - started[1]

    def close(self):
        self.watched.__exit__(None, None, None)
        shutil.rmtree(self.folder)


def measure(make, steps):
    """Return the median milliseconds of a bare step, and of each contender the median ratio of wall and CPU time."""
    bare = Loop(make)
    loops = {name: Loop(make, watch) for name, watch in WATCHED.items()}
    loops |= {"bare again": Loop(make), "norms": Loop(make, each=norms), "histories": Loop(make, each=histories)}
    for loop in (bare, *loops.values()):
        for _ in range(2):
            loop.step()
    seconds, pairs = [], {name: [] for name in loops}
    for _ in range(steps):
        for name, loop in loops.items():
            wall, cpu = bare.timed()
            seconds.append(wall)
            own = loop.timed()
            pairs[name].append((own[0] / wall, own[1] / cpu))
    for loop in (bare, *loops.values()):
        loop.close()
    medians = {
        name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in pairs.items()
    }
    return 1000 * statistics.median(seconds), medians


class Mallinfo(ctypes.Structure):
    """The struct mallinfo2 of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def in_use():
    """Return the memory that is allocated and not freed, in MiB."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    found = libc.mallinfo2()
    return (found.uordblks + found.hblkhd) / 2**20


def resident():
    """Return the peak of resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def peak(case, name):
    """Return two peaks of memory, in MiB, of two steps in a process of its own: allocated and resident."""
    words = [sys.executable, __file__, "--peak", case, name]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def print_peak(case, name):
    tiny = Loop(lambda: (nn.Linear(4, 10), torch.randn(BATCH, 4)), {"every": 1})
    tiny.step()
    start = resident()
    loop = Loop(CASES[case], WATCHED.get(name))
    for _ in range(2):
        loop.step()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory begins anew
    found = []
    for p in loop.model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: found.append(in_use()))
    for _ in range(2):
        loop.step()
    print(max(found), resident() - start)
    for each in (loop, tiny):
        each.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all of them by default")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak:
        print_peak(*given.peak)
        return
    for case in given.cases or CASES:
        memory = {name: peak(case, name) for name in ("bare", *WATCHED)}
        milliseconds, ratios = measure(CASES[case], given.steps)
        extra = [(a - b) / EPOCH for a, b in zip(ratios["standard"], ratios["idle"], strict=True)]
        ratios["standard, one step in an epoch"] = [r + e for r, e in zip(ratios["idle"], extra, strict=True)]
        bare = memory["bare"]
        sizes = f"{bare[0]:.0f} MiB allocated, {bare[1]:.0f} MiB resident"
        print(f"\n{case}, batch {BATCH}: a bare step takes {milliseconds:.0f} ms, {sizes}\n")
        print("| a step | wall | CPU | allocated | resident |\n|---|---:|---:|---:|---:|")
        for name, times in ratios.items():
            room = [a / b for a, b in zip(memory[name], bare, strict=True)] if name in memory else []
            cells = [f"{value:.3f}×" for value in (*times, *room)] + [""] * (2 - len(room))
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
