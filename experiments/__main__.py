"""python -m experiments [seeds=N] [--quick] [key=value ...]: all studies, and the gallery unless quick."""

import sys
import textwrap

from bpx.cli.command import exit_process, run_cli
from experiments.gallery import CLASSICS, DEMONSTRATIONS, make_all


def main(words: list[str]) -> int:
    """Make all studies, or say which there are."""
    if set(words) & {"-h", "--help"}:
        names = textwrap.fill(", ".join((*DEMONSTRATIONS, *CLASSICS)), 100)
        print(f"{__doc__}\n\nOne study alone: python -m experiments.NAME, with the same words. NAME is one of\n{names}")
        return 0
    return run_cli(lambda: make_all(words))


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
