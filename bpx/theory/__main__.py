"""python -m bpx.theory activation=tanh initializer.sigma_w=1.5: theory's numbers and the phase diagram."""

from bpx.cli.command import leave
from bpx.cli.theory import main

if __name__ == "__main__":
    leave(main())
