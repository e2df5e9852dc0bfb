"""python -m bpx.sync DIRECTORY: send what a run could not send to its tracking server."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process, run_cli
from bpx.tracking.delivery import sync


def main(words: list[str] | None = None) -> int:
    """Send the rest of a run, given its directory; what has arrived already is not sent again."""
    words = sys.argv[1:] if words is None else words
    if set(words) & {"-h", "--help"}:
        print(f"{__doc__}\n\nDIRECTORY is the run's own, outputs/<experiment>/<id>; sending twice does no harm.")
        return 0
    if len(words) != 1 or words[0].startswith("-"):
        print("error: python -m bpx.sync takes one run directory", file=sys.stderr)
        return 2
    return run_cli(lambda: send(Path(words[0])))


def send(directory: Path) -> None:
    """Send the rest of the run in ``directory`` and say so; raises TrackingError."""
    sent = sync(directory)
    print(f"all of run {sent.run} has been sent")
    if sent.interrupted:
        print(f"it has not ended: `python -m bpx.train resume={shlex.quote(str(directory))}` goes on")


if __name__ == "__main__":
    exit_process(main())
