"""Optuna's own plots of a study, restyled."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import cast

import matplotlib
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.text import Text
from optuna.distributions import CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from bpx.engine.arrays import Array, Values
from bpx.figures.canvas import noting_failure, shortened
from bpx.records import Outcome
from bpx.sweep.options import Options
from bpx.sweep.study import outcome_of
from bpx.sweep.style import restyle

DPI = 110
CONTOUR = ("optimizer.lr", "model.depth")  # the pair whose contour is drawn, where both are searched
SLICE_INCHES, CATEGORY_INCHES, AXIS_INCHES = 3.2, 0.24, 2.2  # the least width of a slice, a category, a gap of axes
MAX_CHOICE = 60  # characters
MAX_HORIZONTAL = 24  # characters of all categories of a panel; longer ones are turned upright


def draw_plots(study: optuna.Study, options: Options, folder: Path, failed: dict[str, str] | None = None) -> list[Path]:
    """Draw history, importances, parallel coordinates, slices and contour; of several objectives the Pareto front.

    A plot that Optuna cannot make of these trials (two are too few for importances) is left out, and all where no
    trial has finished. ``failed`` takes the error of each that cannot be drawn, in one line; without it the error is
    raised.
    """
    drawn: list[Path] = []
    plain = _plain(study)
    if not any(trial.state == TrialState.COMPLETE for trial in plain.trials):
        return drawn
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    from matplotlib import pyplot

    try:
        best = plain.best_trial if len(options.objectives) == 1 else None
        minimize, searched = options.directions[0] == "minimize", _searched(plain)
        for name, draw in _plots(plain, _plain(study, worst=True), options):
            path = folder / f"optuna_{name}.png"
            with warnings.catch_warnings(), matplotlib.rc_context():  # Optuna sets a style for the whole process
                warnings.simplefilter("ignore")
                try:
                    axes = draw()
                except (ValueError, RuntimeError) as error:
                    logging.getLogger("bpx").info("%s: %s", name, error)
                    continue
                first: Axes = axes.flat[0] if isinstance(axes, np.ndarray) else axes
                figure = cast(Figure, first.figure)
                with noting_failure(failed, path.stem):
                    restyle(figure, name, best, minimize, searched)
                    _arrange(figure, name)
                    figure.savefig(path, dpi=DPI, bbox_inches="tight")
                    drawn.append(path)
    finally:
        pyplot.close("all")
        matplotlib.use(before)
    return drawn


def _arrange(figure: Figure, name: str) -> None:
    """Arrange the labels of a figure, drawn literally: ``$`` does not start a formula."""
    _literal(figure)
    for part, arrange in (("slices", _arrange_slices), ("parallel", _arrange_parallel)):
        if name.startswith(part):
            arrange(figure)
    _literal(figure)


def _literal(figure: Figure) -> None:
    """Draw all text literally, except powers of ten on logarithmic axes."""
    both = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) if axis.get_scale() == "log"]
    powers = {label for axis in both for label in axis.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        text.set_parse_math(text in powers)


def _plots(
    study: optuna.Study, with_diverged: optuna.Study, options: Options
) -> Iterator[tuple[str, Callable[[], Axes | Array]]]:
    from optuna.visualization import matplotlib as draw

    one = len(options.objectives) == 1
    if not one:
        yield "pareto_front", lambda: draw.plot_pareto_front(study, target_names=options.objectives)
    for i, name in enumerate(options.objectives):
        suffix = "" if one else f"_{name.replace('/', '_')}"
        keywords = {"target_name": name} if one else {"target_name": name, "target": _value(i)}
        yield f"history{suffix}", partial(draw.plot_optimization_history, study, **keywords)
        keys = dict.fromkeys(key for trial in study.trials for key in trial.params if key != "seed")
        yield f"importances{suffix}", partial(draw.plot_param_importances, study, params=list(keys), **keywords)
        yield f"parallel{suffix}", partial(draw.plot_parallel_coordinate, study, **keywords)
        yield f"slices{suffix}", partial(draw.plot_slice, study, **keywords)
        if set(CONTOUR) <= {key for trial in study.trials for key in trial.params}:
            yield f"contour{suffix}", partial(draw.plot_contour, with_diverged, params=list(CONTOUR), **keywords)


def _arrange_slices(figure: Figure) -> None:
    """Widen the axes of categories, and rotate their labels if they do not fit side by side."""
    *panels, _ = figure.axes  # the last is the colour bar
    most = 0
    for axes in panels:
        if isinstance(axes.xaxis.get_major_formatter(), StrCategoryFormatter):
            words = [shortened(label.get_text().strip("'\"")) for label in axes.get_xticklabels()]
            most = max(most, len(words))
            upright = len("".join(words)) > MAX_HORIZONTAL
            axes.set_xticks(range(len(words)), words, rotation=90 if upright else 0)
    figure.set_figwidth(1.6 + len(panels) * max(SLICE_INCHES, CATEGORY_INCHES * most))


def _arrange_parallel(figure: Figure) -> None:
    """Space the axes, put their labels on white, and the colour bar to the right of the last labels."""
    first, bar, *others = figure.axes
    figure.set_figwidth(max(figure.get_figwidth(), AXIS_INCHES * len(others) / first.get_position().width))
    for label in first.get_xticklabels():
        label.set(ha="left", rotation_mode="anchor")
    for axes in others:
        axes.grid(False)
        for label in axes.get_yticklabels(which="both"):
            label.set_bbox({"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5})
    if others:
        figure.draw_without_rendering()
        edge = max(box.x1 for axes in others if (box := axes.get_tightbbox())) / figure.bbox.width
        box = bar.get_position()
        bar.set_position((edge + 0.03, box.y0, box.width, box.height))


def _searched(study: optuna.Study) -> dict[str, Values]:
    """Return the values of each numeric searched key in the finished trials."""
    found: dict[str, list[float]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        for key, value in trial.params.items():
            number = not isinstance(trial.distributions[key], CategoricalDistribution)
            found.setdefault(key, []).extend([value] if number else [])
    return {key: np.array(values, float) for key, values in found.items()}


def _value(i: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[i])


def _plain(study: optuna.Study, worst: bool = False) -> optuna.Study:
    """Return a copy in memory of the ended trials, without the substitute values of diverged ones.

    With ``worst`` a diverged trial has the worst value of those that have finished.
    """
    copy = optuna.create_study(directions=study.directions)
    trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
    finished = [t for t in trials if t.state == TrialState.COMPLETE and outcome_of(t) != Outcome.DIVERGED]
    for trial in trials:
        diverged = outcome_of(trial) == Outcome.DIVERGED
        if diverged and worst and finished:
            new = _cut(trial)
            new.state, new.values = TrialState.COMPLETE, [
                (max if direction == StudyDirection.MINIMIZE else min)(t.values[i] for t in finished)
                for i, direction in enumerate(study.directions)
            ]  # fmt: skip
            copy.add_trial(new)
        elif not (diverged and trial.state == TrialState.COMPLETE):
            copy.add_trial(_cut(trial))
    return copy


def _cut(trial: FrozenTrial) -> FrozenTrial:
    """Return a copy of a trial with choices cut to the length of a label."""
    new = deepcopy(trial)
    for key, d in trial.distributions.items():
        if isinstance(d, CategoricalDistribution) and any(len(str(c)) > MAX_CHOICE for c in d.choices):
            labels = [shortened(f"{i} {c}") for i, c in enumerate(d.choices)]
            new.distributions[key] = CategoricalDistribution(labels)
            new.params[key] = labels[d.choices.index(trial.params[key])]
    return new
