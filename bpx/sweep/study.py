"""A study in Optuna's storage: opened or continued, its trials asked for and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState

from bpx.config import UserError
from bpx.records import Outcome
from bpx.stored.keys import Use, uses
from bpx.sweep.library import id_of
from bpx.sweep.options import Options
from bpx.sweep.space import Space
from bpx.sweep.storage import WORKER, Store, queue_again
from bpx.system.files import Json

RUN, RESULT = "bpx.run", "bpx.result"  # a trial's attributes: where it runs, how it ended
SPREAD, SEEDS = "bpx.spread", "bpx.seeds"  # with repeats: the objectives' standard deviations; each seed's outcome
SAME_AS = "bpx.same_as"  # the number of the earlier trial whose parameters and result it has
DEFINITION, PARENT, CLOSED = "bpx.definition", "bpx.parent", "bpx.closed"  # the study's: what it searches, its run
FAILURES = (Outcome.FAILED, Outcome.CRASHED)
WITHOUT_VALUE = (*FAILURES, Outcome.UNDEFINED)  # what an undefined trial asks for does not exist: it is no failure
COUNTED = (Outcome.FINISHED, Outcome.PRUNED, Outcome.DIVERGED, *WITHOUT_VALUE)  # what uses the budget and has ended


class SweepStudy:
    """Optuna's study with what bpx keeps in it."""

    def __init__(self, study: optuna.Study, store: Store, space: Space, budget: float, options: Options) -> None:
        self.study, self.store, self.space, self.budget, self.options = study, store, space, budget, options
        self._outcomes: list[Outcome] = []  # of every trial; those of the open ones may change
        self._open: list[int] = []

    @property
    def parent(self) -> str | None:
        """The id of the study's run in MLflow."""
        return self.study.user_attrs.get(PARENT)

    @parent.setter
    def parent(self, run_id: str) -> None:
        self.study.set_user_attr(PARENT, run_id)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states, all where none is named."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def counts(self) -> Counter[Outcome]:
        """Return the number of trials of each outcome; one that has ended is looked at once, however many there are."""
        trials = self.trials()
        fresh = range(len(self._outcomes), len(trials))
        self._outcomes += [Outcome.WAITING] * len(fresh)
        for number in (*self._open, *fresh):
            self._outcomes[number] = outcome_of(trials[number])
        self._open = [number for number in (*self._open, *fresh) if not trials[number].state.is_finished()]
        return Counter(self._outcomes)

    def used(self) -> int:
        """Return how much of the budget is used: lost and interrupted trials are queued again and do not count."""
        return sum(
            t.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING) or outcome_of(t) in WITHOUT_VALUE
            for t in self.trials()
        )

    def best(self) -> list[FrozenTrial]:
        """Return the best trial, of several objectives the Pareto front, nothing before a trial has finished."""
        if not any(outcome_of(t) == Outcome.FINISHED for t in self.trials(TrialState.COMPLETE)):
            return []
        if len(self.study.directions) == 1:
            return [self.study.best_trial]
        return [t for t in self.study.best_trials if outcome_of(t) == Outcome.FINISHED]

    def without_value(self) -> bool:
        """Return whether trials have ended, and none of them with a value or diverged."""
        ended = self.counts().keys() - {Outcome.RUNNING, Outcome.WAITING, Outcome.LOST, Outcome.INTERRUPTED}
        return bool(ended) and ended <= set(WITHOUT_VALUE)

    def first_to_close(self) -> bool:
        """Return whether no process has drawn the study as it stands now; call it exclusively."""
        ended = sum(t.state.is_finished() for t in self.trials())
        if self.study.user_attrs.get(CLOSED) == ended:
            return False
        self.study.set_user_attr(CLOSED, ended)
        return True

    def ask(self, most: int) -> list[optuna.Trial]:
        """Return new trials, no more than ``most`` and than the budget has left; none at all if it is used up.

        One process asks at a time: that keeps the budget, and two workers from the same point of a grid, and makes the
        next trial's number known.
        """
        with self.store.exclusively():
            trials = []
            for _ in range(int(min(most, self.budget - self.used()))):
                self.study.sampler = self.options.sampler_of(len(self.trials()))
                trial = self.study.ask(self.space.distributions)
                self.space.suggest(trial)
                self.store.beat([id_of(trial)])  # first: a worker without a heartbeat counts as dead
                trial.set_user_attr(WORKER, self.store.worker)
                trials.append(trial)
        return trials

    def repeat(self, trial: optuna.Trial) -> bool:
        """Tell the result of an earlier trial of the same parameters, if there is one: it would be the same again."""
        ended = self.trials(TrialState.COMPLETE, TrialState.PRUNED)
        equal = [t for t in ended if t.params == trial.params and t.number < trial.number and RESULT in t.user_attrs]
        if not equal:
            return False
        before = equal[0]
        for step, value in before.intermediate_values.items():
            trial.report(value, step)
        for key in (RESULT, RUN, SPREAD, SEEDS):
            if key in before.user_attrs:
                trial.set_user_attr(key, before.user_attrs[key])
        trial.set_user_attr(SAME_AS, before.user_attrs.get(SAME_AS, before.number))
        values = before.values if before.state == TrialState.COMPLETE else None
        self.store.storage.set_trial_state_values(id_of(trial), before.state, values)
        return True

    def under_way(self, trial: optuna.Trial) -> bool:
        """Return whether a trial has not been told its end."""
        return not self.store.storage.get_trial(id_of(trial)).state.is_finished()

    def fail(self, trial: optuna.Trial, how: Outcome, error: str = "") -> None:
        """Tell that a trial has crashed, or was interrupted and shall run again, unless it has told its end itself."""
        if not self.under_way(trial):
            return
        trial.set_user_attr(RESULT, {"outcome": how, "metrics": {}, "error": error})
        # not by tell: that asks the sampler, and a grid that is used up wants to stop a loop that is not there
        self.store.storage.set_trial_state_values(id_of(trial), TrialState.FAIL)
        if how == Outcome.INTERRUPTED:
            queue_again(self.study, self.store.storage.get_trial(id_of(trial)))


