"""Plan: a checked configuration, with every object that can be built before the data are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf

from bpx import engine
from bpx.config.architecture import NetworkSettings, architecture, model_of
from bpx.config.calls import check_call, check_keys, check_kind, construct, target
from bpx.data import Dataset, SupportsLoad
from bpx.data.image_source import channels_first
from bpx.diagnosis.training_state import STOP_RULES
from bpx.engine.initializers import Initializer
from bpx.engine.losses import Loss
from bpx.engine.normalization import Normalization
from bpx.engine.numbers import require
from bpx.engine.optimizers import Optimizer
from bpx.engine.schedules import LRSchedule
from bpx.probes import PROBES, Probe, ReportSchedule, parse_schedule
from bpx.system.errors import UserError
from bpx.system.files import PICTURE_FORMATS
from bpx.system.text import brief
from bpx.system.tree import check_resolvable, plain, without
from bpx.tracking.beside import TrackerBeside
from bpx.tracking.tracker import Tracker
from bpx.training.checkpoint import CheckpointSettings

AUTO_LOSS = "bpx.engine.losses.default_loss"
DEFAULT_BATCH_SIZE = 32
MAX_THREADS = 1024
AT_LEAST_ONE = ("epochs", "max_steps", "batch_size", "threads", "early_stopping")  # keys that count from 1
COPIES = 5  # of the weights that a run holds: theta, the gradient, the optimizer's vectors, a probe's
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
# inputs, outputs, image and sequence of a network that is built before the data are there: any truncation fits into it
EXAMPLE = 2, 2, (64, 64), (100_000, 64)
STREAMS = ("initialization", "shuffle", "dropout", "data")  # of random numbers


@dataclass(frozen=True)
class Settings:
    """The keys that belong to no group.

    Attributes
    ----------
    seed
        Seed of all random numbers of a run.
    epochs, max_steps
        Length of the training in passes over the training part, and its limit in optimizer steps.
    batch_size
        Samples per step.
    dtype
        float32 or float64.
    threads
        Number of BLAS threads.
    early_stopping
        Number of evaluations without a lower validation cost after which training stops.
    stop_when
        States of the gradients that stop training.
    progress
        Whether progress is shown.
    resume
        The run to resume.
    replacement
        Whether batches are drawn with replacement.
    allow
        Modules other than bpx that a stored configuration may import.
    """

    seed: int
    epochs: int
    max_steps: int | None
    batch_size: int
    dtype: str
    threads: int
    early_stopping: int | None
    stop_when: list[str]
    progress: bool
    resume: str | None = None
    replacement: bool = False
    allow: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key, least in (("seed", 0), *((key, 1) for key in AT_LEAST_ONE)):
            value = getattr(self, key)
            require(value is None or value >= least, key, f"at least {least}", value)
        require(self.threads <= MAX_THREADS, "threads", f"at most {MAX_THREADS}", brief(self.threads))
        require(self.dtype in ("float32", "float64"), "dtype", "float32 or float64", self.dtype)
        for word in self.stop_when:
            if word not in STOP_RULES:
                raise ValueError(f"stop_when must hold only {', '.join(STOP_RULES)}, got {word}")


@dataclass(frozen=True)
class Plan:
    """A checked configuration.

    Attributes
    ----------
    config : DictConfig
        The composed configuration.
    settings : Settings
        The keys that belong to no group.
    source : SupportsLoad
        Loads the data.
    probes : dict
        The classes of probes that are measured, and their schedules.
    checkpoint : CheckpointSettings
        When checkpoints are written.
    tracker : Tracker
        Records the run.
    initializer : Initializer
        Initializer of the weights.
    notes : tuple of str
        Notes to print: what was changed or is not used.
    """

    config: DictConfig
    settings: Settings
    source: SupportsLoad
    probes: dict[type[Probe], int | str]
    checkpoint: CheckpointSettings
    tracker: Tracker
    initializer: Initializer
    _network: NetworkSettings
    notes: tuple[str, ...] = ()

    @property
    def normalization(self) -> Normalization | None:
        """Normalization of the hidden layers."""
        return self._network.normalization

    def load(self) -> Dataset:
        """Return the data; raises DataError if they cannot be loaded."""
        return self.source.load(spawn_rngs(self.settings.seed)["data"], np.dtype(self.settings.dtype))

    @property
    def every_step(self) -> bool:
        """Whether the network answers at every step of a sequence."""
        return self._network.settings.get("loss_at") == "every"

    def network(
        self,
        n_in: int,
        n_out: int,
        image_shape: tuple[int, ...] | None = None,
        sequence_shape: tuple[int, int] | None = None,
    ) -> engine.Network:
        """Return the network with zero weights; raises UserError if it does not fit the shape of the samples.

        ``image_shape`` is (height, width) or (height, width, channels) of image samples; ``sequence_shape`` is
        (steps, features) of sequence samples.
        """
        build = target("model", self.config.model)
        name, model = model_of(self.config.model)
        takes = model.takes
        shapes = {
            "rows": n_in,
            "images": None if image_shape is None else (*image_shape, 1)[:3],
            "tokens": sequence_shape,
        }
        if shapes[takes] is None:
            what = "images" if takes == "images" else "sequences"
            raise UserError(f"model={name} needs {what}, and the samples of this dataset are rows of {n_in} features")
        if takes == "images" and image_shape is not None and channels_first(image_shape):
            raise UserError(
                f"model={name} needs images (height, width, channels), and those of this dataset are {image_shape}: "
                "save x.transpose(0, 2, 3, 1)"
            )
        widths = [n_in if takes == "rows" else 1, *self._network.hidden, n_out]
        weights = sum(a * b for a, b in pairwise(widths))
        if weights * np.dtype(self.settings.dtype).itemsize * COPIES > MEMORY:
            raise UserError(f"model: {weights:,} weights do not fit into the memory of this machine")
        check_keys("model", build, self._network.settings)
        try:
            network = build(shapes[takes], n_out=n_out, seed=None, **self._network.arguments())
        except ValueError as error:
            raise UserError(str(error)) from error
        except TypeError as error:
            raise UserError(f"model: {' '.join(str(error).split())}") from error
        return cast(engine.Network, check_kind("model", network))

    def decided(self, classifies: bool, samples: int) -> Plan:
        """Return the plan completed for a task and a number of training samples; raises UserError.

        loss=auto becomes the loss of the task; a default batch_size above ``samples`` becomes ``samples``.
        """
        return self._sized(samples)._with_loss(classifies)

    def changed(self, config: DictConfig) -> Plan:
        """Return the plan with network and initializer from another configuration; raises UserError."""
        network, initializer = architecture(config, self.settings.dtype, self.settings.batch_size)
        return replace(self, config=config, initializer=initializer, _network=network)

    def optimizer(self, total_steps: int) -> tuple[Optimizer, LRSchedule]:
        """Return the optimizer and its schedule for a run of ``total_steps``; raises UserError."""
        schedule = cast(LRSchedule, construct("schedule", self.config.schedule, total_steps=total_steps))
        return cast(Optimizer, construct("optimizer", self.config.optimizer, schedule=schedule)), schedule

    def bound_optimizer(self, total_steps: int, net: engine.Network) -> Optimizer:
        """Return the optimizer bound to a network, learning rates scaled as the initializer requires."""
        optimizer, _ = self.optimizer(total_steps)
        optimizer.scale_rates(self.initializer.rates(net.parameters, optimizer.adaptive))
        return optimizer.bind(net.parameters)

    def _sized(self, samples: int) -> Plan:
        size = self.settings.batch_size
        if size != DEFAULT_BATCH_SIZE or size <= samples:
            return self
        config = self.config.copy()
        config.batch_size = samples
        fitting = replace(self, settings=replace(self.settings, batch_size=samples)).changed(config)
        note = f"batch_size {size} is more than the {samples} training samples: one batch holds all {samples}"
        return replace(fitting, notes=(*self.notes, note))

    def _with_loss(self, classifies: bool) -> Plan:
        if self.config.loss._target_ != AUTO_LOSS:
            return self
        loss = cast(Loss, construct("loss", self.config.loss, classifies=classifies))
        config = self.config.copy()
        config.loss = {"_target_": f"{type(loss).__module__}.{type(loss).__name__}", **asdict(cast(Any, loss))}
        return replace(self, config=config, _network=replace(self._network, loss=loss))


def make_plan(config: DictConfig) -> Plan:
    """Return the plan of a composed configuration; raises UserError."""
    check_resolvable(config)
    top = [str(key) for key, value in config.items() if not isinstance(value, DictConfig)]
    settings = check_call("", Settings, plain(OmegaConf.masked_copy(config, top)))
    network, initializer = architecture(config, settings.dtype, settings.batch_size)
    probes = _probes(config.probes)
    plan = Plan(
        config=config,
        settings=settings,
        source=cast(SupportsLoad, construct("dataset", config.dataset)),
        probes=probes,
        checkpoint=check_call("checkpoint", CheckpointSettings, plain(config.checkpoint)),
        tracker=_tracker(config.tracking, probes),
        initializer=initializer,
        _network=network,
        notes=_unused(config),
    )
    unseen = [word for word in settings.stop_when if word != "diverging"]
    if unseen and PROBES["scales"] not in plan.probes:
        raise UserError(f"stop_when={unseen[0]} needs probes.scales, which measures every layer: give probes=light")
    plan.optimizer(1)  # reports an invalid key before the data are loaded
    spec = plan.network(*EXAMPLE).spec
    try:
        if spec is not None:
            spec.as_dict()  # reports a model that cannot be saved before it is trained
    except ValueError as error:
        raise UserError(str(error)) from error
    return plan


def _unused(config: DictConfig) -> tuple[str, ...]:
    """Return a note if the model has a fixed activation and another one is configured."""
    name, model = model_of(config.model)
    if model.activation is None or target("activation", config.activation) is engine.ACTIVATIONS[model.activation]:
        return ()
    return (f"model={name} has {model.activation} in its cells: activation is not used",)


def spawn_rngs(seed: int | tuple[int, ...]) -> dict[str, np.random.Generator]:
    """Return independent random generators by use (initialization, shuffle, dropout, data), from one seed."""
    children = np.random.SeedSequence(seed).spawn(len(STREAMS))
    return {use: np.random.default_rng(child) for use, child in zip(STREAMS, children, strict=True)}


def _tracker(node: DictConfig, probes: Iterable[type[Probe]]) -> Tracker:
    """Return the tracker, its quantities per layer checked; raises UserError."""
    also: dict[str, object] = {
        str(name): _beside(f"tracking.also.{name}", value) for name, value in (node.get("also") or {}).items()
    }
    own = without(node, "also")
    tracker = cast(Tracker, construct("tracking", own, also=also))
    known = sorted({quantity for probe in (*PROBES.values(), *probes) for quantity in probe.layer_quantities})
    if tracker.figures not in (True, False, *PICTURE_FORMATS):
        raise UserError(
            f"tracking.figures must be true, false or {' or '.join(PICTURE_FORMATS)}, got {tracker.figures}"
        )
    for name in tracker.per_layer:
        if str(name).removeprefix("log10_") not in known:
            raise UserError(
                f"tracking.per_layer: unknown quantity {name}; known are {', '.join(known)}, each also as log10_..."
            )
    return tracker


def _beside(key: str, node: DictConfig) -> TrackerBeside:
    """Return one of the additional trackers; raises UserError."""
    settings = plain(node)
    settings.pop("_target_", None)
    made = check_call(key, target(key, node), settings)
    if not isinstance(made, TrackerBeside):
        raise UserError(f"{key}._target_ must be a subclass of TrackerBeside, got {type(made).__name__}")
    return made


def _probes(node: DictConfig) -> dict[type[Probe], int | str]:
    """Return the classes of probes that are measured, and their schedules; raises UserError."""
    every, found = node.get("every"), {}
    _check_schedule("every", every)
    for key in (str(key) for key in node if key != "every"):
        probe, when = _probe(key, node[key])
        _check_schedule(key, when)
        if when is not None:
            found[probe] = when if every is None else every
    return found


def _probe(key: str, value: DictConfig | int | str | None) -> tuple[type[Probe], int | str | None]:
    """Return a probe class and its schedule: part of bpx, or from ``_target_`` and ``schedule``; raises UserError."""
    if not isinstance(value, DictConfig):
        if key not in PROBES:
            raise UserError(f"unknown key probes.{key}; probes has: every, {', '.join(PROBES)}")
        return PROBES[key], value
    probe = target(f"probes.{key}", value)
    if not (isinstance(probe, type) and issubclass(probe, Probe)) or key in PROBES or probe.name != key:
        raise UserError(f"probes.{key}._target_ must be a subclass of Probe whose name is {key}, got {value._target_}")
    if unknown := [str(name) for name in value if name not in ("_target_", "schedule")]:
        raise UserError(f"unknown key probes.{key}.{unknown[0]}; probes.{key} has: _target_, schedule")
    return probe, value.get("schedule")


def _check_schedule(key: str, when: int | str | None) -> None:
    if when is not None:
        try:
            parse_schedule(when, ReportSchedule(1, 1))
        except ValueError as error:
            raise UserError(f"probes.{key} {error}") from error
