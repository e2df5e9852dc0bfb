"""One training step (SGD, float32) beside PyTorch eager, JAX, scikit-learn and the bare matrix products.

python benchmarks/step.py            prints a Markdown table: medians, ratios, peak allocation of a step
python benchmarks/step.py LSTM GRU   some cases only (cases.py lists them)

A step takes a batch from the data (shuffled rows), then forward, cost, backward and update. The contenders take turns
in rounds, so that whatever else the machine does hits all of them; a time is the median over the rounds.
scikit-learn's MLPClassifier has no public step: its time is the difference of two fits of different length, per step.
JAX's step is compiled (jit) and stands in the table of one thread: XLA's own options do not hold its products to one
thread, so all contenders of that table are held to one core.
"""

import argparse
import math
import os
import platform
import re
import statistics
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import torch
from cases import CASES, products
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from bpx.data import Batches
from bpx.engine import sgd

try:
    from jitted import jitted, seeds_at_once
except ModuleNotFoundError:  # a benchmark without JAX is one column shorter
    jitted = seeds_at_once = None

SAMPLES, LR = 4096, 0.01


def data(case):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, math.prod(case.shape)), dtype=np.float32)
    return x, rng.integers(0, case.n_out, SAMPLES)


def steps_of(make_epoch):
    """Turn an endless supply of epochs into a function that makes so many steps."""

    def stream():
        while True:
            yield from make_epoch()

    supply = stream()
    return lambda n: [next(supply) for _ in range(n)]


def ours(case):
    x, y = data(case)
    net = case.build().bind(case.batch)
    optimizer = sgd(LR).bind(net.parameters)
    batches = Batches(x, y, case.batch, np.random.default_rng(1))

    def epoch():
        for xb, yb in batches.epoch():
            net.cost(xb, yb)
            net.backward()
            optimizer.propose()
            optimizer.apply()
            yield

    return steps_of(epoch)


def pytorch(case):
    x, y = map(torch.from_numpy, data(case))
    x = x.reshape(SAMPLES, *case.shape)
    net = case.module()
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    criterion = torch.nn.CrossEntropyLoss()

    def epoch():
        order = torch.randperm(SAMPLES)
        for start in range(0, SAMPLES, case.batch):
            rows = order[start : start + case.batch]
            optimizer.zero_grad()
            criterion(net(x[rows]), y[rows]).backward()
            optimizer.step()
            yield

    return steps_of(epoch)


def sklearn_step(case, epochs):
    """Return seconds a step of a perceptron from two fits, of one epoch and of 1 + ``epochs``."""
    x, y = data(case)
    took = []
    for n in (1, 1 + epochs):
        net = MLPClassifier(
            case.hidden, activation=case.activation, solver="sgd", alpha=0, batch_size=case.batch,
            learning_rate_init=LR, momentum=0, nesterovs_momentum=False, max_iter=n, tol=0.0,
            n_iter_no_change=10**6, random_state=0,
        )  # fmt: skip
        start = time.perf_counter()
        net.fit(x, y)
        took.append(time.perf_counter() - start)
    return (took[1] - took[0]) / (epochs * math.ceil(SAMPLES / case.batch))


def peak_kib(step):
    step(3)
    tracemalloc.start()
    step(2)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    step(1)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak / 1024


def measure(case, rounds, budget, threads):
    runs = {"bpx": ours(case), "torch": pytorch(case), "products": steps_of(products(case))}
    if jitted and threads == 1:
        runs["jax"] = steps_of(jitted(case, *data(case), LR))
    counts = {}
    for key, step in runs.items():
        step(3)
        start = time.perf_counter()
        step(3)
        counts[key] = max(1, int(budget / rounds / ((time.perf_counter() - start) / 3)))
    times = {key: [] for key in ("bpx", "torch", "products", "jax", "sklearn")}
    cpu = {key: [] for key in runs}
    epochs = max(1, round(counts["torch"] / math.ceil(SAMPLES / case.batch)))
    for r in range(rounds):
        for key, step in runs.items():
            start, used = time.perf_counter(), time.process_time()
            step(counts[key])
            times[key].append((time.perf_counter() - start) / counts[key])
            cpu[key].append((time.process_time() - used) / counts[key])
        if r % 3 == 0 and case.hidden:
            times["sklearn"].append(sklearn_step(case, epochs))
    medians = {key: 1e3 * statistics.median(t) if t else math.nan for key, t in times.items()}
    ratios = {key: median_ratio(times["bpx"], t) for key, t in times.items()}
    ratios["cpu"] = median_ratio(cpu["bpx"], cpu["torch"])
    return medians, ratios, peak_kib(runs["bpx"])


