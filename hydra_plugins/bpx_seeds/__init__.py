"""The sweeper of a multirun over seeds, ``hydra/sweeper=bpx_seeds``; its work is done in ``bpx.runs.seeds``.

Hydra imports this file whenever any of its programs starts, so nothing heavy may be imported here.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SeedSweeper(Sweeper):
    """Run every combination of the overrides, the seeds of each together."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Train what the command line's overrides describe."""
        from bpx.runs.seeds import run_seeds

        return run_seeds(arguments, self.hydra_context, self.config)
