"""The training loop, a generator of records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from bpx.engine.arrays import Array
from bpx.probes import NonFinite, ProbeSet, Reading, trace
from bpx.training.cadence import Cadence
from bpx.training.state import Training


@dataclass(frozen=True)
class Record:
    """The metrics and measurements of one step.

    Attributes
    ----------
    step, epoch
        Optimizer steps and epochs before the measurement.
    metrics
        Metrics of the run, by name.
    measured
        Readings of the probes.
    reported
        Whether it is sent to the tracking server, or kept only in the local record.
    nonfinite
        Origin of the first NaN or infinity, which ends the run; else None.
    """

    step: int
    epoch: float
    metrics: dict[str, float]
    measured: tuple[Reading, ...] = ()
    reported: bool = True
    nonfinite: NonFinite | None = None


def fit(
    training: Training,
    cadence: Cadence,
    *,
    probe_set: ProbeSet,
    validation: tuple[Array, Array] | None = None,
    patience: int | None = None,
    enough: Callable[[], bool] = lambda: False,
    on_step_end: Callable[[], None] = lambda: None,
    interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Record]:
    """Train, and yield records on schedule: of a step before its update, and after each evaluation.

    A step is cost, backward, probes of the gradient, propose, probes of the update, apply. A non-finite cost or
    gradient yields a last record with its origin in ``nonfinite``.

    Parameters
    ----------
    training : Training
        Network, optimizer, batches, and the progress from which training continues.
    cadence : Cadence
        When training ends, and when it is evaluated and reported.
    probe_set : ProbeSet
        Probes and their schedules.
    validation : tuple of arrays (x, y), or None
        The validation part.
    patience : int or None
        Number of evaluations without a lower validation cost after which training stops.
    enough : callable
        When it returns True, the current step is the last one, and is evaluated.
    on_step_end : callable
        Called after every step; an exception ends training.
    interruptible : callable
        Returns the context in which probes measure: a measurement may take minutes, and changes no state.
    """
    net, optimizer, batches, p = training.net, training.optimizer, training.batches, training.progress
    report, total, evaluate_every = cadence.report_schedule, cadence.total_steps, cadence.evaluate_every * len(batches)
    grad = net.parameters.grad
    shifts = grad[net.parameters.n_weights :]  # finite only if every delta is

    def costs() -> dict[str, float]:
        """Return the mean cost since the last record, and the same with the penalty of weight decay."""
        metrics, penalty = p.take(), optimizer.penalty()
        if penalty and "cost/train" in metrics:
            metrics["cost/objective"] = metrics["cost/train"] + penalty
        return metrics

    def record(
        metrics: dict[str, float],
        measured: tuple[Reading, ...] = (),
        reported: bool = True,
        nonfinite: NonFinite | None = None,
    ) -> Record:
        return Record(p.step, p.step / len(batches), metrics, measured, reported, nonfinite)

    def without_progress() -> bool:
        return patience is not None and p.n_bad >= patience

    if p.step >= total or without_progress() or enough():
        return
    for x, y in batches:
        J = net.cost(x, y)
        if not math.isfinite(J):
            yield record({}, nonfinite=trace(net, optimizer, p.step, J))
            return
        net.backward()
        active, reported = probe_set.at(p.step), report(p.step)
        checked = grad if active else shifts  # an infinite dW of other steps shows in the next one, by its update
        if not math.isfinite(np.add.reduce(checked)) and not np.isfinite(checked).all():
            yield record({}, nonfinite=trace(net, optimizer, p.step, J, backward=True))
            return
        p.total += J
        p.count += 1
        if active:
            with interruptible():
                for probe in active:
                    probe.on_gradient(p.step)
        optimizer.propose()
        if active:
            with interruptible():
                for probe in active:
                    probe.on_update(optimizer)
        if reported or active:
            metrics = {"lr": optimizer.lr} if reported else {}
            if reported and (p.step == 0 or p.step > p.evaluated):  # at an evaluation's step, the mean is out already
                metrics |= costs()
            yield record(metrics, probe_set.measured(p.step), reported)
        optimizer.apply()
        p.step += 1
        last = p.step == total or enough()
        if last or p.step % evaluate_every == 0:
            if not math.isfinite(net.parameters.theta.sum()) and not np.isfinite(net.parameters.theta).all():
                yield record({}, nonfinite=trace(net, optimizer, p.step, J))
                return
            metrics, p.evaluated = costs(), p.step
            if validation is not None:
                metrics |= _validate(training, validation)
            yield record(metrics)
        on_step_end()
        if last or without_progress():
            return


def _validate(training: Training, validation: tuple[Array, Array]) -> dict[str, float]:
    """Evaluate on the validation part, notify the optimizer and the progress, and return the metrics."""
    p = training.progress
    cost, accuracy = training.net.evaluate(*validation)
    training.optimizer.on_evaluation(cost)
    p.best, p.n_bad = (cost, 0) if cost < p.best else (p.best, p.n_bad + 1)
    return {"cost/val": cost} | ({} if accuracy is None else {"accuracy/val": accuracy})
