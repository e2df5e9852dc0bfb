"""Checks of configurations together with their data, before a run, a multirun or a study starts."""

from __future__ import annotations

import logging

from omegaconf import DictConfig, OmegaConf

from bpx.config.plan import Plan, make_plan
from bpx.data import Dataset
from bpx.runs.networks import empty_network
from bpx.system.errors import UserError


def check_samples(plan: Plan, data: Dataset) -> None:
    """Raise UserError if the data have too few samples for the configuration."""
    s, n = plan.settings, len(data.x_train)
    schedule = plan.optimizer(1)[1]
    asked = {f"schedule={schedule.name}": schedule.follows_cost, "early_stopping": s.early_stopping is not None}
    for key in (key for key, given in asked.items() if given and data.x_val is None):
        raise UserError(
            f"{key} follows cost/val, and dataset {data.name} has no validation part: "
            "give dataset.val_size, such as 0.2"
        )
    norm = plan.normalization
    if norm is not None and norm.over_batch and n % s.batch_size == 1:
        raise UserError(
            f"normalization={norm.method} cannot train on one sample: {n} training samples leave a last batch of 1 at "
            f"batch_size={s.batch_size}; take another batch_size, or dataset.train_size={n - 1}"
        )


class LoadedOnce:
    """Load the data of plans; consecutive plans with the same data share one load."""

    def __init__(self) -> None:
        self._loaded: tuple[object, Dataset] | None = None

    def __call__(self, plan: Plan) -> Dataset:
        """Return the data of ``plan``; raises UserError if they cannot be loaded."""
        key = (OmegaConf.to_container(plan.config.dataset, resolve=True), plan.settings.dtype)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # before others take its place in memory
            self._loaded = key, plan.load()
        return self._loaded[1]


class Precheck:
    """Check configurations together with their data; the same data are loaded once."""

    def __init__(self) -> None:
        self._load = LoadedOnce()

    def __call__(self, config: DictConfig) -> Plan:
        """Return the plan of ``config``; raises UserError if it is invalid or does not fit its data."""
        plan = make_plan(config)
        log = logging.getLogger("bpx.data")
        before, log.disabled = log.disabled, True  # each run says it itself
        try:
            data = self._load(plan)
        finally:
            log.disabled = before
        decided = plan.decided(data.n_classes is not None, len(data.x_train))
        empty_network(decided, data)
        check_samples(decided, data)
        return plan
