"""A study: a question, several composed runs under one parent run, one figure, one finding.

A study is three functions, made a command by ``StudyCommand``: ``measure`` trains and measures on a ``Study`` and
returns the data, which are saved; ``draw`` makes the figure of the saved data, and ``word`` the finding::

    python -m experiments.NAME [seeds=N] [--quick] [key=value ...]
    python -m experiments.NAME --draw

``key=value`` reaches every run; ``--draw`` draws and words again what is saved, without training. A trained setup is
repeated over seeds: the first is a run in MLflow, the others leave their local record only (measured: MLflow costs
0.08 s a run, the rest of a run 0.1 s beside its training). What needs no training is measured on one network that is
drawn anew for every seed, 0.15 ms for ten layers of five units. Seeds are not vectorized: ten 2-10-10-3 networks in
one batched step took 0.093 ms against ten times 0.035, at the price of one more axis all through the engine, and the
gain ends where the products begin to cost.
"""

from __future__ import annotations

import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, final

from omegaconf import DictConfig

from bpx.config.plan import Plan, make_plan, spawn_rngs
from bpx.data import Dataset, SupportsLoad
from bpx.engine import Network
from bpx.engine.arrays import Array
from bpx.engine.lsuv import scale_to_unit_variance
from bpx.runs.job import RunResult
from bpx.runs.networks import empty_network
from bpx.stored.provenance import write_provenance
from bpx.stored.study_data import Data, StudyResult
from bpx.system.errors import UserError
from bpx.system.run_files import FIGURES, OUTPUTS, PROVENANCE, STUDY
from bpx.system.tree import CONF
from bpx.tracking import Tracker

if TYPE_CHECKING:
    from bpx.figures.canvas import Picture

SPARING = ("probes=light", "checkpoint.keep=0")  # unless a study asks for more
CHILD = ("tracking.figures=false", "tracking.model=false", "progress=false")


@final
@dataclass
class Study:
    """What a study measures with.

    Attributes
    ----------
    name
        The study's name.
    seeds, quick
        The number of repeats, and whether it has to be fast.
    progress
        Whether drawn and trained networks are reported on stderr.
    overrides
        The keys that reach every run.
    directory, tracker
        Where the study is kept, and its parent run.
    metrics
        The numbers of the study itself.
    """

    name: str
    seeds: int
    quick: bool
    progress: bool
    overrides: tuple[str, ...]
    directory: Path
    tracker: Tracker
    metrics: dict[str, float] = field(default_factory=dict)
    _data: dict[tuple[SupportsLoad, str], Dataset] = field(default_factory=dict)

    def plan(self, *overrides: str) -> Plan:
        """Return the checked composition of ``overrides`` and the user's own."""
        return make_plan(compose(*overrides, *self.overrides))

    def data(self, plan: Plan) -> Dataset:
        """Return a plan's dataset, loaded once in a study."""
        key = (plan.source, plan.settings.dtype)
        if key not in self._data:
            self._data[key] = plan.load()
        return self._data[key]

    def draws(
        self, *overrides: str, seeds: int | None = None, random_delta: bool = False
    ) -> Iterator[tuple[Network, Array, Array]]:
        """Yield the composed network, drawn for each seed, after a forward and backward pass, with the batch x, y.

        The batch are ``batch_size`` random training samples; network and buffers are used again for the next seed.
        With ``random_delta`` the output sends back N(0, 1) in place of the loss's delta, part of which lies along z and
        grows on its way back (``docs/theory.md``): what is measured is then the network's own.
        """
        plan = self.plan(*overrides)
        data = self.data(plan)
        plan = plan.decided(data.n_classes is not None, len(data.x_train))
        net = empty_network(plan, data)
        rows = plan.settings.batch_size
        n = self.seeds if seeds is None else seeds
        self._say(f"{n} networks drawn, … {' '.join(overrides[-2:])}")  # what varies stands last
        for seed in range(n):
            rngs = spawn_rngs(seed)
            net.initialize(plan.initializer, rngs["initialization"])
            net.bind(rows, rngs["dropout"])
            chosen = rngs["shuffle"].choice(len(data.x_train), rows, replace=False)
            x, y = data.x_train[chosen], data.y_train[chosen]
            if plan.initializer.needs_data:
                scale_to_unit_variance(net, x)
            net.cost(x, y)
            if random_delta:
                shape = (rows, *net.out_shape)
                sent = rngs["shuffle"].standard_normal(shape) / rows  # delta is of a sample, J of a batch
                net.backward_from(sent.astype(net.dtype))
            else:
                net.backward()
            yield net, x, y

    def train(self, label: str, *overrides: str, seeds: int | None = None) -> list[RunResult]:
        """Train the composed network for every seed and return the runs; the first is the parent's child in MLflow."""
        return [
            self._one(label, seed, [*overrides, f"seed={seed}"])
            for seed in range(self.seeds if seeds is None else seeds)
        ]

    def _one(self, label: str, seed: int, overrides: list[str]) -> RunResult:
        from bpx.runs.run import train_run

        where = ["tracking=none"] if seed else [f"tracking.parent={self.tracker.run_id or 'null'}"]
        words = [*SPARING, *overrides, *self.overrides, *where, *CHILD]
        config = compose(*words)
        folder = self.directory / "runs" / re.sub(r"[^\w.=]+", "-", label)
        name = f"{self.name}: {label}"
        trained = train_run(config, name, folder, words, load=self.data, quiet=True)
        cost = f", cost {trained.metrics['cost/train']:.3g}" if "cost/train" in trained.metrics else ""
        self._say(f"{label}, seed {seed}: {trained.outcome}{cost}")
        return trained

    def _say(self, line: str) -> None:
        if self.progress:
            print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def log(self, **metrics: float) -> None:
        """Keep numbers of the study itself, on the parent run."""
        self.metrics |= {key: float(value) for key, value in metrics.items()}


