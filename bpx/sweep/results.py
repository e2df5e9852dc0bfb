"""The results of a search: table of trials, figures, and the best trial on the parent run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial

from bpx.cli.command import terminal
from bpx.config.plan import EXAMPLE, Plan
from bpx.records import Outcome
from bpx.sweep.options import Options
from bpx.sweep.progress import line, short
from bpx.sweep.study import COUNTED, RESULT, RUN, SPREAD, SweepStudy, outcome_of
from bpx.system.files import Json, replaced, write_csv, write_json
from bpx.system.run_files import FIGURES, PROVENANCE, STUDY, TRIALS
from bpx.tracking import Tracker

SHOWN = 10  # trials of a Pareto front that the terminal shows


class Results:
    """Write the results of a search to its directory and its run in MLflow."""

    def __init__(self, study: SweepStudy, options: Options, tracker: Tracker, home: Path, sample: Plan) -> None:
        self.study, self.options, self.tracker, self.home, self.sample = study, options, tracker, home, sample

    def step(self) -> None:
        """Log the number of trials and the best value on the parent run."""
        ended = self.study.counts()
        counts = {f"trials/{how}": float(ended[how]) for how in COUNTED}
        best = self.study.best()
        values = {
            f"best/{name}": (min if direction == "minimize" else max)(trial.values[i] for trial in best)
            for i, (name, direction) in enumerate(zip(self.options.objectives, self.options.directions, strict=True))
            if best
        }
        self.tracker.log(int(sum(counts.values())), 0.0, counts | values)

    def close(self) -> float | None:
        """Write the table, draw the figures, log the best trial on the parent, and return its value.

        One worker at a time, for two processes that set the same tag at once fail; of several that come to the
        end together, one draws.
        """
        best = self.study.best()
        with self.study.store.exclusively():
            self._write()
            if self.study.first_to_close() and not self.study.without_value():
                self._draw()
                for trial in best[:1]:
                    self._tag_best(trial)
                self._write_best(best)
            self._leave(Outcome.FINISHED)
        self._report(best)
        return best[0].values[0] if best else None

    def abandon(self, how: Outcome) -> None:
        """Write the results so far, and end the runs in MLflow."""
        with self.study.store.exclusively():
            self.end_orphans()
            self._write()
            self._leave(how)

    def _leave(self, how: Outcome) -> None:
        """End the parent run, unless other processes still work on the study."""
        if self.study.counts()[Outcome.RUNNING]:
            self.tracker.detach()
        else:
            self.tracker.finish(how)

    def end_orphans(self) -> None:
        """End the runs still RUNNING in MLflow whose trials have ended."""
        trials = self.study.trials()
        for child in self.tracker.children(running=True):
            number = int(child.tags.get("bpx.trial", len(trials)))
            how = outcome_of(trials[number]) if number < len(trials) else Outcome.RUNNING
            if how != Outcome.RUNNING:
                self.tracker.end(child, Outcome.INTERRUPTED if how == Outcome.LOST else how)

    def _write(self) -> None:
        """Write trials.csv, a row for each trial that has ended, and study.json."""
        rows = [row(trial) for trial in self.study.trials() if trial.state.is_finished()]
        write_csv(self.home / TRIALS, rows)
        about = {
            "name": self.study.study.study_name,
            "objective": self.options.objectives,
            "direction": self.options.directions,
            "space": self.study.space.described(),
            "dataset": next((r["dataset"] for r in rows if r["dataset"]), ""),
            "depth_scale": self._depth_scale(rows),
        }
        write_json(self.home / STUDY, about)

    def _write_best(self, best: list[FrozenTrial]) -> None:
        """Write optimization_results.yaml, with the keys that Hydra's own Optuna sweeper gives it."""
        found: Json = {"name": "optuna"}
        if len(self.options.objectives) == 1:
            found |= {"best_params": best[0].params, "best_value": best[0].value} if best else {}
        else:
            found["solutions"] = [{"params": trial.params, "values": trial.values} for trial in best]
        with replaced(self.home / "optimization_results.yaml") as file:
            file.write(OmegaConf.to_yaml(OmegaConf.create(found)).encode())

    def _depth_scale(self, rows: list[Json]) -> dict[str, list[float]]:
        """Return theory's xi_c over the searched sigma_w, for plain networks."""
        from bpx.theory import mean_field

        widths = [r["initializer.sigma_w"] for r in rows if isinstance(r.get("initializer.sigma_w"), float)]
        spec = self.sample.network(*EXAMPLE).spec
        plain = spec is not None and spec.normalization is None and spec.model == "mlp"
        searched = any(key.partition(".")[0] == "activation" for key in self.study.space.described())
        if len(set(widths)) < 2 or spec is None or not plain or searched:
            return {}
        bias = float(self.sample.config.initializer.bias_std)
        grid = np.linspace(min(widths), max(widths), 61).tolist()
        scales = [mean_field(spec.activation, w, bias).xi_c for w in grid]
        kept = [(w, xi) for w, xi in zip(grid, scales, strict=True) if xi is not None]
        return {"sigma_w": [w for w, _ in kept], "xi_c": [xi for _, xi in kept]}

    def _draw(self) -> None:
        from bpx.figures.sweep import draw_sweep
        from bpx.reports.write import write_sweep_report
        from bpx.sweep.plots import draw_plots

        folder = self.home / FIGURES
        folder.mkdir(exist_ok=True)
        failed: dict[str, str] = {}
        draw_sweep(self.home, folder, failed)
        draw_plots(self.study.study, self.options, folder, failed)
        for name, error in failed.items():
            terminal().print(f"note      figure {name} could not be drawn: {error}")
        if failed:
            self.tracker.tag("bpx.figures_failed", ", ".join(failed))
        if any(folder.iterdir()):
            self.tracker.artifact(folder, FIGURES)
        else:
            folder.rmdir()  # nothing has finished
        for name in (TRIALS, STUDY, PROVENANCE):
            self.tracker.artifact(self.home / name)
        self.tracker.artifact(write_sweep_report(self.home))

    def _tag_best(self, trial: FrozenTrial) -> None:
        metrics = trial.user_attrs[RESULT]["metrics"]
        counts = self.study.counts()
        done = sum(counts[how] for how in COUNTED)
        spread = {f"std/{name}": value for name, value in trial.user_attrs.get(SPREAD, {}).items()}
        best = {name: value for name, value in metrics.items() if name != "lr"}  # the tag best.optimizer.lr has it
        self.tracker.log(done, 0.0, {f"best/{name}": value for name, value in (best | spread).items()})
        for key, value in trial.params.items():
            self.tracker.tag(f"best.{key}", str(value))
        run_id = trial.user_attrs.get(RUN, {}).get("run_id")
        self.tracker.tag("best.trial", str(trial.number))
        if run_id:
            self.tracker.tag("best.run_id", run_id)
        params = "\n".join(f"| {key} | {short(value)} |" for key, value in trial.params.items())
        values = ", ".join(f"{name} {short(v)}" for name, v in zip(self.options.objectives, trial.values, strict=True))
        which = "Best trial" if len(self.options.objectives) == 1 else "A trial of the Pareto front"
        note = f"{which}: **{trial.number}**, {values}.\n\n| key | value |\n|---|---|\n{params}\n"
        self.tracker.tag("mlflow.note.content", note)

    def _report(self, best: list[FrozenTrial]) -> None:
        out = terminal()
        counts = self.study.counts()
        out.print(f"trials    {', '.join(f'{counts[how]} {how}' for how in COUNTED if counts[how])}")
        for i, trial in enumerate(best[:SHOWN]):
            title = "best" if len(best) == 1 else "front" if i == 0 else ""
            out.print(f"{title:<9} {line(trial, self.options)}", soft_wrap=True)
        if len(best) > SHOWN:
            out.print(f"          and {len(best) - SHOWN} more on the Pareto front, in trials.csv")
        if (self.home / FIGURES).exists():
            out.print(f"figures   {self.home / 'figures'}", soft_wrap=True)
        out.print(f"record    {self.home}", soft_wrap=True)
        for text in self.tracker.directions:
            out.print(text, soft_wrap=True)


def row(trial: FrozenTrial) -> Json:
    """Return a trial as a row of trials.csv: outcome, parameters, last metrics."""
    result, where = trial.user_attrs.get(RESULT, {}), trial.user_attrs.get(RUN, {})
    return {
        "trial": trial.number,
        "outcome": outcome_of(trial),
        "verdict_final": result.get("verdict_final", ""),
        "dataset": where.get("dataset", ""),
        "run_id": where.get("run_id") or "",
        "directory": where.get("directory", ""),
        "error": result.get("error", ""),
        **trial.params,
        **result.get("metrics", {}),
        **{f"std/{name}": value for name, value in trial.user_attrs.get(SPREAD, {}).items()},
    }
