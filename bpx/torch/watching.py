"""watch: the record of a PyTorch model while it trains, as a run of bpx leaves it."""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import nn

from bpx.diagnosis.finding import Finding
from bpx.diagnosis.judge import measured_finding
from bpx.diagnosis.rows import predicted
from bpx.diagnosis.sentence import sentence
from bpx.diagnosis.training_state import TrainingState
from bpx.diagnosis.trials import Causes
from bpx.probes import Reading, ReportSchedule, fit_slope, parse_schedule
from bpx.probes.nonfinite import NonFinite
from bpx.probes.scales import QUANTITIES
from bpx.records import Outcome, RecordWriter
from bpx.system.files import replaced
from bpx.torch.capture import Capture, tensors
from bpx.torch.diagnosis import about, functions
from bpx.torch.measure import REDUCTIONS, Measured
from bpx.torch.nonfinite import gradients_are_finite, trace, watched
from bpx.torch.passes import is_compiled
from bpx.torch.steps import Before, Clipping, StepMeasurement, weights_of
from bpx.torch.theory import predict_pass
from bpx.tracking import ActiveRun, LocalTracker, MLflowTracker, Tracker, run_is_active

OUTPUTS = Path("outputs") / "torch"
PROBES = ("light", "standard")
PER_LAYER = ("grad_norm", "log10_delta_l2", "activation_std", "log10_update_ratio")