def median_ratio(own, other):
    """Return the median of the ratios of rounds; scikit-learn's, which are fewer, are medians of their own."""
    if len(own) == len(other):
        return statistics.median(a / b for a, b in zip(own, other, strict=True))
    return statistics.median(own) / statistics.median(other) if other else math.nan


def compare_seeds(case, rounds, seeds=20):
    """Print the time of a step of several small networks: ours one after the other, JAX's at once (vmap)."""
    runs = {"bpx": ours(case), "jax": steps_of(seeds_at_once(case, *data(case), LR, seeds))}
    times = {key: [] for key in runs}
    for _ in range(rounds):
        for key, step in runs.items():
            n = 20 * (seeds if key == "bpx" else 1)
            start = time.perf_counter()
            step(n)
            times[key].append((time.perf_counter() - start) / 20)
    own, other = (1e3 * statistics.median(times[key]) for key in runs)
    ratio = median_ratio(times["bpx"], times["jax"])
    print(f"\n{seeds} seeds of {case.name}: bpx one after the other {own:.2f} ms, "
          f"JAX at once (vmap) {other:.2f} ms ({ratio:.2f})")  # fmt: skip


def machine():
    """Return the CPU, and the kernels that run in BLAS."""
    cpu = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpu.read_text()) if cpu.exists() else []
    blas = {
        f"{i['internal_api']} {i['version']} ({i['architecture']})" for i in threadpool_info() if "architecture" in i
    }
    forced = os.environ.get("OPENBLAS_CORETYPE")
    return f"CPU: {names[0] if names else platform.processor()}; BLAS: {', '.join(sorted(blas))}" + (
        f"; OPENBLAS_CORETYPE={forced} forces its kernel: unset it" if forced else ""
    )


def cell(value, digits):
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="cases whose name holds one of these; all where there is none")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each contender and case")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    print(machine())
    warnings.filterwarnings("ignore")
    chosen = [case for case in CASES if not options.only or any(word in case.name for word in options.only)]
    cores = sorted(os.sched_getaffinity(0))
    for threads in options.threads:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, cores[:1] if threads == 1 else cores)  # inherited by the threads that XLA starts
        print(f"\n### {threads} thread{'s' * (threads > 1)}\n")
        print("| network | batch | bpx / ms | PyTorch / ms | JAX / ms | scikit-learn / ms | products / ms "
              "| bpx:PyTorch | CPU | bar | bpx:JAX | bpx:scikit-learn | bpx:products | peak / KiB |")  # fmt: skip
        print("|---|" + "---:|" * 13)
        perceptrons = []
        with threadpool_limits(threads):
            for case in chosen:
                t, ratio, peak = measure(case, options.rounds, options.seconds, threads)
                if case.hidden:
                    perceptrons.append(ratio)
                print(f"| {case.name} | {case.batch} | {t['bpx']:.3f} | {t['torch']:.3f} | {cell(t['jax'], 3)} "
                      f"| {cell(t['sklearn'], 3)} | {t['products']:.3f} | {ratio['torch']:.2f} | {ratio['cpu']:.2f} "
                      f"| {case.bar} | {cell(ratio['jax'], 2)} | {cell(ratio['sklearn'], 2)} | {ratio['products']:.2f} "
                      f"| {peak:.0f} |", flush=True)  # fmt: skip
            for key, name in {"torch": "PyTorch", "jax": "JAX"}.items():
                found = [ratio[key] for ratio in perceptrons if math.isfinite(ratio[key])]
                if found:
                    print(f"\nGeometric mean of bpx:{name}, perceptrons: {statistics.geometric_mean(found):.2f}")
            if seeds_at_once and threads == 1 and chosen[0].hidden:
                compare_seeds(chosen[0], options.rounds)


if __name__ == "__main__":
    main()
