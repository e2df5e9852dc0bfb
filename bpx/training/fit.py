"""The training loop, a generator of records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bpx.data import Batches
from bpx.engine.network import Network
from bpx.engine.optimizers import Optimizer
from bpx.probes import Due, LayerProbe


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


@dataclass
class _Mean:
    total: float = 0.0
    count: int = field(default=0)

    def take(self) -> dict[str, float]:
        """Return the mean cost since the last call, if there was a step, and start anew."""
        mean = {"cost/train": self.total / self.count} if self.count else {}
        self.total, self.count = 0.0, 0
        return mean


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
) -> Iterator[Record]:
    """Train ``net`` and yield a record on schedule: of a step before it is made, and after each evaluation.

    A step is cost, backward, probes of the gradient, propose, probes of the update, apply. A non-finite cost or
    gradient yields a last record that says where, in ``diverged``. Training stops after ``epochs``, after
    ``max_steps``, or after ``patience`` evaluations without a lower validation cost.
    """
    step, evaluated, best, bad, cost = 0, 0, math.inf, 0, _Mean()
    shifts = net.store.grad[net.store.n_weights :]  # finite only if every delta is
    for epoch in range(1, epochs + 1):
        for x, y in batches.epoch():
            J = net.cost(x, y)
            if not math.isfinite(J):
                yield Record(step, step / due.steps_per_epoch, {}, diverged=f"cost {J} in step {step}")
                return
            net.backward()
            if not math.isfinite(shifts.sum()) and not np.isfinite(shifts).all():
                yield Record(step, step / due.steps_per_epoch, {}, diverged=f"non-finite gradient in step {step}")
                return
            cost.total += J
            cost.count += 1
            if due(step):
                values = None
                if probe is not None:
                    probe.gradient()
                optimizer.propose()
                if probe is not None:
                    values = probe.update(optimizer)
                sparse = due.sparse(step)
                metrics = {"lr": optimizer.lr} if sparse else {}
                if sparse and (step == 0 or step > evaluated):  # at an evaluation's step, the mean is out already
                    metrics |= cost.take()
                yield Record(step, step / due.steps_per_epoch, metrics, values, sparse)
            else:
                optimizer.propose()
            optimizer.apply()
            step += 1
            if step == max_steps:
                break
        last = epoch == epochs or step == max_steps
        if last or epoch % due.evaluate_every == 0:
            metrics, evaluated = cost.take(), step
            if validation is not None:
                value, hits = net.evaluate(*validation)
                metrics["cost/val"] = value
                if hits is not None:
                    metrics["accuracy/val"] = hits
                optimizer.rate.schedule.observe(value)
                best, bad = (value, 0) if value < best else (best, bad + 1)
            yield Record(step, step / due.steps_per_epoch, metrics)
        if last or (patience is not None and bad >= patience):
            return
