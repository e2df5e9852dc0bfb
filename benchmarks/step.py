"""One training step (SGD, float32) beside PyTorch eager, scikit-learn's MLPClassifier and the bare matrix products.

python benchmarks/step.py            prints a Markdown table: medians, ratios, peak allocation of a step
python benchmarks/step.py LSTM GRU   some cases only (cases.py lists them)

A step takes a batch from the data (shuffled rows), then forward, cost, backward and update. The contenders take turns
in rounds, so that whatever else the machine does hits all of them; a time is the median over the rounds.
scikit-learn has no public step: its time is the difference of two fits of different length, per step.
"""

import argparse
import math
import statistics
import time
import tracemalloc
import warnings

import numpy as np
import torch
from cases import CASES, products
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from bpx.data import Batches
from bpx.engine import sgd

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


def measure(case, rounds, budget):
    runs = {"bpx": ours(case), "torch": pytorch(case), "products": steps_of(products(case))}
    counts = {}
    for key, step in runs.items():
        step(3)
        start = time.perf_counter()
        step(3)
        counts[key] = max(1, int(budget / rounds / ((time.perf_counter() - start) / 3)))
    times = {key: [] for key in (*runs, "sklearn")}
    ratios = []
    epochs = max(1, round(counts["torch"] / math.ceil(SAMPLES / case.batch)))
    for r in range(rounds):
        for key, step in runs.items():
            start = time.perf_counter()
            step(counts[key])
            times[key].append((time.perf_counter() - start) / counts[key])
        ratios.append(times["bpx"][-1] / times["torch"][-1])
        if r % 3 == 0 and case.hidden:
            times["sklearn"].append(sklearn_step(case, epochs))
    medians = {key: 1e3 * statistics.median(t) if t else math.nan for key, t in times.items()}
    return medians, statistics.median(ratios), peak_kib(runs["bpx"])


def cell(value, digits):
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="*", help="cases whose name holds one of these; all where there is none")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each contender and case")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    chosen = [case for case in CASES if not options.only or any(word in case.name for word in options.only)]
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(f"\n### {threads} thread{'s' * (threads > 1)}\n")
        print("| network | batch | bpx / ms | PyTorch / ms | scikit-learn / ms | products / ms "
              "| bpx:PyTorch | bar | bpx:scikit-learn | bpx:products | peak / KiB |")  # fmt: skip
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        ratios = []
        with threadpool_limits(threads):
            for case in chosen:
                t, ratio, peak = measure(case, options.rounds, options.seconds)
                own = t["bpx"]
                if case.hidden:
                    ratios.append(ratio)
                print(f"| {case.name} | {case.batch} | {own:.3f} | {t['torch']:.3f} | {cell(t['sklearn'], 3)} "
                      f"| {t['products']:.3f} | {ratio:.2f} | {case.bar} | {cell(own / t['sklearn'], 2)} "
                      f"| {own / t['products']:.2f} | {peak:.0f} |", flush=True)  # fmt: skip
        if ratios:
            print(f"\nGeometric mean of bpx:PyTorch, perceptrons: {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
