"""The network of a plan, and freshly drawn networks with one change of the configuration."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from omegaconf import DictConfig, OmegaConf

from bpx.config.plan import Plan, make_plan, spawn_rngs
from bpx.data import Dataset
from bpx.diagnosis.remedies import Candidate
from bpx.engine.lsuv import scale_to_unit_variance
from bpx.engine.network import Network
from bpx.system.errors import UserError
from bpx.system.text import masked
from bpx.system.tree import load_option, options_of

COMMAND = "python -m bpx.train"
CARRIED = ("bias_std", "bias", "depth", "width", "hidden", "loss_at")  # keys that a new option of the group takes over
DRAWN_ANEW = 10  # sets the streams of these networks apart from a run's


def empty_network(plan: Plan, data: Dataset) -> Network:
    """Return a plan's network for these data, its weights still zero; raises UserError where they do not fit."""
    plan = plan.decided(data.n_classes is not None, len(data.x_train))
    size = plan.settings.batch_size
    if size > len(data.x_train):
        raise UserError(f"batch_size must be at most the {len(data.x_train)} training samples, got {size}")
    n_out = data.n_out // (data.target_steps or 1) if plan.every_step else data.n_out
    net = plan.network(data.n_in, n_out, data.image_shape, data.sequence_shape)
    if data.n_classes is None and net.loss.classifies:
        raise UserError(f"dataset {data.name} has numbers as targets: use loss=auto or loss=mean_squared_error")
    if plan.every_step and data.target_steps is None and not data.labels_steps:
        what = "target" if data.n_classes is None else "label"
        raise UserError(f"dataset {data.name} has no {what} at every step: it needs model.loss_at=last")
    if data.labels_steps and not plan.every_step:
        raise UserError(
            f"dataset {data.name} has a label at every step: it needs a sequence model with model.loss_at=every"
        )
    return net


def build_network(plan: Plan, data: Dataset, rngs: dict[str, np.random.Generator]) -> Network:
    """Return a plan's network for these data, initialized and bound; raises UserError where they do not fit."""
    plan = plan.decided(data.n_classes is not None, len(data.x_train))
    net, size = empty_network(plan, data), plan.settings.batch_size
    try:
        net.initialize(plan.initializer, rngs["initialization"])
    except ValueError as error:
        raise UserError(str(error)) from error
    net.bind(size, rngs["dropout"])
    if plan.initializer.needs_data:
        scale_to_unit_variance(net, data.x_train[:size])
    return net


def chosen_settings(plan: Plan, net: Network) -> list[str]:
    """Return a note for every setting of the model that is null and was chosen for the data."""
    given, shape = plan.config.model, " x ".join(map(str, net.shape))
    decided = {} if net.spec is None else net.spec.settings
    return [
        f"model.{key} is {value}, chosen for samples of {shape}"
        for key, value in decided.items()
        if value is not None and given.get(key, value) is None
    ]


@final
@dataclass(frozen=True)
class FromPlan:
    """Draw the network of a plan anew with one change of the configuration.

    ``typed`` holds the arguments of the plan's own command, flags first.
    """

    plan: Plan
    data: Dataset
    typed: Sequence[str] = ()

    def __call__(self, key: str, value: str) -> Candidate | None:
        """Return a change, with the arguments that add it to the plan's own command."""
        if "." not in key and value.partition(" ")[0] not in options_of(key):
            return None  # registered by a user, in no configuration
        config, words = change(self.plan.config, key, value, self.typed)
        if config == self.plan.config:
            return None
        return Candidate(words, _draws(self.plan, config, self.data), command(words, self.typed))


def command(changed: str, typed: Sequence[str]) -> str:
    """Return the command with a change: the ``typed`` arguments that it keeps, then its own, passwords masked."""
    words, _, rest = changed.partition(" (without ")
    left_out = rest.rstrip(")").split(" and ") if rest else []
    new = words.split()
    replaced = {_key(word) for word in new} | set(left_out)
    kept = [word for word in typed if _key(word) not in replaced]
    deleted = [f"~{key}" for key in left_out if key not in map(_key, typed)]
    return " ".join([COMMAND, *(shlex.quote(masked(word)) for word in [*kept, *new, *deleted])])


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def change(config: DictConfig, key: str, value: str, typed: Sequence[str] = ()) -> tuple[DictConfig, str]:
    """Return the configuration with one change, and the words that make it when they follow those of ``config``.

    A new option of a group comes with its own keys, and may be followed by words that set some of them:
    ``lstm model.forget_bias=3``. ``bias_std``, the widths and ``loss_at`` stay. Other keys that both options have are
    set back by words where they are ``typed`` or no option's default, as the command line would carry them over; for
    those that the new option does not have, the words say that they are to be left out.
    """
    new = config.copy()
    OmegaConf.set_readonly(new, False)
    group, _, name = key.partition(".")
    if name:
        new[group][name] = _number(value)
        return new, f"{key}={value}"
    value, *more = value.split()
    before, after = config[group], load_option(group, value).copy()
    chosen = dict(word.removeprefix(f"{group}.").split("=") for word in more)
    for name, number in chosen.items():
        after[name] = _number(number)
    usual = [load_option(group, option) for option in options_of(group)]
    words, left_out = [f"{group}={value}", *more], []
    keys = set(map(_key, typed))
    for name, now in before.items():
        known = [option.get(name) for option in usual if option.get("_target_") == before.get("_target_")]
        if name in after and name in CARRIED:
            after[name] = now
        elif name in ("_target_", "name", *chosen) or (now in known and f"{group}.{name}" not in keys):
            continue
        elif name not in after:
            left_out.append(f"{group}.{name}")
        elif now != after[name]:
            words.append(f"{group}.{name}={_word(after[name])}")
    new[group] = after
    text = " ".join(words)
    return new, f"{text} (without {' and '.join(left_out)})" if left_out else text


def _draws(plan: Plan, config: DictConfig, data: Dataset) -> Iterator[Network]:
    """Yield fresh draws of a changed plan's network, each after one pass; none if the plan is invalid."""
    try:
        changed, number = plan.changed(config).decided(data.n_classes is not None, len(data.x_train)), 0
        if config.dataset.scaling != plan.config.dataset.scaling:
            data = make_plan(config).load()
        while True:
            rngs = spawn_rngs((plan.settings.seed, DRAWN_ANEW, number))
            net = build_network(changed, data, rngs)
            rows = rngs["shuffle"].choice(len(data.x_train), net.batch, replace=False)
            net.cost(data.x_train[rows], data.y_train[rows])
            net.backward()
            yield net
            number += 1
    except UserError:
        return


def _number(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _word(value: object) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
