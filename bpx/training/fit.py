"""The training loop, a generator of records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bpx.data import Batches
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.probes import NonFinite, ProbeSet, Reading, ReportSchedule, trace
from bpx.training.state import Progress

MAX_EVALUATIONS = 200  # of a run: as many records, and those of the first epoch, go to the tracking server


def evaluation_interval(epochs: int) -> int:
    """Return the number of epochs between two evaluations of a run of ``epochs``."""
    return max(1, math.ceil(epochs / MAX_EVALUATIONS))


@dataclass(frozen=True)
class Record:
    """What is known at a step: metrics of the run, what the probes measured, and where NaN or infinity began, if so.

    ``reported`` tells the few records that go to the tracking server from those for the local record alone.
    """

    step: int
    epoch: float
    metrics: dict[str, float]
    measured: tuple[Reading, ...] = ()
    reported: bool = True
    nonfinite: NonFinite | None = None


def fit(
    net: Network,
    optimizer: Optimizer,
    batches: Batches,
    *,
    epochs: int,
    max_steps: int | None,
    validation: tuple[Any, Any] | None,
    evaluate_every: int,
    report_schedule: ReportSchedule,
    probe_set: ProbeSet,
    patience: int | None = None,
    progress: Progress | None = None,
    on_step_end: Callable[[], None] | None = None,
    enough: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """Train ``net`` and yield a record on schedule: of a step before it is made, and after each evaluation.

    A step is cost, backward, probes of the gradient, propose, probes of the update, apply. A non-finite cost or
    gradient yields a last record that says where it began, in ``nonfinite``. Training stops after ``epochs``, after
    ``max_steps``, or after ``patience`` evaluations, one every ``evaluate_every`` epochs, without a lower validation
    cost; once ``enough`` returns true, the step under way is the last one, and is evaluated. It begins where
    ``progress`` stands, and calls ``on_step_end`` after every step: what it raises ends training.
    """
    p = Progress() if progress is None else progress
    end = min(epochs * len(batches), max_steps or epochs * len(batches))

    def record(metrics: dict[str, float], **more: Any) -> Record:
        return Record(p.step, p.step / len(batches), metrics, **more)

    shifts = net.parameters.grad[net.parameters.n_weights :]  # finite only if every delta is
    if p.step >= end or (patience is not None and p.n_bad >= patience) or (enough is not None and enough()):
        return
    for x, y in batches:
        J = net.cost(x, y)
        if not math.isfinite(J):
            yield record({}, nonfinite=trace(net, optimizer, p.step, J))
            return
        net.backward()
        if not math.isfinite(shifts.sum()) and not np.isfinite(shifts).all():
            event = trace(net, optimizer, p.step, J, backward=True)
            yield record({}, nonfinite=event)
            return
        p.total += J
        p.count += 1
        looking, reported = probe_set.at(p.step), report_schedule(p.step)
        for probe in looking:
            probe.on_gradient(p.step)
        optimizer.propose()
        for probe in looking:
            probe.on_update(optimizer)
        if reported or looking:
            metrics = {"lr": optimizer.lr} if reported else {}
            if reported and (p.step == 0 or p.step > p.evaluated):  # at an evaluation's step, the mean is out already
                metrics |= p.take()
            yield record(metrics, measured=probe_set.measured(p.step), reported=reported)
        optimizer.apply()
        p.step += 1
        last = p.step == end or (enough is not None and enough())
        if last or p.step % (len(batches) * evaluate_every) == 0:
            if not math.isfinite(net.parameters.theta.sum()) and not np.isfinite(net.parameters.theta).all():
                event = trace(net, optimizer, p.step, J)
                yield record({}, nonfinite=event)
                return
            metrics, p.evaluated = p.take(), p.step
            if validation is not None:
                value, accuracy = net.evaluate(*validation)
                metrics["cost/val"] = value
                if accuracy is not None:
                    metrics["accuracy/val"] = accuracy
                optimizer.on_evaluation(value)
                p.best, p.n_bad = (value, 0) if value < p.best else (p.best, p.n_bad + 1)
            yield record(metrics)
        if on_step_end is not None:
            on_step_end()
        if last or (patience is not None and p.n_bad >= patience):
            return
