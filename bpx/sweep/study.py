"""A study in Optuna's storage: create or continue it, ask for trials, count them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import optuna
from optuna.trial import FrozenTrial, TrialState

from bpx.records import Outcome
from bpx.stored.keys import Use, uses
from bpx.sweep.library import id_of
from bpx.sweep.options import Options
from bpx.sweep.space import Space
from bpx.sweep.storage import WORKER, Store, queue_again
from bpx.system.errors import UserError
from bpx.system.files import Json

RUN, RESULT = "bpx.run", "bpx.result"  # a trial's attributes: where it runs, how it ended
SPREAD, SEEDS = "bpx.spread", "bpx.seeds"  # with repeats: the objectives' standard deviations; each seed's outcome
SAME_AS = "bpx.same_as"  # the number of the earlier trial whose parameters and result it has
DEFINITION, PARENT, CLOSED = "bpx.definition", "bpx.parent", "bpx.closed"  # the study's: what it searches, its run
FAILURES = (Outcome.FAILED, Outcome.CRASHED)
WITHOUT_VALUE = (*FAILURES, Outcome.UNDEFINED)  # what an undefined trial asks for does not exist: it is no failure
COUNTED = (Outcome.FINISHED, Outcome.PRUNED, Outcome.DIVERGED, *WITHOUT_VALUE)  # what uses the budget and has ended


class SweepStudy:
    """An Optuna study with the attributes that bpx stores in it."""

    def __init__(self, study: optuna.Study, store: Store, space: Space, budget: float, options: Options) -> None:
        self.study, self.store, self.space, self.budget, self.options = study, store, space, budget, options
        self._outcomes: list[Outcome] = []  # of every trial; those of the open ones may change
        self._open: list[int] = []

    @property
    def parent(self) -> str | None:
        """Id of the parent run in MLflow."""
        return self.study.user_attrs.get(PARENT)

    @parent.setter
    def parent(self, run_id: str) -> None:
        self.study.set_user_attr(PARENT, run_id)

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in the given states, by default all."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def counts(self) -> Counter[Outcome]:
        """Return the number of trials by outcome; ended trials are counted once and cached."""
        trials = self.trials()
        fresh = range(len(self._outcomes), len(trials))
        self._outcomes += [Outcome.WAITING] * len(fresh)
        for number in (*self._open, *fresh):
            self._outcomes[number] = outcome_of(trials[number])
        self._open = [number for number in (*self._open, *fresh) if not trials[number].state.is_finished()]
        return Counter(self._outcomes)

    def used(self) -> int:
        """Return the number of trials that count towards the budget: not the lost and interrupted, requeued ones."""
        return sum(
            t.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING) or outcome_of(t) in WITHOUT_VALUE
            for t in self.trials()
        )

    def best(self) -> list[FrozenTrial]:
        """Return the best trial, or the Pareto front of several objectives; empty without a finished trial."""
        if not any(outcome_of(t) == Outcome.FINISHED for t in self.trials(TrialState.COMPLETE)):
            return []
        if len(self.study.directions) == 1:
            return [self.study.best_trial]
        return [t for t in self.study.best_trials if outcome_of(t) == Outcome.FINISHED]

    def without_value(self) -> bool:
        """Return whether trials have ended, all of them without a value and not diverged."""
        ended = self.counts().keys() - {Outcome.RUNNING, Outcome.WAITING, Outcome.LOST, Outcome.INTERRUPTED}
        return bool(ended) and ended <= set(WITHOUT_VALUE)

    def first_to_close(self) -> bool:
        """Return whether no process has drawn the study in its present state; call it inside ``exclusively``."""
        ended = sum(t.state.is_finished() for t in self.trials())
        if self.study.user_attrs.get(CLOSED) == ended:
            return False
        self.study.set_user_attr(CLOSED, ended)
        return True

    def ask(self, most: int) -> list[optuna.Trial]:
        """Return new trials, at most ``most`` and the rest of the budget.

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
        """Report the result of an earlier trial with the same parameters, if there is one, without running it."""
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
        """Return whether a trial has not ended."""
        return not self.store.storage.get_trial(id_of(trial)).state.is_finished()

    def fail(self, trial: optuna.Trial, how: Outcome, error: str = "") -> None:
        """End a trial as crashed, or as interrupted and requeued, unless it has reported its end."""
        if not self.under_way(trial):
            return
        trial.set_user_attr(RESULT, {"outcome": how, "metrics": {}, "error": error})
        # not by tell: that asks the sampler, and a grid that is used up wants to stop a loop that is not there
        self.store.storage.set_trial_state_values(id_of(trial), TrialState.FAIL)
        if how == Outcome.INTERRUPTED:
            queue_again(self.study, self.store.storage.get_trial(id_of(trial)))


def outcome_of(trial: FrozenTrial) -> Outcome:
    """Return the outcome of a trial, or its state if it has not ended."""
    if not trial.state.is_finished():
        return Outcome(trial.state.name.lower())
    return Outcome(trial.user_attrs.get(RESULT, {}).get("outcome", Outcome.LOST))


def open_study(options: Options, name: str, space: Space, store: Store, config: Json) -> SweepStudy:
    """Create the study ``name`` or continue it; raises UserError if its configuration differs."""
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
    """Return whether no trial of the study has ended or is running."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return not study.get_trials(deepcopy=False, states=states)


def _changes(before: Json, now: Json) -> Iterable[str]:
    """Return the differences between the configuration of a study and ``now``, in words."""
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
