"""How often theory's 95 % band holds: the slope of freshly drawn networks beside the band of each.

python benchmarks/coverage.py [nets] [key=value,value ...]   prints a Markdown table; 300 networks a cell

A cell is an activation x normalization x model x loss x width x depth; its networks differ in weights and data (100
features of N(0, 1), a batch of 32, ten outputs). Printed is the share of networks inside their band, then mean and
standard deviation of (slope - predicted) / (half the band / 1.96), 0 and 1 where theory is exact. Networks of which
theory says that its band holds only roughly are left out, and their share is printed.
"""

import itertools
import sys
import time

import numpy as np

from bpx.diagnosis import observe, predict_network
from bpx.engine import mlp, residual_mlp

GRID = {
    "activation": ("relu", "tanh"),
    "normalization": ("none", "layer", "batch"),
    "model": ("mlp", "residual_mlp"),
    "loss": ("softmax_cross_entropy", "mean_squared_error"),
    "width": (50, 200),
    "depth": (10, 30),
}
SHAPE = 2  # the last keys, width and depth, stand in columns
NETS, N_IN, N_OUT, BATCH = 300, 100, 10, 32
INITIALIZERS = {"relu": "he_normal", "leaky_relu": "he_normal"}  # lecun_normal elsewhere


def draw(seed: int, activation: str, normalization: str, model: str, loss: str, width: int, depth: int):
    """Return the measured slope and theory's prediction of one network."""
    rng = np.random.default_rng(seed)
    net = (mlp if model == "mlp" else residual_mlp)(
        N_IN, [width] * depth, N_OUT, activation, normalization=normalization, loss=loss,
        initializer=INITIALIZERS.get(activation, "lecun_normal"), dtype="float64", seed=seed,
    ).bind(BATCH, rng)  # fmt: skip
    x = rng.standard_normal((BATCH, N_IN))
    classes = net.loss.classifies
    net.cost(x, rng.integers(0, N_OUT, BATCH) if classes else rng.standard_normal((BATCH, N_OUT)))
    net.backward()
    return observe(net).depth_slope.slope, predict_network(net)[-1]


def coverage(nets: int, cell: dict) -> str:
    """Return how often the band of a cell's networks holds."""
    found = []
    for seed in range(nets):
        slope, p = draw(seed, **cell)
        if not p.caveat:
            found.append(1.96 * (slope - p.slope) / ((p.slope_high - p.slope_low) / 2))
    z, rough = np.array(found), 1 - len(found) / nets
    left = f", {100 * rough:.0f} % rough" if rough else ""
    return f"{np.mean(abs(z) <= 1.96):.3f} ({z.mean():+.2f} ± {z.std():.2f}{left})" if len(z) else "rough"


def grid(words: list[str]) -> dict[str, list]:
    """Return the values of every key, those in ``words`` (key=value,value) in place of the grid's."""
    chosen = {key: list(values) for key, values in GRID.items()}
    for key, _, value in (word.partition("=") for word in words):
        chosen[key] = [type(GRID[key][0])(v) for v in value.split(",")]
    return chosen


def main(words: list[str]) -> None:
    """Print the table."""
    numbers = [int(word) for word in words if word.isdigit()]
    nets, start = numbers[0] if numbers else NETS, time.perf_counter()
    values = list(grid([word for word in words if not word.isdigit()]).values())
    rows, columns = (list(itertools.product(*part)) for part in (values[:-SHAPE], values[-SHAPE:]))
    print(f"| {' | '.join(list(GRID)[:-SHAPE])} | {' | '.join(f'{d} layers of {w}' for w, d in columns)} |")
    print(f"|{'---|' * (len(values) - SHAPE + len(columns))}")
    for row in rows:
        print(f"| {' | '.join(row)} |", end="", flush=True)
        for column in columns:
            print(f" {coverage(nets, dict(zip(GRID, (*row, *column), strict=True)))} |", end="", flush=True)
        print()
    print(f"{nets} networks a cell, {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
