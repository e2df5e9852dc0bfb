"""All studies, two at a time, and the page that shows them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from bpx.runs.study import StudyResult

FOLDER = Path(__file__).resolve().parent
PICTURES = FOLDER.parent / "docs" / "gallery"
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
    "pascanu_2013",
)
AT_ONCE = 2


def make(name: str, words: Sequence[str]) -> StudyResult:
    """Make one study."""
    told: StudyResult = import_module(f"experiments.{name}").run(words)
    return told


def make_all(words: Sequence[str]) -> None:
    """Make all studies and, unless they are quick, the gallery."""
    started = time.perf_counter()
    told: dict[str, StudyResult] = {}
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = [pool.submit(make, name, words) for name in (*DEMONSTRATIONS, *CLASSICS)]
        for future in as_completed(waiting):
            one = future.result()
            told[one.name] = one
            print(f"{one.name:22s} {one.seconds:6.1f} s  {one.figure}", flush=True)
    print(f"all studies in {time.perf_counter() - started:.0f} s")
    if "--quick" not in words:
        write(told)
        print(f"gallery   {FOLDER / 'README.md'}")


def write(told: dict[str, StudyResult]) -> None:
    """Write the pictures and the page that shows them with question, finding and command."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    lines = [
        "# The studies",
        "",
        "Each is one command, one figure, one finding; `seeds=N` repeats it more or less often, `--quick` is for a",
        "first look. This page and its pictures are what `python -m experiments` makes of all of them.",
    ]
    for title, names in (("The demonstrations", DEMONSTRATIONS), ("Classic results", CLASSICS)):
        lines += ["", f"## {title}"]
        for one in (told[name] for name in names):
            shutil.copy(one.figure, PICTURES / one.figure.name)
            lines += ["", f"### {one.question}", "", f"![{one.name}](../docs/gallery/{one.figure.name})", "",
                      one.finding, "", "```", f"python -m experiments.{one.name}", "```"]  # fmt: skip
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
