"""How often the rules of the state after training speak of a healthy run: they should not.

python benchmarks/alarms.py [seeds]     prints Markdown tables; five seeds make a hundred runs

The setups are those of the shipped experiments and studies that train well, the longest ones shortened. A run counts
as an alarm if any rule of `bpx.diagnosis.rules` speaks at its last record; other verdicts than healthy are listed.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bpx.config.plan import Plan, make_plan, spawn_rngs
from bpx.data import Dataset
from bpx.records import read, read_metrics
from bpx.runs.run import train_run
from bpx.runs.study import compose
from experiments import (
    exploding_gradients,
    glorot_2010,
    he_2015,
    ioffe_2015,
    pennington_2017,
    remedies,
    srivastava_2014,
    verdicts,
)

RELU, TANH = remedies.REMEDIES["ReLU and He"], remedies.REMEDIES["tanh and Xavier"]
ADAM = remedies.REMEDIES["Adam"]
HEALTHY = {
    "defaults": (),
    "classification": ("+experiment=classification",),
    "mnist_1k": ("+experiment=mnist_1k",),
    "mnist, 2 epochs": ("+experiment=mnist", "epochs=2"),
    "exploding_gradients: He": exploding_gradients.DEEP,
    "exploding_gradients: layer normalization": (
        *exploding_gradients.DEEP,
        *exploding_gradients.CURES["gain 2, layer normalization"],
    ),
    "glorot_2010: normalized, width 200": (
        *glorot_2010.SETUP,
        *glorot_2010.SCHEMES["normalized"],
        "model.width=200",
        "epochs=5",
    ),
    "he_2015: He, depth 10": (*he_2015.SETUP, "initializer=he_normal", "model.depth=10"),
    "he_2015: He, depth 20": (*he_2015.SETUP, "initializer=he_normal", "model.depth=20"),
    "he_2015: He, depth 30": (*he_2015.SETUP, "initializer=he_normal", "model.depth=30"),
    "ioffe_2015: batch normalization, 2 epochs": (*ioffe_2015.SETUP, "normalization=batch", "epochs=2"),
    "pennington_2017: orthogonal, depth 20": (*pennington_2017.LEARN, "initializer=orthogonal", "model.depth=20"),
    "pennington_2017: Gaussian, depth 5": (*pennington_2017.LEARN, "initializer=lecun_normal", "model.depth=5"),
    "remedies: ReLU and He": (*remedies.BASE, *RELU),
    "remedies: tanh and Xavier": (*remedies.BASE, *TANH),
    "remedies: ReLU, He and Adam": (*remedies.BASE, *RELU, *ADAM),
    "remedies: tanh, Xavier and Adam": (*remedies.BASE, *TANH, *ADAM),
    "remedies: ReLU, He, cosine": (*remedies.BASE, *RELU, "schedule=cosine"),
    "srivastava_2014: dropout 0.5, 1,000 images": (
        *(word for word in srivastava_2014.SETUP if word != "probes=none"),
        *srivastava_2014.KINDS["dropout 0.5"][0],
        "dataset.train_size=1000",
        "max_steps=1200",
    ),
    "verdicts: healthy": (*verdicts.SETUP, *verdicts.NETWORKS["healthy"][0], "optimizer.lr=0.05", "epochs=10"),
}
PLAIN = ("tracking=none", "tracking.figures=false", "tracking.model=false", "progress=false", "checkpoint.keep=0")


FARTHEST = {  # how near healthy runs come to the limits
    "cost/train over its start, at any record": max,
    "decades of delta_l2 from the last to the first hidden layer": max,
    "the same, downward": min,
    "dead_units of a layer": max,
    "saturation of a layer, tanh and sigmoid": max,
    "update_ratio of the fastest layer": min,
}


def farthest(directory: Path) -> list[float]:
    """Return what a run came to, in the order of FARTHEST; NaN where it has no such thing."""
    record, nan = read(directory / "gradient_flow.parquet"), float("nan")
    _, cost = read_metrics(directory / "metrics.jsonl")["cost/train"]
    last = {name: record.grid(name)[2][:, -1] for name in ("delta_l2", "dead_units", "saturation", "update_ratio")}
    hidden = np.log10(last["delta_l2"][:-1])
    decades = float(np.polyfit(np.arange(len(hidden)), hidden, 1)[0]) * -(len(hidden) - 1)
    bounded = record.about["activation"]["name"] in ("tanh", "sigmoid")
    saturation = float(np.nanmax(last["saturation"])) if bounded else nan
    return [
        float((cost / cost[0]).max()), decades, decades, float(last["dead_units"].max()), saturation,
        float(last["update_ratio"].max()),
    ]  # fmt: skip


class Made(NamedTuple):
    """A run: what the rules say of it, its final verdict, its accuracy on the test part, and how far it came."""

    said: list[str]
    verdict: str
    accuracy: float
    far: list[float]


def alarms(words: tuple[str, ...], seed: int, home: Path, load: Callable[[Plan], Dataset] = Plan.load) -> Made:
    """Train one run and return what became of it."""
    done = train_run(compose(*words, *PLAIN, f"seed={seed}"), "alarms", home, [], load=load, quiet=True)
    final = json.loads((done.directory / "result.json").read_text())["final"]
    said = [f"{alarm['rule']} ({alarm['sentence']})" for alarm in final["alarms"]]
    return Made(said, final["verdict"], done.metrics["accuracy/test"], farthest(done.directory))


def main(seeds: int) -> None:
    """Print the tables."""
    print("| setup | accuracy, test | final verdicts but healthy | runs with an alarm | |\n|---|---:|---|---:|---|")
    every: list[Made] = []
    for label, words in HEALTHY.items():
        plan = make_plan(compose(*words, *PLAIN))
        data = plan.source.load(spawn_rngs(0)["data"], plan.settings.dtype)
        with tempfile.TemporaryDirectory() as home:
            made = [alarms(words, seed, Path(home), lambda plan, data=data: data) for seed in range(seeds)]
        every += made
        said = [f"seed {seed}: {', '.join(one.said)}" for seed, one in enumerate(made) if one.said]
        others = ", ".join(one.verdict for one in made if one.verdict != "healthy") or "none"
        low, high = (100 * end(one.accuracy for one in made) for end in (min, max))
        accuracy = f"{low:.1f} to {high:.1f} %"
        print(f"| {label} | {accuracy} | {others} | {len(said)} of {seeds} | {'; '.join(said)} |", flush=True)
    print(f"\n{sum(bool(one.said) for one in every)} of {len(every)} runs with an alarm.")
    print("\n| the farthest of them | |\n|---|---:|")
    for (name, end), values in zip(FARTHEST.items(), zip(*(one.far for one in every), strict=True), strict=True):
        print(f"| {name} | {end((value for value in values if value == value), default=float('nan')):.3g} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
