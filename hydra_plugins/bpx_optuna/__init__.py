"""The sweeper that Hydra finds as ``hydra/sweeper=bpx_optuna``; its work is done in ``bpx.sweep``.

Hydra imports this file whenever any of its programs starts, so nothing heavy may be imported here.
"""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Search with Optuna over what the overrides leave open."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives; the launcher follows when the study is known."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study that the options and the command line's overrides describe."""
        from bpx.sweep.search import search

        return search(self.options, arguments, self.hydra_context, self.config)
