"""python -m bpx.figures RUN [format=pdf]: draw the figures of a run or a sweep again, from its record alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process, run_words, terminal
from bpx.cli.words import format_word, split_words
from bpx.figures.run import draw_all
from bpx.figures.sweep import draw_sweep
from bpx.stored.lookup import find_directory
from bpx.system.errors import UserError
from bpx.system.run_files import CONFIG, FIGURES, TRIALS

HELP = """
RUN is a run directory, the id of a run whose directory is in outputs/, or the directory of a sweep.

format=pdf      png, pdf or svg
out=FOLDER      where to put them (figures/ in the run's directory)"""


def main(words: Sequence[str] | None = None) -> int:
    """Draw the figures of the run named on the command line."""
    return run_words(redraw, words, f"{__doc__}\n{HELP}")


def redraw(words: Sequence[str]) -> None:
    """Draw every figure that the files of a run, or of a sweep, allow; raises UserError."""
    names, keys = split_words("bpx.figures", words, ("format", "out"))
    if len(names) != 1:
        raise UserError(f"python -m bpx.figures takes one run, got {len(names)}: --help says what a run may be")
    suffix = format_word("bpx.figures", keys, "")
    directory = find_directory(names[0])
    if directory is None:
        raise UserError(f"{names[0]} is neither a directory nor the id of a run in outputs/")
    sweep = (directory / TRIALS).is_file()
    if not sweep and not (directory / CONFIG).is_file():
        raise UserError(f"{directory} holds neither a run ({CONFIG}) nor a sweep ({TRIALS})")
    folder = Path(keys.get("out", directory / FIGURES))
    folder.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    out = terminal().print
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always", UserWarning)
        try:
            paths = draw_sweep(directory, folder, failed, suffix) if sweep else draw_all(
                directory, failed, suffix=suffix, folder=folder
            )  # fmt: skip
        except ValueError as error:  # of a damaged file
            raise UserError(str(error)) from error
    for warning in left_out:
        out(f"note      {warning.message}", markup=False)
    for name, why in failed.items():
        out(f"note      figure {name} could not be drawn: {why}", markup=False)
    out(f"figures   {len(paths)} in {folder}", soft_wrap=True)


if __name__ == "__main__":
    exit_process(main())
