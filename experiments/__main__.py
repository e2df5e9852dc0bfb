"""python -m experiments [seeds=N] [--quick] [key=value ...]: all studies, and the gallery unless quick."""

import sys

from bpx.commands import said
from experiments.gallery import make_all

if __name__ == "__main__":
    sys.exit(said(lambda: make_all(sys.argv[1:])))
