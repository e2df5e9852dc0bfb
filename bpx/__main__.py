"""python -m bpx: which commands there are."""

import sys
from importlib.util import find_spec

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process

COMMANDS = {
    "bpx.train": "train a network and measure its gradients layer by layer; -m or +sweep=NAME searches",
    "bpx.theory": "what mean field theory says of a network, and the phase diagram around it",
    "bpx.gradcheck": "check a network's gradients against central differences",
    "bpx.compare": "runs side by side: one figure, keys that differ, findings, last metrics",
    "bpx.figures": "the figures of a run or a sweep drawn again, from its record alone, as png, pdf or svg",
    "bpx.export": "a run's network as ONNX, as a PyTorch program or as safetensors",
    "bpx.sync": "send what a run could not send to its tracking server",
}
if find_spec("experiments") is not None:  # the studies stand in the repository and the sdist, not in the wheel
    COMMANDS["experiments"] = "all studies and the gallery; python -m experiments.NAME makes one"


def main(words: list[str]) -> int:
    """Print the commands; a word that looks for one of them is a mistake."""
    if set(words) - {"-h", "--help"}:
        known = ", ".join(f"python -m {name}" for name in COMMANDS)
        print(f"error: python -m bpx takes no arguments; the commands are {known}", file=sys.stderr)
        return 2
    for name, does in COMMANDS.items():
        print(f"python -m {name:15s} {does}")
    print("\nEach says more with --help.")
    return 0


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
