"""python -m bpx.train [+experiment=NAME] [key=value ...]: train a network, measure its gradients layer by layer."""

from __future__ import annotations

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import command, exit_process


@command
def main(config: object) -> None:
    """Train the network that the configuration describes."""
    from omegaconf import DictConfig

    from bpx.runs.run import run

    assert isinstance(config, DictConfig)
    run(config)


if __name__ == "__main__":
    exit_process(main())
