"""The studies: each one command, one figure, one finding; ``python -m experiments`` makes them all."""

import sys

from bpx.system.interrupts import end_without_traceback

if sys.argv[:1] == ["-m"]:  # python -m is looking for a study, whose imports take a second
    end_without_traceback()
