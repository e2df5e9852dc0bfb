"""Memory: the state that an object keeps between two steps."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bpx.engine.arrays import Arrays


class Stateful:
    """An object whose next step depends on the attributes named in ``state_fields`` alone: arrays and numbers."""

    state_fields: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> Arrays:
        """Return copies of the state fields, by name; a number is an array of shape ()."""
        return {name: np.array(getattr(self, name)) for name in self.state_fields}

    def load_state_dict(self, state: Arrays) -> None:
        """Restore what ``state_dict`` returned; raises ValueError where a name, shape or dtype differs."""
        current = {name: np.asarray(getattr(self, name)) for name in self.state_fields}
        for name, value in check_state(current, state).items():
            if value.ndim:
                current[name][...] = value  # in place: others hold views of it
            else:
                setattr(self, name, value.item())


def check_state(current: Arrays, state: Arrays) -> Arrays:
    """Return the entries of ``state`` that ``current`` names; raises ValueError where a shape or dtype differs."""
    for name, value in current.items():
        expected = f"state[{name!r}]: expected {value.dtype} {value.shape}, got"
        if name not in state:
            raise ValueError(f"{expected} nothing")
        if state[name].shape != value.shape or state[name].dtype != value.dtype:
            raise ValueError(f"{expected} {state[name].dtype} {state[name].shape}")
    return {name: state[name] for name in current}


def select_prefix(name: str, state: Arrays) -> Arrays:
    """Return the entries of ``state`` whose names begin with ``name/``, without it."""
    return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}


def add_prefix(name: str, state: Arrays) -> Arrays:
    """Return ``state`` with ``name/`` before every name."""
    return {f"{name}/{key}": value for key, value in state.items()}