@final
class watch:  # used as a function: with bpx.torch.watch(model, optimizer):
    """Measure the steps of ``optimizer`` that are due, from hooks that are there for those steps alone.

    A context manager. What the optimizer's step is about to use is measured: the model's last call with gradients
    enabled, its backward pass, and the update really made. Each run gets a directory with ``gradient_flow.parquet``,
    ``metrics.jsonl``, ``result.json`` and ``config/``, as ``bpx.train`` writes them; the layers are ``layer_01``, ...
    in order of execution, ``about["modules"]`` in the record their names in the model.

    Parameters
    ----------
    model : Module
        The model that is trained. A compiled one is refused: give the module that was compiled.
    optimizer : Optimizer
        Its optimizer.
    every : "epoch", "log", "sparse" or int
        When a step is measured: the first of each epoch, steps 0, 1, 2, 4, 8, ..., both (sparse), or every so many.
    steps_per_epoch : int, optional
        Needed by ``epoch`` and ``sparse``; with it the record's epochs are right.
    probes : "light" or "standard"
        The scales alone, or also units, agreement of the samples and lost updates.
    tracking : "auto", "mlflow", "none" or Tracker
        Where metrics go beside the directory; ``auto``: the run of MLflow that is active in this process, if any.
    reduction : "mean" or "sum"
        How the loss combines the samples.
    scaler : GradScaler, optional
        Of mixed precision: delta is divided by its scale.
    directory : path, optional
        A new directory; by default one under ``outputs/torch``.
    config : mapping, optional
        What is to be known of the run, as plain values: ``bpx.compare`` shows the keys that differ.
    check_finite : bool
        Whether every step is looked at for NaN and infinity.

    Attributes
    ----------
    directory : Path
        Where the record is written.
    finding : Finding or None
        Of the first measured step, without cause and remedies, which ``diagnose`` looks for.
    nonfinite : NonFinite or None
        Where NaN or infinity began.
    closed : bool
        Whether the record is written.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        every: int | str = "epoch",
        *,
        steps_per_epoch: int | None = None,
        probes: str = "standard",
        tracking: str | Tracker = "auto",
        reduction: str = "mean",
        scaler: Any = None,
        directory: str | Path | None = None,
        config: dict[str, Any] | None = None,
        check_finite: bool = True,
    ) -> None:
        if every in ("epoch", "sparse") and steps_per_epoch is None:
            raise ValueError(f"steps_per_epoch: expected a number of steps, as every={every!r} needs it, got None")
        for name, value, known in (("probes", probes, PROBES), ("reduction", reduction, REDUCTIONS)):
            if value not in known:
                raise ValueError(f"{name}: expected {' or '.join(known)}, got {value!r}")
        for name, module in model.named_modules():
            if is_compiled(module):
                raise ValueError(
                    f"{name or type(module).__name__} is compiled: expected the module before torch.compile"
                )
        self.model, self.optimizer, self.steps_per_epoch = model, optimizer, steps_per_epoch
        self.standard, self.reduction, self.scaler = probes == "standard", reduction, scaler
        self._due = parse_schedule(every, ReportSchedule(steps_per_epoch or 1, 1))
        self._tracker = _tracker(tracking)
        self._config = {"model": type(model).__name__, "optimizer": _optimizer(optimizer)} | (config or {})
        self._config |= {"watch": {"every": every, "probes": probes}}
        self.directory = Path(directory) if directory is not None else _directory()
        self.step, self.closed = 0, False
        self.finding: Finding | None = None
        self.nonfinite: NonFinite | None = None
        self._state: TrainingState | None = None
        self._capture: Capture | None = None
        self._clipping: Clipping | None = None
        self._taken: StepMeasurement | None = None
        self._inputs: tuple[Any, Any] | None = None
        self._n: int | None = None
        self._weights: Before = {}
        self._small = watched(model) if check_finite else []
        self._metrics: dict[str, float] = {}
        self._about: dict[str, Any] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        """Open the record, hook the optimizer, and the model where the first step is due."""
        (self.directory / "config").mkdir(parents=True, exist_ok=False)
        with replaced(self.directory / "config" / "config.yaml") as file:
            file.write(json.dumps(self._config, indent=1, default=str).encode())  # JSON is YAML
        self._writer = RecordWriter(self.directory / "gradient_flow.parquet")
        try:
            self._tracker.connect()
            self._tracker.start(type(self.model).__name__, _flat(self._config), {}, None, self.directory)
            self._handles = [
                self.model.register_forward_pre_hook(self._called, with_kwargs=True),
                self.optimizer.register_step_pre_hook(self._before),
                self.optimizer.register_step_post_hook(self._after),
            ]
            self._hook()
        except BaseException:
            self._unhook(everything=True)
            self._tracker.finish(Outcome.CRASHED)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Remove every hook, write the record and the result, and end the run."""
        self._unhook(everything=True)
        self.closed = True
        outcome = Outcome.FINISHED if kind is None else Outcome.CRASHED
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            outcome = Outcome.INTERRUPTED
        if self.nonfinite is not None and outcome != Outcome.INTERRUPTED:
            outcome = Outcome.DIVERGED
        finding = None if self.finding is None else self.finding.as_dict()
        final = None if self._state is None else self._state.final(outcome, {}).as_dict()
        self._writer.about = self._about | {"finding": finding, "final": final}
        if self.nonfinite is not None:
            self._writer.about["nonfinite"] = str(self.nonfinite)
        self._writer.close()
        result = {"outcome": outcome, "finding": finding, "final": final}
        with replaced(self.directory / "result.json") as file:
            file.write(json.dumps(result, indent=1).encode())
        self._tracker.tag("bpx.outcome", outcome)
        if final is not None:
            self._tracker.tag("bpx.verdict_final", str(final["verdict"]))
        self._tracker.artifact(self._writer.path)
        self._tracker.finish(outcome)

    def log(self, metrics: dict[str, float]) -> None:
        """Keep metrics of the user's own with the next step that is measured: ``cost/train``, ``accuracy/val``."""
        self._metrics |= metrics

    def begin(self, batch: Any) -> None:
        """Say that a step on ``batch`` begins: for loops that call parts of the model, and not the model itself.

        Needed where the model is not called as a whole; its modules are then kept until a gradient comes back.
        """
        self._n = _length(batch)
        if self._capture is not None:
            self._capture.begin()

    def _called(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.is_grad_enabled():
            self._inputs, self._n = (args, kwargs), _length((args, kwargs))

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Measure, before the optimizer's step, the pass that led to it; with a closure the step makes the pass."""
        if self._capture is not None:
            self._weights = weights_of(self._capture)
        if not _closes(args, kwargs):
            self._measure()

    def _after(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Complete the record of the step that was made, and hook the model where the next one is due."""
        if _closes(args, kwargs):
            self._measure()
        if self._taken is not None:
            self._keep(self._taken.made())
            self._taken = None
        self._weights = {}
        self.step += 1
        self._unhook()
        self._hook()

    def _measure(self) -> None:
        if self._small and self.nonfinite is None and not gradients_are_finite(self._small):
            self._diverged()
        if self._capture is None or self._n is None or not self._capture.reached:
            return
        scale = 1.0 if self.scaler is None else float(self.scaler.get_scale())
        measured = Measured(self._capture, self._n, self.reduction, scale)
        if self.finding is None:
            self._judge(measured)
        clip = math.nan if self._clipping is None else self._clipping.coefficient(self.model, scale)
        self._taken = StepMeasurement(measured, self._weights, clip, standard=self.standard)

    def _hook(self) -> None:
        if self._due(self.step):
            self._capture = Capture(self.model, blocks=self.step == 0, latest=True).__enter__()
            self._clipping = Clipping(self.model) if self.standard else None

    def _unhook(self, *, everything: bool = False) -> None:
        for held in (self._capture, self._clipping):
            if held is not None:
                held.remove()
        self._capture = self._clipping = None
        if everything:
            for handle in self._handles:
                handle.remove()
            self._handles, self._inputs = [], None

    def _judge(self, measured: Measured) -> None:
        observation = measured.observation()
        known, prediction = predict_pass(measured)
        found = measured_finding(observation, prediction, Causes((), {}))
        self.finding = replace(found, sentence=sentence(found, observation))
        self._about = about(measured, known) | {"dataset": type(self.model).__name__}
        self._writer.append(self.step, self._epoch, *measured.gains())
        self._writer.append(self.step, self._epoch, *predicted(prediction, observation))
        self._state = TrainingState(functions(measured), self._rate, None)
        self._tracker.tag("bpx.verdict", self.finding.verdict)
        self._tracker.tag("bpx.finding", self.finding.sentence)
        self._metrics |= self.finding.metrics()

    def _keep(self, readings: list[Reading]) -> None:
        metrics, self._metrics = self._metrics | {"lr": self._rate}, {}
        for reading in readings:
            self._writer.append(self.step, self._epoch, reading.keys, reading.values)
        scales = readings[0]
        delta = scales.values.reshape(-1, len(QUANTITIES))[:-1, QUANTITIES.index("delta_l2")]
        line = fit_slope(delta)
        if self.step > 0 and line is not None and math.isfinite(line.slope):
            metrics |= {
                "gradient_flow/slope": line.slope,
                "gradient_flow/abs_slope": abs(line.slope),
                "gradient_flow/ratio": line.ratio,
            }
        for (layer, _, quantity, _), value in zip(scales.keys, scales.values.tolist(), strict=True):
            if quantity in PER_LAYER and math.isfinite(value):
                metrics[f"{quantity}/{layer}"] = value
            if f"log10_{quantity}" in PER_LAYER and value > 0:
                metrics[f"log10_{quantity}/{layer}"] = math.log10(value)
        if self._state is not None:
            self._state.take(self.step, self._rate, metrics, readings)
        self._tracker.log(self.step, self._epoch, metrics)

    def _diverged(self) -> None:
        self._unhook()
        self.nonfinite = trace(self.model, self._inputs, self.step)
        self._tracker.tag("bpx.nonfinite", str(self.nonfinite))

    @property
    def _epoch(self) -> float:
        return self.step / self.steps_per_epoch if self.steps_per_epoch else 0.0

    @property
    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


def _closes(args: Any, kwargs: Any) -> bool:
    """Return whether an optimizer's step, whose first argument is the optimizer, was given a closure."""
    return any(value is not None for value in (*args[1:], kwargs.get("closure")))


def _length(batch: Any) -> int | None:
    """Return the length of the first tensor that has one."""
    return next((len(t) for t in tensors(batch) if t.dim() > 0), None)


def _tracker(tracking: str | Tracker) -> Tracker:
    if isinstance(tracking, Tracker):
        return tracking
    if tracking not in ("auto", "mlflow", "none"):
        raise ValueError(f"tracking: expected auto, mlflow, none or a Tracker, got {tracking!r}")
    if run_is_active() and tracking != "none":
        return ActiveRun()
    return MLflowTracker() if tracking == "mlflow" else LocalTracker()


def _directory() -> Path:
    return OUTPUTS / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    values = {key: value for key, value in optimizer.defaults.items() if isinstance(value, (bool, int, float, str))}
    return {"name": type(optimizer).__name__} | values


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