@final
@dataclass(frozen=True)
class StudyCommand:
    """A study as a command: measure, save the data, draw, word.

    Attributes
    ----------
    measure : callable
        Trains and measures on a ``Study``, logs the study's numbers and returns its data: numbers, text, arrays and
        dictionaries of these, by name.
    draw : callable
        Makes the figure of the saved data; ``data["seeds"]`` is the number of repeats.
    word : callable
        Makes the finding of the saved data.
    seeds, quick : int
        The repeats, in full and with ``--quick``.
    """

    measure: Callable[[Study], Data]
    draw: Callable[[Data], Picture]
    word: Callable[[Data], str]
    seeds: int
    quick: int

    @property
    def path(self) -> Path:
        """The study's file."""
        return Path(inspect.getfile(self.measure))

    @property
    def name(self) -> str:
        """The name of the study's file."""
        return self.path.stem

    @property
    def question(self) -> str:
        """The first line of the study's file."""
        text = inspect.getdoc(inspect.getmodule(self.measure)) or ""
        return text.split("\n")[0]

    def __call__(self, words: Sequence[str] = ()) -> StudyResult:
        """Make the study and return what it found; raises UserError."""
        from bpx.reports.write import write_study_report
        from bpx.runs.outputs import run_directory
        from bpx.stored.groups import trained_groups

        quick, seeds, overrides = "--quick" in words, None, []
        for word in (w for w in words if w != "--quick"):
            key, equals, value = word.partition("=")
            if not equals:
                raise UserError(f"a study takes seeds=N, --quick and key=value, or --draw alone, got {word}")
            if key == "seeds":
                if not value.isdecimal() or int(value) < 1:
                    raise UserError(f"seeds must be an integer of at least 1, got {value}")
                seeds = int(value)
            else:
                overrides.append(word)
        seeds = seeds or (self.quick if quick else self.seeds)
        plan = make_plan(compose(*overrides))
        directory = run_directory(OUTPUTS / self.name)
        params = {"seeds": seeds, "quick": quick, "overrides": " ".join(overrides)}
        tags = {"bpx.study": self.name, **write_provenance(directory)}
        with plan.tracker.begin_study(f"study {self.name}", params, tags, directory) as tracker:
            study = Study(self.name, seeds, quick, plan.settings.progress, tuple(overrides), directory, tracker)
            data, figure, path = self.measure(study), directory / f"{self.name}.png", directory / STUDY
            StudyResult(self.name, self.question, "", seeds, quick, study.metrics, data, figure).write(path)
            result = self.redraw(path, figure)
            tracker.log(0, 0.0, result.metrics)
            tracker.tag("bpx.finding", result.finding)
            tracker.tag("mlflow.note.content", f"**{result.question}**\n\n{result.finding}")
            tracker.artifact(figure, FIGURES)
            tracker.artifact(directory / PROVENANCE)
            command = [f"experiments.{self.name}", f"seeds={seeds}", *(["--quick"] if quick else []), *overrides]
            tracker.artifact(write_study_report(result, trained_groups(directory), command))
            tracker.artifact(path)
        return result

    def redraw(self, path: Path, figure: Path) -> StudyResult:
        """Draw and word the data saved in ``path``, write ``figure`` and the finding; raises UserError."""
        from bpx.figures.canvas import save

        kept = StudyResult.read(path, figure)
        data = kept.data | {"seeds": kept.seeds}
        save(self.draw(data), figure)
        result = replace(kept, question=self.question, finding=" ".join(self.word(data).split()))
        result.write(path)
        return result

    def saved(self) -> tuple[Path, Path]:
        """Return the paths of the latest data and their figure: of a study made here, or else of the gallery."""
        own = sorted((OUTPUTS / self.name).glob(f"*/{STUDY}"))
        if own:
            return own[-1], own[-1].with_name(f"{self.name}.png")
        gallery = self.path.parents[1] / "docs" / "gallery"
        if not (gallery / f"{self.name}.json").exists():
            raise UserError(f"no data of {self.name} here ({OUTPUTS}/{self.name}); python -m experiments.{self.name}")
        return gallery / f"{self.name}.json", gallery / f"{self.name}.png"

    def main(self) -> int:
        """Make or redraw the study as the command line asks, print what it found, and return the exit code."""
        from bpx.cli.command import run_cli

        words = sys.argv[1:]
        if "--help" in words or "-h" in words:
            print(
                f"{self.question}\n\npython -m experiments.{self.name} [seeds={self.seeds}] [--quick] [key=value ...]\n"
                f"python -m experiments.{self.name} --draw    draw the saved data again, without training"
            )
            return 0

        def run_study() -> None:
            started = time.perf_counter()
            result = self.redraw(*self.saved()) if words == ["--draw"] else self(words)
            print(f"{result.question}\n\n{result.finding}\n")
            for key, value in result.metrics.items():
                print(f"{key:40s} {value:.6g}")
            print(f"\nfigure    {result.figure}\ntime      {time.perf_counter() - started:.1f} s")

        return run_cli(run_study)


def compose(*overrides: str) -> DictConfig:
    """Return Hydra's composition of the configuration; raises UserError."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from bpx.cli.errors import explain

    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
