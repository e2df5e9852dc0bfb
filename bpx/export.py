"""python -m bpx.export RUN format=onnx|torch|safetensors: a run's trained network as a file that others read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bpx.system.interrupts import end_without_traceback

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process, run_words
from bpx.cli.words import split_words
from bpx.engine.model_files import load_model
from bpx.stored.lookup import find_directory
from bpx.system.errors import UserError

HELP = """
RUN is a run's directory, any that holds model.json and model.npz, or the id of a run in MLflow that ran here.
format=onnx         model.onnx: numbers as they are in the data in, probabilities or targets out
format=torch        model.pt2: the same for torch.export.load, without bpx
format=safetensors  model.safetensors: the named tensors
out=FILE            where it is written; by default beside the model
allow=[MODULE,...]  modules other than bpx that the model may import, for parts of your own"""


def main(words: Sequence[str] | None = None) -> int:
    """Export the model of the run named on the command line."""
    return run_words(export_run, words, f"{__doc__}\n{HELP}")


def export_run(words: Sequence[str]) -> None:
    """Write the exported file and print its path; raises UserError."""
    runs, settings = split_words("bpx.export", words, ("format", "out", "allow"))
    if len(runs) != 1 or "format" not in settings:
        got = " ".join(words) or "nothing"
        keys = "RUN format=onnx|torch|safetensors [out=FILE] [allow=[MODULE,...]]"
        raise UserError(f"python -m bpx.export: expected {keys}, got {got}")
    try:
        from bpx.torch.export import FORMATS, export
    except ImportError as error:
        raise UserError(f"python -m bpx.export needs the extra export: pip install 'bpx[export]' ({error})") from error
    form = settings["format"]
    if form not in FORMATS:
        raise UserError(f"format: expected {', '.join(FORMATS)}, got {form!r}")
    allow = [module.strip() for module in settings.get("allow", "").strip("[]").split(",")]
    directory = find_directory(runs[0]) or Path(runs[0])
    path = Path(settings.get("out") or directory / FORMATS[form])
    try:
        export(load_model(directory, allow), form, path)
    except ImportError as error:
        raise UserError(f"format={form} needs the extra export: pip install 'bpx[export]' ({error})") from error
    except (ValueError, OSError) as error:
        raise UserError(re.sub(r'allow=\("(.+)",\)', r"allow=[\1]", str(error))) from error
    print(f"exported  {path}")


if __name__ == "__main__":
    exit_process(main())
