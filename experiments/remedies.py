"""Which remedy makes a deep sigmoid network learn that fails without it: each alone, and all together?"""

import sys

import numpy as np

from bpx.figures.canvas import BLUE, GREEN, GREY, ORANGE, Picture, new_figure, style_axes
from bpx.probes import fit_slope
from bpx.runs.study import Study, StudyCommand
from bpx.stored.study_data import Data
from bpx.system.text import counted
from experiments.signals import initial_profiles, metric_name

HIDDEN = 10
BASE = (
    "dataset=digits", f"model.depth={HIDDEN}", "model.width=50", "activation=sigmoid",
    "optimizer.lr=0.1", "epochs=30",
)  # fmt: skip
SMALL = ("initializer=normal", "initializer.std=0.1")  # unless the remedy is another
XAVIER = ("initializer=xavier_normal",)
REMEDIES = {
    "nothing": (),
    "Xavier initialization": XAVIER,
    "He initialization": ("initializer=he_normal",),
    "σw = 5": ("initializer=lecun_normal", "initializer.sigma_w=5"),
    "ReLU": ("activation=relu",),
    "ReLU and He": ("activation=relu", "initializer=he_normal"),
    "tanh and Xavier": ("activation=tanh", *XAVIER),
    "batch normalization": ("normalization=batch",),
    "residual": ("model=residual_mlp",),
    "dropout 0.1": ("dropout=inverted", "dropout.rate=0.1"),
    "cosine schedule": ("schedule=cosine",),
    "weight decay 1e-4": ("optimizer.weight_decay=1e-4",),
    "clipping to norm 1": ("optimizer.clip_norm=1",),
    "learning rate 1": ("optimizer.lr=1",),
    "batches of 8": ("batch_size=8",),
    "Adam": ("optimizer=adam", "optimizer.lr=0.001"),
    "all together": (
        "activation=relu", "initializer=he_normal", "normalization=batch", "dropout=inverted", "dropout.rate=0.1",
        "schedule=cosine", "optimizer.weight_decay=1e-4", "optimizer.clip_norm=1",
    ),
}  # fmt: skip
LEARNED = 90.0  # per cent


def healthy(factor: float) -> bool:
    """Return whether δ changes by less than a decade in nine layers."""
    return 0.774 < factor < 1.292


def measure(s: Study) -> Data:
    """Train the failing network with each remedy; look at δ at initialization and at the test accuracy."""
    short = ("epochs=2",) if s.quick else ()
    accuracy, factors = {}, {}
    for name, more in REMEDIES.items():
        start = () if any(word.startswith("initializer=") for word in more) else SMALL
        made = s.train(name, *BASE, *start, *more, *short)
        accuracy[name] = 100 * np.array([r.metrics.get("accuracy/test", 0.1) for r in made])
        found = [fit_slope(delta) for delta in initial_profiles(s, *BASE, *start, *more)]
        factors[name] = 10 ** float(np.median([f.slope for f in found if f is not None]))
        key = metric_name(name)
        s.log(**{f"accuracy/{key}": np.median(accuracy[name]), f"factor/{key}": factors[name]})
        print(f"{name:32s} δ ×{factors[name]:.3f} a layer   {np.median(accuracy[name]):5.1f} %")
    return {"accuracy": accuracy, "factor": factors}


def draw(data: Data) -> Picture:
    """Draw the decades of δ per layer and the accuracy, remedy by remedy."""
    names = list(REMEDIES)[::-1]
    at = np.arange(len(names))
    name = f"digits, {HIDDEN} hidden layers of 50, {counted(data['seeds'], 'seed')}"
    figure = new_figure(name, "one failing network and its remedies", 11, 6)
    left, right = figure.subplots(1, 2, sharey=True)
    factors = [data["factor"][n] for n in names]
    left.barh(at, np.log10(factors), color=[BLUE if healthy(f) else ORANGE for f in factors])
    left.axvline(0, color="black", lw=0.8)
    left.set_yticks(at, names)
    style_axes(left, "decades of ‖δ‖ per hidden layer, at initialization", "", "backward: 0 is healthy, −1 vanishes")
    accuracy = [data["accuracy"][n] for n in names]
    middle = [np.median(values) for values in accuracy]
    spread = [[m - values.min() for values, m in zip(accuracy, middle, strict=True)],
              [values.max() - m for values, m in zip(accuracy, middle, strict=True)]]  # fmt: skip
    right.barh(at, middle, xerr=spread, color=[GREEN if m > LEARNED else GREY for m in middle], ecolor="#444444")
    right.axvline(10, color="black", lw=0.8, ls=":")
    right.set_xlim(0, 100)
    style_axes(right, "test accuracy / % (bars: all seeds; dots: chance)", "", "after training")
    return figure


def word(data: Data) -> str:
    """Say which remedies are enough, which help, and whether they are those that mend δ."""
    accuracy = {name: float(np.median(values)) for name, values in data["accuracy"].items()}

    def said(chosen: list[str]) -> str:
        return ", ".join(f"{n} ({accuracy[n]:.0f} %)" for n in chosen) or "none"

    alone = [n for n in REMEDIES if n not in ("nothing", "all together")]
    good = [n for n in alone if accuracy[n] > LEARNED]
    useless = [n for n in alone if accuracy[n] < 20]
    some = [n for n in alone if n not in good and n not in useless]
    together, best = accuracy["all together"], max(accuracy[n] for n in alone)
    mended = [n for n in alone if healthy(data["factor"][n])]
    if good and set(good) <= set(mended) and not set(mended) & set(useless):
        told = """What is enough changes δ's factor per layer to near 1; what only changes how an existing gradient is
        used (step, schedule, batch, clipping, decay) leaves it where it was."""
    else:
        told = f"Near 1 is δ's factor per layer with: {said(mended)}."
    return f"""
    Without a remedy δ shrinks by ×{data["factor"]["nothing"]:.2f} per layer and the network stays at
    {accuracy["nothing"]:.0f} %. Enough alone: {said(good)}. Some help: {said(some)}. No help:
    {said(useless)}. All together, {HIDDEN} layers of dropout among them:
    {together:.0f} %, {"less than" if together < best else "no less than"} the best alone. {told}
    """


run = StudyCommand(measure, draw, word, seeds=5, quick=1)


if __name__ == "__main__":
    sys.exit(run.main())
