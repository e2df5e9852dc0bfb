"""From a composed configuration to objects, with every check on what the user wrote.

Whatever is wrong is a UserError: one line that says what is wrong and what is allowed.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import types
import typing
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bpx import engine
from bpx.diagnosis.training_state import STOP_RULES
from bpx.engine.initializers import Initializer
from bpx.engine.losses import Loss
from bpx.engine.optimizers import Optimizer
from bpx.engine.schedules import LRSchedule
from bpx.probes import PROBES, ReportSchedule, parse_schedule
from bpx.tracking.tracker import Tracker
from bpx.training.checkpoint import CheckpointSettings

PACKAGE = Path(__file__).resolve().parent
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parent / "conf") if (p / "config.yaml").exists())

AUTO_LOSS = "bpx.engine.losses.default_loss"
MAX_SHOWN = 80  # letters of a value
DEFAULT_DEPTH, DEFAULT_WIDTH = 2, 100
DEFAULT_BATCH_SIZE = 32
MOST_LAYERS = 10_000
KINDS: dict[str, type] = {
    "model": engine.Network,
    "activation": engine.ActivationFunction,
    "initializer": Initializer,
    "loss": Loss,
    "optimizer": Optimizer,
    "schedule": LRSchedule,
    "tracking": Tracker,
}
COPIES = 5  # of the weights that a run holds: theta, the gradient, the optimizer's vectors, a probe's
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
RENAMED = {
    "schedule.rise": "schedule.pct_start",
    "schedule.start_div": "schedule.div_factor",
    "schedule.end_div": "schedule.final_div_factor",
    "schedule.every": "schedule.step_size (schedule=step)",
    "schedule.factor": "schedule.gamma (schedule=step)",
}


MAX_THREADS = 1024


class UserError(Exception):
    """Something that the user can put right; its text is one line, ``code`` the exit code of the command."""

    code: ClassVar[int] = 2


class EveryTrialFailed(UserError):
    """A search without a trial that could be trained."""

    code = 1


def listed(words: Iterable[str], between: str = ", ", most: int = 20) -> str:
    """Return words side by side, cut where they are many."""
    known = list(words)
    rest = [f"… ({len(known) - most} more)"] if len(known) > most else []
    return between.join(known[:most] + rest)


def brief(value: Any) -> str:
    """Return a value as a message shows it: null for None, cut where it is long."""
    text = "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


@dataclass(frozen=True)
class Settings:
    """The keys that stand outside every group."""

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

    def __post_init__(self) -> None:
        for key, least in (("seed", 0), ("epochs", 1), ("max_steps", 1), ("batch_size", 1), ("threads", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"{key} must be at least {least}, got {value}")
        if self.threads > MAX_THREADS:
            raise ValueError(f"threads must be at most {MAX_THREADS}, got {brief(self.threads)}")
        if self.early_stopping is not None and self.early_stopping < 1:
            raise ValueError(f"early_stopping must be at least 1, got {self.early_stopping}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype}")
        for word in self.stop_when:
            if word not in STOP_RULES:
                raise ValueError(f"stop_when must hold only {', '.join(STOP_RULES)}, got {word}")


@dataclass(frozen=True)
class Plan:
    """A checked configuration: everything of it that can be built before the data are there.

    ``probes`` holds the schedule of every family of probes that is measured, ``notes`` what the data have decided.
    """

    config: DictConfig
    settings: Settings
    source: Any
    probes: dict[str, int | str]
    checkpoint: CheckpointSettings
    tracker: Any
    initializer: Initializer
    _network: dict[str, Any]
    notes: tuple[str, ...] = ()

    def network(self, n_in: int, n_out: int) -> engine.Network:
        """Build the network between these widths, its weights still zero."""
        build = _target("model", self.config.model)
        widths = [n_in, *self._network["hidden"], n_out]
        weights = sum(a * b for a, b in pairwise(widths))
        if weights * np.dtype(self.settings.dtype).itemsize * COPIES > MEMORY:
            raise UserError(f"model: {weights:,} weights do not fit into the memory of this machine")
        try:
            network = build(n_in, n_out=n_out, seed=None, **self._network)
        except ValueError as error:
            raise UserError(str(error)) from error
        except TypeError as error:
            raise UserError(f"model: {' '.join(str(error).split())}") from error
        return typing.cast(engine.Network, _of_kind("model", network))

    def decided(self, classifies: bool, samples: int) -> Plan:
        """Return the plan for data of classes, or of numbers, with so many training samples; raises UserError.

        loss=auto becomes the loss of that task, a default batch_size beyond ``samples`` one batch of all.
        """
        return self._sized(samples)._with_loss(classifies)

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
        loss = _construct("loss", self.config.loss, classifies=classifies)
        config = self.config.copy()
        config.loss = {"_target_": f"{type(loss).__module__}.{type(loss).__name__}", **asdict(loss)}
        return replace(self, config=config, _network=self._network | {"loss": loss})

    def changed(self, config: DictConfig) -> Plan:
        """Return the plan with the network and the initializer of another configuration; raises UserError."""
        network, initializer = _architecture(config, self.settings)
        return replace(self, config=config, initializer=initializer, _network=network)

    def optimizer(self, total_steps: int) -> tuple[Optimizer, LRSchedule]:
        """Build the optimizer and its schedule for a run of ``total_steps``."""
        schedule = _construct("schedule", self.config.schedule, total_steps=total_steps)
        return _construct("optimizer", self.config.optimizer, schedule=schedule), schedule


def make_plan(config: DictConfig) -> Plan:
    """Check a composed configuration and build what it describes; raises UserError."""
    _check_resolvable(config)
    top = [str(key) for key, value in config.items() if not isinstance(value, DictConfig)]
    settings = check_call("", Settings, _plain(OmegaConf.masked_copy(config, top)))
    network, initializer = _architecture(config, settings)
    result = Plan(
        config=config,
        settings=settings,
        source=_construct("dataset", config.dataset),
        probes=_probes(_plain(config.probes)),
        checkpoint=check_call("checkpoint", CheckpointSettings, _plain(config.checkpoint)),
        tracker=_tracker(config.tracking),
        initializer=initializer,
        _network=network,
    )
    unseen = [word for word in settings.stop_when if word != "diverging"]
    if unseen and "scales" not in result.probes:
        raise UserError(f"stop_when={unseen[0]} needs probes.scales, which measures every layer: give probes=light")
    result.optimizer(1)  # so that a wrong key is said before the data are read
    spec = result.network(2, 2).spec
    try:
        if spec is not None:
            spec.as_dict()  # so that a model that cannot be saved is said before it is trained
    except ValueError as error:
        raise UserError(str(error)) from error
    return result


def _architecture(config: DictConfig, settings: Settings) -> tuple[dict[str, Any], Initializer]:
    """Return what builds the network, and its initializer; raises UserError."""
    activation = _construct("activation", config.activation)
    rate = _number("dropout.rate", config.dropout.rate)
    if not 0 <= rate < 1:
        raise UserError(f"dropout.rate must be in [0, 1), got {rate:g}")
    name = config.dropout.get("name", "inverted")  # older runs have stored no name
    if name not in ("inverted", "none"):
        raise UserError(f"dropout.name must be inverted or none, got {brief(name)}")
    if rate and name == "none":
        raise UserError(f"dropout.rate must be 0 with dropout=none, got {rate:g}: give dropout=inverted too")
    if config.normalization.name == "batch" and settings.batch_size == 1:
        raise UserError("normalization=batch needs a batch_size of at least 2: one sample is its own mean")
    network = {
        "hidden": hidden_widths(config.model),
        "activation": activation,
        "normalization": config.normalization.name,
        "dropout": rate,
        "loss": _construct("loss", config.loss),
        "dtype": settings.dtype,
    }
    return network, _initializer(config, activation, rate)


def _check_resolvable(config: DictConfig) -> None:
    """Raise UserError, naming the key, where a value is missing or refers to what is not there."""

    def walk(prefix: str, node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            name = f"{prefix}.{key}" if prefix else str(key)
            if isinstance(value, (dict, list)):
                walk(name, value)
            elif isinstance(value, str) and ("${" in value or value == "???"):
                try:
                    OmegaConf.select(config, name, throw_on_missing=True, throw_on_resolution_failure=True)
                except OmegaConfBaseException as error:
                    raise UserError(f"{name}: {str(error).splitlines()[0]}") from error

    walk("", OmegaConf.to_container(config, resolve=False))


def _tracker(node: DictConfig) -> Any:
    """Return the tracker, its quantities of every layer known ones."""
    tracker = _construct("tracking", node)
    known = sorted({quantity for probe in PROBES.values() for quantity in probe.layer_quantities})
    for name in tracker.per_layer:
        if str(name).removeprefix("log10_") not in known:
            raise UserError(
                f"tracking.per_layer: unknown quantity {name}; known are {', '.join(known)}, each also as log10_..."
            )
    return tracker


def _probes(settings: dict[str, Any]) -> dict[str, int | str]:
    """Return the schedule of every family of probes that is measured."""
    every = settings.pop("every", None)
    chosen = {family: when if every is None else every for family, when in settings.items() if when is not None}
    for key, when in {"every": every, **settings}.items():
        if key != "every" and key not in PROBES:
            raise UserError(f"unknown key probes.{key}; probes has: every, {', '.join(PROBES)}")
        if when is not None:
            try:
                parse_schedule(when, ReportSchedule(1, 1))
            except ValueError as error:
                raise UserError(f"probes.{key} {error}") from error
    return chosen


def hidden_widths(model: DictConfig) -> list[int]:
    """Return the hidden layers' widths from model.hidden, or from model.depth and model.width."""
    depth, width, hidden = model.depth, model.width, model.hidden
    if hidden is not None:
        if depth is not None or width is not None:
            other = "depth" if depth is not None else "width"
            raise UserError(f"give model.hidden or model.{other}, not both: model.{other}=null takes it back")
        widths: list[Any] = list(hidden) if not isinstance(hidden, (int, float, str)) else [hidden]
    else:
        for key, value in (("depth", depth), ("width", width)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise UserError(f"model.{key} must be an integer, got {brief(value)}")
        least = 1 if str(model._target_).endswith("residual_mlp") else 0
        if depth is not None and not least <= depth <= MOST_LAYERS:
            raise UserError(f"model.depth must be between {least} and {MOST_LAYERS:,}, got {brief(depth)}")
        if width is not None and width < 1:
            raise UserError(f"model.width must be at least 1, got {width}")
        widths = [DEFAULT_WIDTH if width is None else width] * (DEFAULT_DEPTH if depth is None else depth)
    for n in widths:
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise UserError(f"model.hidden must be a list of integers of at least 1, got {brief(n)}")
    if str(model._target_).endswith("residual_mlp") and (not widths or len(set(widths)) > 1):
        raise UserError("model.hidden must hold at least one width, all equal, for residual_mlp")
    return widths


def flatten(config: DictConfig) -> dict[str, Any]:
    """Return every key of the configuration with dots between the levels, and what each group builds by its name."""

    def walk(prefix: str, node: Any) -> typing.Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(f"{prefix}{key}.", value)
            elif key == "_target_":
                yield prefix[:-1], str(value).rpartition(".")[2]
            else:
                yield f"{prefix}{key}", value

    return dict(walk("", _plain(config)))


def _initializer(config: DictConfig, activation: engine.ActivationFunction, dropout: float) -> Initializer:
    node = config.initializer.copy()
    try:
        if node.get("gain") == "auto":
            node.gain = engine.recommended_gain(activation)
        if node.get("sigma_w") == "critical":
            from bpx.theory import critical_sigma_w

            bias = _number("initializer.bias_std", node.bias_std)
            node.sigma_w = critical_sigma_w(activation, bias, keep_prob=1 - dropout)
    except ValueError as error:
        raise UserError(f"initializer: {error}") from error
    return typing.cast(Initializer, _construct("initializer", node))


def _plain(node: DictConfig) -> dict[str, Any]:
    return typing.cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def _target(group: str, node: DictConfig) -> Any:
    from hydra.utils import get_object

    name = node.get("_target_")
    if not isinstance(name, str):
        raise UserError(f"{group}._target_ must be a word, got {brief(name)}")
    logger = logging.getLogger("hydra.utils")
    before, logger.disabled = logger.disabled, True  # it would say the same in a line of its own
    try:
        return get_object(name)
    except Exception as error:
        raise UserError(f"{group}._target_={brief(name)} cannot be imported: {brief(error)}") from error
    finally:
        logger.disabled = before


def _construct(group: str, node: DictConfig, **more: Any) -> Any:
    """Call a group's ``_target_`` with its keys, checked by the annotations of what is called."""
    settings = _plain(node)
    settings.pop("_target_")
    return _of_kind(group, check_call(group, _target(group, node), settings, **more))


def _of_kind(group: str, made: Any) -> Any:
    """Return what a group's ``_target_`` has made, if it is what the group is for; raises UserError."""
    kind = KINDS.get(group)
    if kind is not None and not isinstance(made, kind):
        raise UserError(f"{group}._target_ must build what {kind.__name__} is, got {type(made).__name__}")
    return made


def check_call(group: str, build: Any, settings: dict[str, Any], **more: Any) -> Any:
    """Call ``build`` with the keys of a group, checked by its annotations; raises UserError."""
    prefix = f"{group}." if group else ""
    if not callable(build):
        raise UserError(f"{prefix}_target_ must be a class or a function, got {brief(build)}")
    parameters = inspect.signature(build).parameters
    hints = typing.get_type_hints(build.__init__ if inspect.isclass(build) else build)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in settings.items():
        if key in hints:
            _check_type(prefix + key, value, hints[key])
        elif prefix + key in RENAMED:
            raise UserError(f"{prefix}{key} was renamed to {RENAMED[prefix + key]}")
        elif not open_ended:
            known = ", ".join(k for k in parameters if k not in more)
            raise UserError(f"unknown key {prefix}{key}; {group or 'the configuration'} has: {known}")
    try:
        return build(**settings, **more)
    except (ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        raise UserError(text if text.startswith((prefix, "give ")) else f"{group}: {text}") from error


def _check_type(key: str, value: Any, hint: Any) -> None:
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    names = {
        int: "an integer",
        float: "a number",
        str: "a word",
        bool: "true or false",
        types.NoneType: "null",
        list: "a list",
        dict: "keys with values",
    }
    for kind in allowed:
        origin = typing.get_origin(kind) or kind
        if origin is Any:
            return
        if origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            if math.isnan(value):
                raise UserError(f"{key} must be a number, got nan")
            return
        if origin in (list, tuple, typing.Sequence) and isinstance(value, list):
            return
        if (
            inspect.isclass(origin)
            and isinstance(value, origin)
            and (origin is not int or (value is not True and value is not False))
        ):
            return
    wanted = " or ".join(names.get(typing.get_origin(kind) or kind, str(kind)) for kind in allowed)
    raise UserError(f"{key} must be {wanted}, got {brief(value)}")


def _number(key: str, value: Any) -> float:
    _check_type(key, value, float)
    return float(value)


def spawn_rngs(seed: int | tuple[int, ...]) -> dict[str, np.random.Generator]:
    """Return one independent random stream for each use, all from one seed."""
    uses = ("initialization", "shuffle", "dropout", "data")
    children = np.random.SeedSequence(seed).spawn(len(uses))
    return {use: np.random.default_rng(child) for use, child in zip(uses, children, strict=True)}
