"""All studies, two at a time, and the page that shows them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from bpx.runs.study import StudyCommand
from bpx.stored.study_data import StudyResult
from bpx.system.errors import UserError
from bpx.system.run_files import STUDY

FOLDER = Path(__file__).resolve().parent
GALLERY = FOLDER.parent / "docs" / "gallery"
DEMONSTRATIONS = (
    "verdicts",
    "classification",
    "gradients_by_hand",
    "gradient_check",
    "vanishing_gradients",
    "exploding_gradients",
    "batch_normalization",
    "dropout",
    "mnist_1k",
    "remedies",
    "local_minima",
    "torch_defaults",
)
CLASSICS = (
    "glorot_2010",
    "he_2015",
    "pennington_2017",
    "poole_2016",
    "schoenholz_2017",
    "ioffe_2015",
    "yang_2019",
    "nielsen_2015",
    "srivastava_2014",
    "bengio_1994",
    "pascanu_2013",
    "hochreiter_1997",
    "gers_2000",
    "le_2015",
    "xiao_2018",
    "de_2020",
    "xiong_2020",
    "yang_2021",
    "cohen_2021",
    "brock_2021",
    "balduzzi_2017",
)
STUDIES = (*DEMONSTRATIONS, *CLASSICS)
AT_ONCE = 2


def make(name: str, words: Sequence[str]) -> tuple[StudyResult, float]:
    """Make one study, or with ``--draw`` redraw it from the gallery's data; return it and the seconds that it took."""
    started = time.perf_counter()
    command: StudyCommand = import_module(f"experiments.{name}").run
    told = command.redraw(*published(name)) if "--draw" in words else command(words)
    return told, time.perf_counter() - started


def make_all(words: Sequence[str]) -> None:
    """Make all studies, or those that are named, and, unless they are quick, the gallery of all."""
    names = [word for word in words if word in STUDIES] or STUDIES
    rest = [word for word in words if word not in STUDIES]
    if "--draw" in rest and len(rest) > 1:
        raise UserError(f"--draw takes names of studies alone, got {' '.join(w for w in rest if w != '--draw')}")
    started = time.perf_counter()
    tasks = None if "--draw" in rest else 1  # of a process: what a study has imported and loaded goes with it
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn"), max_tasks_per_child=tasks) as pool:
        waiting = [pool.submit(make, name, rest) for name in names]
        for future in as_completed(waiting):
            told, seconds = future.result()
            print(f"{told.name:22s} {seconds:6.1f} s  {told.figure}", flush=True)
            if "--quick" not in rest and "--draw" not in rest:
                data, figure = published(told.name)
                shutil.copy(told.figure, figure)
                shutil.copy(told.figure.with_name(STUDY), data)
    print(f"{len(names)} studies in {time.perf_counter() - started:.0f} s")
    if "--quick" not in rest:
        write()
        print(f"gallery   {FOLDER / 'README.md'}")


def published(name: str) -> tuple[Path, Path]:
    """Return the paths of a study's data and figure in the gallery."""
    return GALLERY / f"{name}.json", GALLERY / f"{name}.png"


def write() -> None:
    """Write the page that shows the gallery's pictures with question, finding and command."""
    lines = [
        "# The studies",
        "",
        "Each is one command, one figure, one finding; `seeds=N` repeats it more or less often, `--quick` is for a",
        "first look. This page, its pictures and their data are what `python -m experiments` makes of all of them;",
        "`python -m experiments --draw` draws and words the data again, without training.",
    ]
    for title, names in (("The demonstrations", DEMONSTRATIONS), ("Classic results", CLASSICS)):
        lines += ["", f"## {title}"]
        for one in (StudyResult.read(*published(name)) for name in names):
            lines += ["", f"### {one.question}", "", f"![{one.name}](../docs/gallery/{one.figure.name})", "",
                      one.finding, "", "```", f"python -m experiments.{one.name}", "```"]  # fmt: skip
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