def outcome_of(trial: FrozenTrial) -> Outcome:
    """Return how a trial ended: finished, diverged, pruned, failed, crashed, interrupted or lost; else its state."""
    if not trial.state.is_finished():
        return Outcome(trial.state.name.lower())
    return Outcome(trial.user_attrs.get(RESULT, {}).get("outcome", Outcome.LOST))


def open_study(options: Options, name: str, space: Space, store: Store, config: Json) -> SweepStudy:
    """Create the study ``name`` or continue it; raises UserError where it was begun with something else."""
    budget = options.budget(space.size)
    pruner = options.make("pruner")
    if len(options.objectives) > 1:
        pruner = optuna.pruners.NopPruner()  # Optuna prunes by one objective only
    settings = {key: str(value) for key, value in config.items() if Use.STUDY in uses(key)}
    if options.repeats > 1:
        settings |= {f"hydra.sweeper.{key}": str(getattr(options, key)) for key in ("repeats", "aggregate")}
    definition = {
        "objective": dict(zip(options.objectives, options.directions, strict=True)),
        "config": settings | space.described(),
    }
    with store.exclusively():
        changed: list[str] = []
        if name in optuna.get_all_study_names(store.storage):
            before = optuna.load_study(study_name=name, storage=store.storage)
            changed = list(_changes(before.user_attrs.get(DEFINITION, definition), definition))
            if changed and _empty(before):
                optuna.delete_study(study_name=name, storage=store.storage)  # what has failed at once may be corrected
            elif changed:
                raise UserError(
                    f"the study {name} was begun {'; '.join(changed)}: "
                    "undo that, or give another hydra.sweeper.study_name"
                )
        study = optuna.create_study(
            storage=store.storage,
            study_name=name,
            pruner=pruner,
            directions=[optuna.study.StudyDirection[d.upper()] for d in options.directions],
            load_if_exists=True,
        )
        study.set_user_attr(DEFINITION, definition)
        study.set_metric_names(options.objectives)
        for params in options.enqueue:
            study.enqueue_trial(params, skip_if_exists=True)
    return SweepStudy(study, store, space, budget, options)


def _empty(study: optuna.Study) -> bool:
    """Return whether nothing would be lost with the study: no trial has come to an end or is under way."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return not study.get_trials(deepcopy=False, states=states)


def _changes(before: Json, now: Json) -> Iterable[str]:
    """Say how a study was begun where it differs from ``now``: with this, not that; with this; without it."""
    was, wanted = (
        " and ".join(f"{name} ({direction})" for name, direction in definition.get("objective", {}).items())
        for definition in (before, now)
    )
    if was != wanted:
        yield f"with objective {was}, not {wanted}"
    old, new = before.get("config", {}), now["config"]
    for key in sorted({*old, *new}):
        a, b = (None if value == "None" else value for value in (old.get(key), new.get(key)))
        if a != b:
            yield f"without {key}" if a is None else f"with {key}={a}" + (f", not {b}" if b is not None else "")
