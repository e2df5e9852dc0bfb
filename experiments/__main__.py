"""python -m experiments [NAME ...] [seeds=N] [--quick | --draw] [key=value ...]: make studies and their gallery.

All studies or those named; without the gallery where --quick is given; --draw redraws it from its saved data.
"""

import sys
import textwrap

from bpx.cli.command import exit_process, run_cli
from experiments.gallery import STUDIES, make_all


def main(words: list[str]) -> int:
    """Make all studies, or say which there are."""
    if set(words) & {"-h", "--help"}:
        names = textwrap.fill(", ".join(STUDIES), 100)
        print(f"{__doc__}\nOne study alone, without the gallery: python -m experiments.NAME. NAME is one of\n{names}")
        return 0
    return run_cli(lambda: make_all(words))


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
