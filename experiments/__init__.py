"""The studies: each one command, one figure, one finding; ``python -m experiments`` makes them all."""

import bpx  # noqa: F401  # first of all: an interrupt while the rest is imported leaves no traceback
