"""bpx COMMAND ..., or python -m bpx COMMAND ...: which commands there are, and their way in."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

from bpx import __version__
from bpx.system.interrupts import announce, end_without_traceback

COMMANDS = {
    "train": "train a network and measure its gradients layer by layer; -m or +sweep=NAME searches",
    "theory": "what mean field theory says of a network, and the phase diagram around it",
    "gradcheck": "check a network's gradients against central differences",
    "coordcheck": "how activations and their updates grow with the width, in the standard parametrization and in muP",
    "compare": "runs side by side: one figure, keys that differ, findings, last metrics",
    "figures": "the figures of a run or a sweep drawn again, from its record alone, as png, pdf or svg",
    "export": "a run's network as ONNX, as a PyTorch program or as safetensors",
    "sync": "send what a run could not send to its tracking server",
}


def main(words: list[str]) -> int:
    """Run the command named by the first argument; without one, list the commands."""
    if "--version" in words:
        print(f"bpx {__version__}")
        return 0
    if words[:1] == ["-sc"]:
        return _complete(words)
    if words and words[0] in COMMANDS:
        name, sys.argv = f"bpx.{words[0]}", [f"bpx {words[0]}", *words[1:]]
        if words[0] == "train":
            announce(f"bpx {__version__}")
        return _run(name)
    if set(words) - {"-h", "--help"}:
        print(f"error: bpx {words[0]}: there is no such command; known are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    for command, does in COMMANDS.items():
        print(f"bpx {command:10s} {does}")
    if find_spec("experiments") is not None:  # the studies stand in the repository and the sdist, not in the wheel
        print(f"\n{'python -m experiments':22s} all studies and the gallery; python -m experiments.NAME makes one")
    print("\nEach says more with --help, and is python -m bpx.COMMAND, too.")
    return 0


def _complete(words: list[str]) -> int:
    """Print shell completions: commands, and after one of them Hydra's groups, options and keys."""
    line = os.environ.get("COMP_LINE", "")
    typed = line.split(" ")
    if words[-1].startswith("query") and (len(typed) < 3 or typed[1] not in COMMANDS):
        print("\n".join(COMMANDS))  # fish takes a line for a candidate
        return 0
    if words[-1] == "install=zsh":  # Hydra's answer is bash's, and needs what zsh leaves out until asked
        print("autoload -Uz compinit bashcompinit && compinit -i && bashcompinit")
    os.environ["COMP_LINE"] = " ".join([typed[0], *typed[2:]])
    sys.argv = ["bpx", *words]
    return _run("bpx.train")


def _run(name: str) -> int:
    """Run a command's module, as ``python -m`` does, and return its exit code."""
    package = import_module(name)
    module = import_module(f"{name}.__main__") if hasattr(package, "__path__") else package
    code: int = module.main()
    return code


def console() -> None:
    """Run the command line ``bpx ...`` and end the process."""
    end_without_traceback()  # what follows imports for a second
    from bpx.cli.command import exit_process

    exit_process(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
