"""The output files of a run: configuration, log, record, figures, model and result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import final

from omegaconf import DictConfig

from bpx.data import Dataset
from bpx.diagnosis import Finding
from bpx.diagnosis.training_state import FinalState
from bpx.engine.network import Network
from bpx.probes import NonFinite
from bpx.records import Outcome
from bpx.runs.log import RunLog
from bpx.stored.config import write_config, write_dataset
from bpx.system.errors import WriteError
from bpx.system.files import Json, naming, replaced, unique_name, write_json
from bpx.system.run_files import CONFIG, EVALUATION, FIGURES, LOG, NONFINITE, OVERRIDES, PROVENANCE, RECORD, RESULT
from bpx.system.text import masked
from bpx.tracking import Tracker
from bpx.training import save_evaluation

log = logging.getLogger("bpx")


@final
class Outputs:
    """Write the files of a run directory, and upload them through the tracker.

    Attributes
    ----------
    directory : Path
        The run directory.
    record : Path
        Path of the Parquet record.
    """

    def __init__(self, directory: Path, tracker: Tracker) -> None:
        self.directory, self.record, self._tracker = directory, directory / RECORD, tracker
        self._log: RunLog | None = None

    def begin(self, config: DictConfig, overrides: Sequence[str], data: Dataset) -> None:
        """Write the configuration, the overrides and the checksum of the data of a new run."""
        write_dataset(self.directory, data)
        self.write_config(config)
        with replaced(self.directory / OVERRIDES) as file:
            file.write("".join(f"- {masked(word)}\n" for word in overrides).encode())

    def write_config(self, config: DictConfig) -> None:
        """Write the configuration."""
        write_config(self.directory / CONFIG, config)

    def open_log(self) -> None:
        """Open ``train.log`` for appending."""
        self._log = RunLog(self.directory / LOG)
        log.setLevel(logging.INFO)
        log.addHandler(self._log)

    def close_log(self) -> None:
        """Close ``train.log``; an OSError names it. A second call does nothing."""
        if self._log is not None:
            handler, self._log = self._log, None
            log.removeHandler(handler)
            with naming(Path(handler.path)):
                handler.close()

    def write_nonfinite(self, event: NonFinite, frames: list[Json]) -> None:
        """Write the origin of the first non-finite value, and the steps before it."""
        path = self.directory / NONFINITE
        write_json(path, {"event": asdict(event), "frames": frames})
        self._tracker.artifact(path, "")

    def write_evaluation(self, net: Network, data: Dataset, metrics: dict[str, float]) -> None:
        """Write the arrays of the figures of the trained network."""
        save_evaluation(self.directory / EVALUATION, net, data, metrics.get("accuracy/test"))

    def draw_figures(self, net: Network) -> dict[str, str]:
        """Draw the figures; return the error message of each that failed, by name."""
        from bpx.figures import draw_all

        failed: dict[str, str] = {}
        modules = net.spec.own_modules if net.spec else ()
        draw_all(self.directory, failed, modules, self._tracker.figure_format)
        for name, error in failed.items():
            log.warning("figure %s could not be drawn: %s", name, error)
        if failed:
            self._tracker.tag("bpx.figures_failed", ", ".join(failed))
        self._tracker.artifact(self.directory / FIGURES, FIGURES)
        return failed

    def write_report(self, outcome: Outcome) -> str:
        """Write ``report.html`` from the files of the directory; return the error message, empty on success."""
        from bpx.figures.canvas import noting_failure
        from bpx.reports.write import write_run_report

        failed: dict[str, str] = {}
        with noting_failure(failed, "report"):
            self._tracker.artifact(write_run_report(self.directory, outcome), "")
        for error in failed.values():
            log.warning("the report could not be written: %s", error)
        return failed.get("report", "")

    def write_model(self, net: Network, data: Dataset) -> None:
        """Write the network with its scaler, so that it takes raw features."""
        from bpx.engine.model_files import save_model

        save_model(self.directory, net, data.scaler, data.class_names, data.columns, data.target_scaler)

    def upload(self) -> None:
        """Upload the files that every run has, whatever its outcome."""
        for name, folder in (("config", "config"), (PROVENANCE, ""), (LOG, ""), (RECORD, "")):
            self._tracker.artifact(self.directory / name, folder)

    def write_result(
        self,
        outcome: Outcome,
        stopped: str,
        data: Dataset,
        metrics: dict[str, float],
        finding: Finding | None,
        final: FinalState,
    ) -> None:
        """Write ``result.json``, the last file: the run has ended."""
        result = {
            "outcome": outcome,
            "stopped": stopped or None,
            "dataset": data.name,
            "sha256": data.sha256,
            "metrics": metrics,
            "finding": None if finding is None else finding.as_dict(),
            "final": final.as_dict(),
        }
        write_json(self.directory / RESULT, result)

    def remove_result(self) -> None:
        """Remove the result of a run that is resumed."""
        (self.directory / RESULT).unlink(missing_ok=True)


def run_directory(parent: Path) -> Path:
    """Make a new run directory under ``parent``, with a folder for the configuration; raises UserError."""
    path = parent / unique_name()
    try:
        path.mkdir(parents=True)
        (path / CONFIG.parent).mkdir()
    except OSError as error:
        raise WriteError(f"cannot write the run directory {path}: {error.strerror}") from error
    return path
