"""The training loop, a generator of records."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpx.data import Batches
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.probes import Due, LayerProbe
from bpx.training.state import Progress


@dataclass(frozen=True)
class Record:
    """What is known at a step: metrics of the run, and the probes' values in the order of their keys.

    ``sparse`` tells the few records that go to the tracking server from those for the local record alone.
    """

    step: int
    epoch: float
    metrics: dict[str, float]
    values: NDArray[np.float64] | None = None
    sparse: bool = True
    diverged: str = ""


def fit(
    net: Network,
    optimizer: Optimizer,
    batches: Batches,
    *,
    epochs: int,
    max_steps: int | None,
    validation: tuple[Any, Any] | None,
    due: Due,
    probe: LayerProbe | None,
    patience: int | None = None,
    progress: Progress | None = None,
    between: Callable[[], None] | None = None,
) -> Iterator[Record]:
    """Train ``net`` and yield a record on schedule: of a step before it is made, and after each evaluation.

    A step is cost, backward, probes of the gradient, propose, probes of the update, apply. A non-finite cost or
    gradient yields a last record that says where, in ``diverged``. Training stops after ``epochs``, after
    ``max_steps``, or after ``patience`` evaluations without a lower validation cost. It begins where ``progress``
    stands, and calls ``between`` after every step, when nothing is half done: what it raises ends the training.
    """
    p = Progress() if progress is None else progress
    end = min(epochs * len(batches), max_steps or epochs * len(batches))
    shifts = net.store.grad[net.store.n_weights :]  # finite only if every delta is
    if p.step >= end or (patience is not None and p.bad >= patience):
        return
    for x, y in batches:
        J = net.cost(x, y)
        if not math.isfinite(J):
            yield Record(p.step, p.step / due.steps_per_epoch, {}, diverged=f"cost {J} in step {p.step}")
            return
        net.backward()
        if not math.isfinite(shifts.sum()) and not np.isfinite(shifts).all():
            yield Record(p.step, p.step / due.steps_per_epoch, {}, diverged=f"non-finite gradient in step {p.step}")
            return
        p.total += J
        p.count += 1
        if due(p.step):
            values = None
            if probe is not None:
                probe.gradient()
            optimizer.propose()
            if probe is not None:
                values = probe.update(optimizer)
            sparse = due.sparse(p.step)
            metrics = {"lr": optimizer.lr} if sparse else {}
            if sparse and (p.step == 0 or p.step > p.evaluated):  # at an evaluation's step, the mean is out already
                metrics |= p.take()
            yield Record(p.step, p.step / due.steps_per_epoch, metrics, values, sparse)
        else:
            optimizer.propose()
        optimizer.apply()
        p.step += 1
        if p.step == end or p.step % (due.steps_per_epoch * due.evaluate_every) == 0:
            metrics, p.evaluated = p.take(), p.step
            if validation is not None:
                value, hits = net.evaluate(*validation)
                metrics["cost/val"] = value
                if hits is not None:
                    metrics["accuracy/val"] = hits
                optimizer.rate.schedule.observe(value)
                p.best, p.bad = (value, 0) if value < p.best else (p.best, p.bad + 1)
            yield Record(p.step, p.step / due.steps_per_epoch, metrics)
        if between is not None:
            between()
        if p.step == end or (patience is not None and p.bad >= patience):
            return
