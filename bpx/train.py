"""python -m bpx.train [+experiment=NAME] [key=value ...]: train a network, measure its gradients layer by layer."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from bpx import __version__
from bpx.system.imports import importing
from bpx.system.interrupts import announce, end_without_traceback

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from bpx.runs.precheck import Precheck

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second
    announce(f"bpx {__version__}")

from bpx.cli.command import command, exit_process


def train(config: DictConfig) -> None:
    """Train the network that the configuration describes."""
    with importing("bpx.runs.run"):
        from bpx.runs.run import run
    if not gc.get_freeze_count():
        gc.freeze()  # what imports have made stays

    run(config)


def precheck() -> Precheck:
    """Return the check that every configuration of a multirun passes, with its data, before the first run."""
    from bpx.runs.precheck import Precheck

    return Precheck()


main = command(train, precheck, seed_sweeper="bpx_seeds")


if __name__ == "__main__":
    exit_process(main())
