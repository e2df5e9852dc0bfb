"""python -m bpx.theory activation=tanh initializer.sigma_w=1.5: theory's numbers and the phase diagram."""

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process
from bpx.cli.theory import main

if __name__ == "__main__":
    exit_process(main())
