"""python -m bpx.compare RUN RUN ...: runs side by side: one figure, keys that differ, findings, last metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bpx.system.interrupts import end_without_traceback
from bpx.system.run_files import OUTPUTS

if __name__ == "__main__":
    end_without_traceback()  # the imports below take a second

from bpx.cli.command import exit_process, run_words, terminal
from bpx.cli.words import format_word, split_words
from bpx.stored.groups import Group, group_runs, metrics_table
from bpx.stored.lookup import StoredRun, differences, find_runs
from bpx.stored.provenance import provenance_differences
from bpx.system.errors import UserError
from bpx.system.files import unique_name

FOLDER = OUTPUTS / "compare"
KEYS = ("labels", "out", "format")
HELP = """
RUN is a run directory; a trial's, a study's or an experiment's directory, which means all runs in it; the id of a run
in MLflow; or a search in MLflow, such as "params.activation = 'tanh' and metrics.`accuracy/test` > 0.9".
Runs that differ in the seed alone are one group: their median and a band are drawn.

labels=A,B      what the groups are called, in their order
out=PATH        the figure's file, or the folder that it is put into (outputs/compare)
format=pdf      png, pdf or svg"""


def main(words: Sequence[str] | None = None) -> int:
    """Compare the runs named on the command line."""
    return run_words(compare, words, f"{__doc__}\n{HELP}")


def compare(words: Sequence[str]) -> None:
    """Print a comparison of runs and save its figure; raises UserError."""
    names, keys = split_words("bpx.compare", words, KEYS)
    path = picture_path(keys)
    runs: list[StoredRun] = []
    for name in names:
        for run in find_runs(name):
            if run.name in (other.name for other in runs):  # the name holds the run's id
                raise UserError(f"python -m bpx.compare: {name} is given twice; give different runs")
            runs.append(run)
    if len(runs) < 2:
        raise UserError(f"python -m bpx.compare takes two runs or more, got {len(runs)}: --help says what a run may be")
    groups = group_runs(runs, keys["labels"].strip("[]").split(",") if "labels" in keys else ())
    report(groups)
    if any("delta_l2" in run.records.quantities for run in runs if run.records is not None):
        from bpx.reports.write import write_comparison_report

        print(f"figure    {draw(groups, path)}")
        print(f"report    {write_comparison_report(groups, path, path.with_suffix('.html'))}")
    else:
        print("no figure: none of these runs has measured delta")


def picture_path(keys: dict[str, str]) -> Path:
    """Return the path of the figure from ``out=`` and ``format=``; raises UserError if they contradict each other."""
    suffix = format_word("bpx.compare", keys, "out")
    out = Path(keys.get("out", FOLDER))
    if out.suffix:
        return out
    return out / f"{unique_name()}.{suffix}"


def report(groups: Sequence[Group]) -> None:
    """Print names, outcomes and findings, and the tables of differing keys and last metrics."""
    from rich.table import Table

    out = terminal()
    for group in groups:
        for run in group.runs:
            verdict = f", final verdict {run.verdict_final}" if run.verdict_final else ""
            out.print(f"{group.label}: {run.name} ({run.outcome}{verdict})", style="bold", markup=False)
        out.print(f"          {group.runs[0].finding or 'no finding'}", markup=False)
    seeds = max(len(group.runs) for group in groups)
    different = differences([group.runs[0] for group in groups])
    if seeds > 1:
        different.pop("seed", None)
    metrics = {name: row for name, row in metrics_table(groups).items() if name != "lr"}
    rows = {
        "keys that differ": different,
        "provenance that differs": provenance_differences([group.runs[0].provenance for group in groups]),
        f"last metrics{', median ± standard deviation over seeds' if seeds > 1 else ''}": metrics,
    }
    for title, row in rows.items():
        if not row:
            out.print(f"{title}: none")
            continue
        table = Table(title=title, title_justify="left")
        table.add_column("")
        for group in groups:
            table.add_column(group.label, justify="right")
        for key, values in row.items():
            table.add_row(key, *values)
        out.print(table)


def draw(groups: Sequence[Group], path: Path) -> Path:
    """Draw the groups in common axes and return the path of the figure."""
    from bpx.figures.canvas import save
    from bpx.figures.comparison import Compared, comparison

    path.parent.mkdir(parents=True, exist_ok=True)
    compared = [
        Compared(group.label, [run.records for run in group.runs if run.records], [run.series for run in group.runs])
        for group in groups
    ]
    return save(comparison(compared), path)


if __name__ == "__main__":
    exit_process(main())
