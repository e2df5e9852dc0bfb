"""Terminal output of a run: progress while training, a table at the end."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bpx.cli.command import terminal
from bpx.data import Dataset
from bpx.diagnosis import Finding
from bpx.engine.arrays import Values
from bpx.engine.network import Network
from bpx.probes.scales import QUANTITIES
from bpx.runs.measurement import Measurement
from bpx.system.run_files import FIGURES
from bpx.system.text import counted
from bpx.theory import Verdict
from bpx.tracking import Tracker
from bpx.training import Record

DELTA = "(delta, δ = ∂J/∂z: how the cost changes with a layer's sum z = aW + b)"  # where it first stands
WIDE = 110  # columns, from which on the norms of the gradient stand beside the costs
LINES = 20  # at most about so many lines where there is no terminal


class Console:
    """Print a run: a progress bar in a terminal, periodic lines elsewhere, neither if ``progress`` is false.

    ``quiet`` suppresses the final report as well.
    """

    def __init__(self, progress: bool, steps: int, steps_per_epoch: int, net: Network, quiet: bool = False) -> None:
        self.terminal = terminal(quiet)
        self.steps, self.steps_per_epoch, self.net = steps, steps_per_epoch, net
        self.live = progress and self.terminal.is_terminal
        self.lines = progress and not self.terminal.is_terminal
        self.next_line = 0
        self.norms = ""
        self.latest: dict[str, float] = {}
        columns = [
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24 if self.terminal.width >= WIDE else 12),
            TextColumn("{task.fields[state]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
        ]
        self.bar = Progress(*columns, console=self.terminal, disable=not self.live, transient=False)
        self.task = self.bar.add_task("epoch 0", total=steps, state="")

    def warn(self, data: Dataset) -> None:
        """Print a warning if the data are a fallback, not the data asked for."""
        if data.fallback:
            text = f"The requested data cannot be loaded. This run uses {data.name}: {data.source}."
            self.terminal.print(Panel(text, title="NOT THE DATA ASKED FOR", style="bold red", expand=False))

    def data(self, text: str) -> None:
        """Print how the data were read."""
        self.terminal.print(f"data      {text}")

    def note(self, text: str) -> None:
        """Print a note that is not part of the results."""
        self.terminal.print(f"note      {text}")

    def found(self, finding: Finding) -> None:
        """Print the finding at initialization."""
        style = {Verdict.HEALTHY: "green", Verdict.UNDETERMINED: "default"}.get(finding.verdict, "bold red")
        self.terminal.print(f"at initialization: {finding}", style=style)
        self.terminal.print(f"          {DELTA}", style="dim")

    def recall(self, metrics: dict[str, float], scales: Values | None) -> None:
        """Restore the last metrics and scales (layers, quantities) of a resumed run."""
        self.latest |= metrics
        if scales is not None:
            self._show_norms(scales)

    def show(self, record: Record, metrics: dict[str, float]) -> None:
        """Show a record."""
        self.latest |= metrics
        for reading in record.measured:
            if reading.probe == "scales":
                self._show_norms(reading.values.reshape(-1, len(QUANTITIES)))
        if not (self.live or self.lines):
            return
        state = self._state()
        epochs = f"{self.steps / self.steps_per_epoch:g}"
        if self.live:
            self.bar.update(
                self.task,
                completed=record.step,
                description=f"epoch {record.epoch:.1f}/{epochs}",
                state=state,
            )
        elif record.step >= self.next_line and not record.measured:
            self.next_line = record.step + self.steps // LINES
            self.terminal.print(f"epoch {record.epoch:.3g}/{epochs}  {state}")

    def _show_norms(self, scales: Values) -> None:
        norms = scales[:, QUANTITIES.index("grad_norm")]
        self.norms = f"|∂J/∂W| of layer 1 {norms[0]:.1e}, of {len(norms)} {norms[-1]:.1e}"

    def _state(self) -> str:
        names = {"cost/train": "cost", "cost/val": "val", "accuracy/val": "accuracy"}
        known = {name: self.latest[key] for key, name in names.items() if key in self.latest}
        parts = [f"{name} {_cost(value)}" for name, value in known.items()]
        return "  ".join([*parts, self.norms] if self.terminal.width >= WIDE else parts)

    def report(
        self,
        data: Dataset,
        final: dict[str, float],
        measurement: Measurement,
        directory: Path,
        tracker: Tracker,
        diverged: str,
    ) -> None:
        """Print the table of layers, the results, and the paths and commands to inspect the run."""
        if self.terminal.quiet:
            return  # to make the table takes as long as to print it
        out = self.terminal.print
        if measurement.first is not None and measurement.last is not None:
            out(self._table(measurement.first, measurement.last))
        if data.fallback:
            out(f"These are NOT the results of the data asked for: {data.name}", style="bold red")
        out(f"dataset   {data.name}, {len(data.x_train):,} training and {counted(len(data.x_test), 'test sample')}")
        if measurement.finding is not None:
            out(f"finding   {' '.join(measurement.sentences)}", style="bold")
        if diverged:
            out(f"diverged: {diverged}", style="bold red")
        for key, label in (("accuracy/test", "test"), ("accuracy/train", "train")):
            if key in final:
                out(f"accuracy  {label} {100 * final[key]:.2f} %")
        for key in ("test", "train"):
            if f"rmse/{key}" in final:
                r2 = f", R² {final[f'r2/{key}']:.4f}" if f"r2/{key}" in final else ""
                out(f"fit       {key} RMSE {final[f'rmse/{key}']:.6g}{r2}")
        if "cost/test" in final:
            out(f"cost      test {_cost(final['cost/test'])}")
        out(f"training  {final['time/train_seconds']:.1f} s")
        if (directory / FIGURES).exists():
            out(f"figures   {directory / 'figures'}", soft_wrap=True)
        out(f"record    {directory}", soft_wrap=True)
        if tracker.unsent:
            out(f"not sent  {tracker.unsent}; what is left waits in {directory}", style="bold red")
            out(f"send      python -m bpx.sync {shlex.quote(str(directory))}", soft_wrap=True)
        for line in tracker.directions:
            out(line, soft_wrap=True)  # a line break would cut the link that is to be clicked

    def _table(self, first: Values, last: Values) -> Table:
        table = Table(title="layers", title_justify="left")
        measured = ("|∂J/∂W|\nat start", "|∂J/∂W|\nat end", "|δ|\nat start", "|ΔW|/|W|\nat end")
        for column in ("layer", "shape", *measured):
            table.add_column(column, justify="left" if column == "layer" else "right")
        index = {name: i for i, name in enumerate(QUANTITIES)}
        rows = zip(self.net.dense, first, last, strict=True)
        for i, (dense, start, end) in enumerate(rows, 1):
            table.add_row(
                f"layer_{i:02d}",
                f"{dense.n_in} x {dense.n_out}",
                f"{start[index['grad_norm']]:.2e}",
                f"{end[index['grad_norm']]:.2e}",
                f"{start[index['delta_l2']]:.2e}",
                f"{end[index['update_ratio']]:.2e}",
            )
        return table


def _cost(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"
