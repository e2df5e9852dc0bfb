"""watch: the record of a PyTorch model while it trains, as a run of bpx leaves it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bpx.diagnosis.finding import Finding
from bpx.diagnosis.training_state import FinalState
from bpx.probes import ReportSchedule, parse_schedule
from bpx.probes.nonfinite import NonFinite
from bpx.records import Outcome
from bpx.torch.capture import Capture
from bpx.torch.measure import REDUCTIONS, PassMeasurement
from bpx.torch.modules import hooked
from bpx.torch.nonfinite import Inputs, gradients_are_finite, trace, watched
from bpx.torch.passes import is_compiled
from bpx.torch.steps import Arrivals, Before, StepMeasurement, weights_of
from bpx.torch.trees import tensors
from bpx.torch.watch_record import WatchRecord
from bpx.tracking import Tracker

PROBES = ("light", "standard")


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
    every : "epoch", "log", "sparse" or int, optional
        When a step is measured: the first of each epoch, steps 0, 1, 2, 4, 8, ..., both (sparse), or every so many; by
        default ``epoch`` where ``steps_per_epoch`` is given, else ``log``.
    steps_per_epoch : int, optional
        Needed by ``epoch`` and ``sparse``; with it the record's epochs are right.
    probes : "light" or "standard"
        The scales alone, or also units, agreement of the samples and lost updates.
    tracking : "auto", "mlflow", "none" or Tracker
        Where metrics go beside the directory; ``auto``: the run of MLflow that is active in this process, if any.
    reduction : "mean" or "sum"
        How the loss combines the samples.
    accumulate : int
        How many batches a step's gradients add up, where the loop divides the loss by it: delta is multiplied by it.
        The last one is measured.
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
    nonfinite : NonFinite or None
        Where NaN or infinity began.
    closed : bool
        Whether the record is written.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        every: int | str | None = None,
        *,
        steps_per_epoch: int | None = None,
        probes: str = "standard",
        tracking: str | Tracker = "auto",
        reduction: str = "mean",
        accumulate: int = 1,
        scaler: torch.amp.GradScaler | None = None,
        directory: str | Path | None = None,
        config: dict[str, object] | None = None,
        check_finite: bool = True,
    ) -> None:
        if every is None:
            every = "log" if steps_per_epoch is None else "epoch"
        if every in ("epoch", "sparse") and steps_per_epoch is None:
            raise ValueError(f"steps_per_epoch: expected a number of steps, as every={every!r} needs it, got None")
        for key, value, names in (("probes", probes, PROBES), ("reduction", reduction, REDUCTIONS)):
            if value not in names:
                raise ValueError(f"{key}: expected {' or '.join(names)}, got {value!r}")
        if not isinstance(model, nn.Module):
            raise ValueError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        if accumulate < 1:
            raise ValueError(f"accumulate: expected at least 1, got {accumulate}")
        for name, module, _ in hooked(model):
            if is_compiled(module):
                raise ValueError(f"{name} is compiled: expected the module before torch.compile")
        self.model, self.optimizer, self.steps_per_epoch = model, optimizer, steps_per_epoch
        self.standard, self.reduction, self.scaler = probes == "standard", reduction, scaler
        self.accumulate = accumulate
        try:
            self._due = parse_schedule(every, ReportSchedule(steps_per_epoch or 1, 1))
        except ValueError as error:
            raise ValueError(f"every: {error}") from None
        known = {"model": type(model).__name__, "optimizer": _optimizer(optimizer)} | (config or {})
        known |= {"watch": {"every": every, "probes": probes}}
        self._record = WatchRecord(type(model).__name__, known, Path(directory) if directory else None, tracking)
        self.directory = self._record.directory
        self.step, self.closed = 0, False
        self.nonfinite: NonFinite | None = None
        self._capture: Capture | None = None
        self._arrivals: Arrivals | None = None
        self._taken: StepMeasurement | None = None
        self._inputs: Inputs | None = None
        self._n: int | None = None
        self._weights: Before = {}
        self._small = watched(model) if check_finite else []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        """Open the record, hook the optimizer, and the model where the first step is due."""
        try:
            self._record.open()
            self._handles = [
                self.model.register_forward_pre_hook(self._called, with_kwargs=True),
                self.optimizer.register_step_pre_hook(self._before),
                self.optimizer.register_step_post_hook(self._after),
            ]
            self._hook()
        except BaseException:
            self._unhook(everything=True)
            self._record.tracker.finish(Outcome.CRASHED)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Remove every hook, write the record and the result, and end the run."""
        self._unhook(everything=True)
        self.closed = True
        outcome = Outcome.of_context(kind)
        if self.nonfinite is not None and outcome != Outcome.INTERRUPTED:
            outcome = Outcome.DIVERGED
        self._record.close(outcome, self.nonfinite)

    def log(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Keep metrics of the user's own with the next step that is measured: ``accuracy/val``, ``cost/train``.

        Of ``cost/train`` the mean since the last measured step is kept, of others the last value. Tensors of one number
        are read at that step, not before. After the first NaN nothing is kept.
        """
        if self.nonfinite is None:
            self._record.take(metrics)

    def begin(self, batch: object) -> None:
        """Say that a step on ``batch`` begins: for loops that call parts of the model, and not the model itself.

        Needed where the model is not called as a whole; its modules are then kept until a gradient comes back.
        """
        self._n = _length(batch)
        if self._capture is not None:
            self._capture.begin()
            self._capture.n = self._n

    def _called(self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        if torch.is_grad_enabled():
            self._inputs, self._n = (args, kwargs), _length((args, kwargs))
            if self._capture is not None:
                self._capture.n = self._n

    def _before(self, optimizer: torch.optim.Optimizer, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Measure, before the optimizer's step, the pass that led to it; with a closure the step makes the pass."""
        if self._capture is not None:
            self._weights = weights_of(self._capture)
        if not _closes(args, kwargs):
            self._measure()

    def _after(self, optimizer: torch.optim.Optimizer, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Complete the record of the step that was made, and hook the model where the next one is due."""
        if _closes(args, kwargs):
            self._measure()
        if self._taken is not None:
            self._record.keep(self._taken.made(), self.step, self._epoch, self._rate)
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
        arrivals = self._arrivals
        measured = PassMeasurement(
            self._capture, self._n, self.reduction, scale, arrivals.norms if arrivals else None, self.accumulate
        )
        if self.finding is None:
            self._record.judge(measured, self.step, self._epoch, self._rate)
        clip = arrivals.clip_coefficient(self.model, scale) if arrivals and self.standard else math.nan
        self._taken = StepMeasurement(measured, self._weights, clip, standard=self.standard)

    def _hook(self) -> None:
        if self.nonfinite is None and self._due(self.step):  # the record ends with the last sound step
            self._capture = Capture(self.model, blocks=self.step == 0, units=self.standard, latest=True).__enter__()
            self._arrivals = Arrivals(self.model)

    def _unhook(self, *, everything: bool = False) -> None:
        for held in (self._capture, self._arrivals):
            if held is not None:
                held.remove()
        self._capture = self._arrivals = None
        if everything:
            for handle in self._handles:
                handle.remove()
            self._handles, self._inputs = [], None

    def _diverged(self) -> None:
        self._unhook()
        self.nonfinite = trace(self.model, self._inputs, self.step)
        self._record.tracker.tag("bpx.nonfinite", str(self.nonfinite))

    @property
    def finding(self) -> Finding | None:
        """The finding of the first measured step, without cause and remedies, which ``diagnose`` looks for."""
        return self._record.finding

    @property
    def final(self) -> FinalState | None:
        """What the last measured step shows, once the record is closed: verdict, alarms, and a sentence."""
        return self._record.final

    @property
    def _epoch(self) -> float:
        return self.step / self.steps_per_epoch if self.steps_per_epoch else 0.0

    @property
    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])


def _closes(args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Return whether an optimizer's step, whose first argument is the optimizer, was given a closure."""
    return any(value is not None for value in (*args[1:], kwargs.get("closure")))


def _length(batch: object) -> int | None:
    """Return the length of the first tensor that has one."""
    return next((len(t) for t in tensors(batch) if t.dim() > 0), None)


def _optimizer(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    values: dict[str, object] = {
        key: value for key, value in optimizer.defaults.items() if isinstance(value, (bool, int, float, str))
    }
    return {"name": type(optimizer).__name__} | values
