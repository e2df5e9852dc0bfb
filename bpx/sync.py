"""python -m bpx.sync DIRECTORY: send what a run could not send to its tracking server."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process, run_words
from bpx.system.errors import UserError
from bpx.tracking.delivery import sync

HELP = """
DIRECTORY is the run's own, outputs/<experiment>/<id>; sending twice does no harm."""


def main(words: Sequence[str] | None = None) -> int:
    """Send the rest of the run in the directory named on the command line."""
    return run_words(send, words, f"{__doc__}\n{HELP}")


def send(words: Sequence[str]) -> None:
    """Send the rest of a run and print what was sent; raises UserError."""
    if len(words) != 1 or words[0].startswith("-"):
        raise UserError("python -m bpx.sync takes one run directory")
    directory = Path(words[0])
    sent = sync(directory)
    print(f"all of run {sent.run} has been sent")
    if sent.interrupted:
        print(f"it has not ended: `python -m bpx.train resume={shlex.quote(str(directory))}` resumes it")


if __name__ == "__main__":
    exit_process(main())
