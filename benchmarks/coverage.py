"""How often theory's 95 % band holds: the slope of freshly drawn networks beside the band of each.

python benchmarks/coverage.py [nets] [key=value,value ...]   prints a Markdown table; 300 networks a cell

A cell is an activation x normalization x model x loss x data x shape (layers x width); its networks differ in weights,
batch and targets. The data are 100 features of N(0, 1), or images of MNIST (BPX_DATA_DIR); a batch of 32, ten outputs.
Printed is the share of networks inside their band, then mean and standard deviation of
(slope - predicted) / (half the band / 1.96), 0 and 1 where theory is exact. Networks of which theory says that its band
holds only roughly are left out, and their share is printed; a cell without 50 others is rough. The seeds begin at
``seed``; theory was made with those below 50,000.
"""

import itertools
import sys
import time
from functools import cache

import numpy as np

from bpx.config.plan import spawn_rngs
from bpx.diagnosis import observe, predict_network
from bpx.engine import mlp, residual_mlp

GRID = {
    "activation": ("relu", "tanh"),
    "normalization": ("none", "layer", "batch"),
    "model": ("mlp", "residual_mlp"),
    "shape": ("10x50", "20x100"),
    "data": ("gaussian", "mnist"),
    "loss": ("softmax_cross_entropy", "sigmoid_cross_entropy", "mean_squared_error"),
}
COLUMNS = ("data", "loss")
NETS, SEED, FEWEST = 300, 100_000, 50
N_IN, N_OUT, BATCH = 100, 10, 32
INITIALIZERS = {"relu": "he_normal", "leaky_relu": "he_normal"}  # lecun_normal elsewhere
TWO_SIDED_95 = 1.96


@cache
def mnist():
    """Return the first 4,096 training images, scaled as runs scale them, and their labels."""
    from bpx.config.plan import make_plan
    from bpx.runs.study import compose

    plan = make_plan(compose("dataset=mnist", "dataset.train_size=4096", "dataset.fallback=null"))
    data = plan.source.load(spawn_rngs(0)["data"], np.dtype("float64"))
    return data.x_train, data.y_train


def batch(rng: np.random.Generator, data: str, loss: str):
    """Return the inputs and targets of a batch: random labels or numbers for Gaussian data, digits for MNIST."""
    if data == "gaussian":
        x = rng.standard_normal((BATCH, N_IN))
        if loss == "mean_squared_error":
            return x, rng.standard_normal((BATCH, N_OUT))
        return x, rng.integers(0, N_OUT, BATCH)
    images, labels = mnist()
    rows = rng.choice(len(images), BATCH, replace=False)
    return images[rows], labels[rows]


def draw(seed: int, activation: str, normalization: str, model: str, loss: str, data: str, shape: str):
    """Return the measured slope and theory's prediction of one network."""
    rng = np.random.default_rng((seed, 1))  # the network draws from (seed,)
    x, y = batch(rng, data, loss)
    depth, width = map(int, shape.split("x"))
    net = (mlp if model == "mlp" else residual_mlp)(
        x.shape[1], [width] * depth, N_OUT, activation, normalization=normalization, loss=loss,
        initializer=INITIALIZERS.get(activation, "lecun_normal"), dtype="float64", seed=seed,
    ).bind(BATCH, rng)  # fmt: skip
    net.cost(x, y)
    net.backward()
    return observe(net).depth_slope.slope, predict_network(net)[-1]


def coverage(nets: int, first: int, cell: dict[str, str]) -> str:
    """Return how often the band of a cell's networks holds."""
    found = []
    for seed in range(first, first + nets):
        slope, p = draw(seed, **cell)
        if not p.caveat:
            found.append(TWO_SIDED_95 * (slope - p.slope) / ((p.slope_high - p.slope_low) / 2))
    if len(found) < min(FEWEST, nets):
        return "rough"
    z, rough = np.array(found), 1 - len(found) / nets
    left = f", {100 * rough:.0f} % rough" if rough else ""
    return f"{np.mean(abs(z) <= TWO_SIDED_95):.3f} ({z.mean():+.2f} ± {z.std():.2f}{left})"


def main(words: list[str]) -> None:
    """Print the table."""
    numbers = [int(word) for word in words if word.isdigit()]
    chosen = dict(word.split("=") for word in words if not word.isdigit())
    nets, first = numbers[0] if numbers else NETS, int(chosen.pop("seed", SEED))
    grid = GRID | {key: value.split(",") for key, value in chosen.items()}
    start = time.perf_counter()
    columns = list(itertools.product(*(grid.pop(key) for key in COLUMNS)))
    heads = [*grid, *(", ".join(column).replace("_", " ") for column in columns)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in itertools.product(*grid.values()):
        print(f"| {' | '.join(row)} |", end="", flush=True)
        for column in columns:
            cell = dict(zip([*grid, *COLUMNS], [*row, *column], strict=True))
            print(f" {coverage(nets, first, cell)} |", end="", flush=True)
        print()
    print(f"{nets} networks a cell, {time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
