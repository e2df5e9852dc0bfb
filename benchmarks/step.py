"""One training step (SGD, float32) beside PyTorch eager, scikit-learn's MLPClassifier and the bare matrix products.

python benchmarks/step.py            prints a Markdown table: medians, ratios, peak allocation of a step

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
from itertools import pairwise

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from bpx.data import Batches
from bpx.engine import mlp, sgd

CASES = [
    ("2-10-10-3", 2, [10, 10], 3, 32, "relu"),
    ("784-128-64-10", 784, [128, 64], 10, 32, "relu"),
    ("784-512-512-10", 784, [512, 512], 10, 128, "relu"),
    ("784-20x100-10", 784, [100] * 20, 10, 128, "tanh"),
    ("784-3x1024-10", 784, [1024] * 3, 10, 256, "relu"),
    ("784-50x100-10", 784, [100] * 50, 10, 32, "tanh"),
]
SAMPLES, LR = 4096, 0.01


def data(n_in, n_out):
    rng = np.random.default_rng(0)
    return rng.standard_normal((SAMPLES, n_in), dtype=np.float32), rng.integers(0, n_out, SAMPLES)


def steps_of(make_epoch):
    """Turn an endless supply of epochs into a function that makes so many steps."""

    def stream():
        while True:
            yield from make_epoch()

    supply = stream()
    return lambda n: [next(supply) for _ in range(n)]


def ours(n_in, hidden, n_out, batch, activation):
    x, y = data(n_in, n_out)
    net = mlp(n_in, hidden, n_out, activation, initializer="xavier_normal").bind(batch)
    optimizer = sgd(LR).bind(net.parameters)
    batches = Batches(x, y, batch, np.random.default_rng(1))

    def epoch():
        for xb, yb in batches.epoch():
            net.cost(xb, yb)
            net.backward()
            optimizer.propose()
            optimizer.apply()
            yield

    return steps_of(epoch)


def pytorch(n_in, hidden, n_out, batch, activation):
    x, y = map(torch.from_numpy, data(n_in, n_out))
    widths = [n_in, *hidden]
    layers = []
    for a, b in pairwise(widths):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU() if activation == "relu" else torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(widths[-1], n_out))
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    criterion = torch.nn.CrossEntropyLoss()

    def epoch():
        order = torch.randperm(SAMPLES)
        for start in range(0, SAMPLES, batch):
            rows = order[start : start + batch]
            optimizer.zero_grad()
            criterion(net(x[rows]), y[rows]).backward()
            optimizer.step()
            yield

    return steps_of(epoch)


def products(n_in, hidden, n_out, batch, activation):
    """Make the matrix products of a step alone: forward, weight gradient and, but for the first layer, backward."""
    rng = np.random.default_rng(0)
    widths = [n_in, *hidden, n_out]
    layers = []
    for a, b in pairwise(widths):
        x, W, z, d = (rng.standard_normal(s, dtype=np.float32) for s in ((batch, a), (a, b), (batch, b), (batch, b)))
        layers.append((x, W, z, d, np.empty_like(W), np.empty_like(x)))

    def epoch():
        while True:
            for x, W, z, *_ in layers:
                np.dot(x, W, out=z)
            for i in range(len(layers) - 1, -1, -1):
                x, W, z, d, dW, dx = layers[i]
                np.dot(x.T, d, out=dW)
                if i:
                    np.dot(d, W.T, out=dx)
            yield

    return steps_of(epoch)


def sklearn_step(n_in, hidden, n_out, batch, activation, epochs):
    """Return seconds a step from two fits, of one epoch and of 1 + ``epochs``."""
    x, y = data(n_in, n_out)
    took = []
    for n in (1, 1 + epochs):
        net = MLPClassifier(
            hidden, activation=activation, solver="sgd", alpha=0, batch_size=batch, learning_rate_init=LR,
            momentum=0, nesterovs_momentum=False, max_iter=n, tol=0.0, n_iter_no_change=10**6, random_state=0,
        )  # fmt: skip
        start = time.perf_counter()
        net.fit(x, y)
        took.append(time.perf_counter() - start)
    return (took[1] - took[0]) / (epochs * math.ceil(SAMPLES / batch))


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
    shape = case[1:]
    runs = {"bpx": ours(*shape), "torch": pytorch(*shape), "products": products(*shape)}
    counts = {}
    for key, step in runs.items():
        step(5)
        start = time.perf_counter()
        step(5)
        counts[key] = max(3, int(budget / rounds / ((time.perf_counter() - start) / 5)))
    times = {key: [] for key in (*runs, "sklearn")}
    epochs = max(1, round(counts["torch"] / math.ceil(SAMPLES / shape[3])))
    for r in range(rounds):
        for key, step in runs.items():
            start = time.perf_counter()
            step(counts[key])
            times[key].append((time.perf_counter() - start) / counts[key])
        if r % 3 == 0:
            times["sklearn"].append(sklearn_step(*shape, epochs))
    return {key: 1e3 * statistics.median(t) for key, t in times.items()}, peak_kib(runs["bpx"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each contender and case")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(f"\n### {threads} thread{'s' * (threads > 1)}\n")
        print("| network | batch | bpx / ms | PyTorch / ms | scikit-learn / ms | products / ms "
              "| bpx:PyTorch | bpx:scikit-learn | bpx:products | peak / KiB |")  # fmt: skip
        print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        ratios = []
        with threadpool_limits(threads):
            for case in CASES:
                t, peak = measure(case, options.rounds, options.seconds)
                own = t["bpx"]
                ratios.append(own / t["torch"])
                print(f"| {case[0]} {case[5]} | {case[4]} | {own:.3f} | {t['torch']:.3f} | {t['sklearn']:.3f} "
                      f"| {t['products']:.3f} | {own / t['torch']:.2f} | {own / t['sklearn']:.2f} "
                      f"| {own / t['products']:.2f} | {peak:.0f} |", flush=True)  # fmt: skip
        print(f"\nGeometric mean of bpx:PyTorch: {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
