"""Memory: arrays that begin where BLAS wants them, and what an object remembers between two steps."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

ALIGNED = 64  # bytes
Arrays = dict[str, NDArray[Any]]


def zeros(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros that begin at a multiple of 64 bytes.

    BLAS adds up in another order where an array begins elsewhere, and where it begins is chance: without this, two
    runs with the same seed differ in the last digits of what is measured.
    """
    n = math.prod(shape) if isinstance(shape, tuple) else shape
    room = np.zeros(n * dtype.itemsize + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + n * dtype.itemsize].view(dtype).reshape(shape)


class Remembers:
    """An object whose attributes named in ``remembers``, arrays and numbers, are all that its next step depends on."""

    remembers: ClassVar[tuple[str, ...]] = ()

    def state(self) -> Arrays:
        """Return copies of what is remembered, by name; a number is an array of shape ()."""
        return {name: np.array(getattr(self, name)) for name in self.remembers}

    def load_state(self, state: Arrays) -> None:
        """Take what ``state`` returned; raises ValueError where a name, shape or dtype differs."""
        held = {name: np.asarray(getattr(self, name)) for name in self.remembers}
        for name, value in checked(held, state).items():
            if held[name].ndim:
                held[name][...] = value  # in place: others hold views of it
            else:
                setattr(self, name, value.item())


def checked(held: Arrays, state: Arrays) -> Arrays:
    """Return those entries of ``state`` that ``held`` names; raises ValueError where one is not of the same form."""
    for name, value in held.items():
        if name not in state or state[name].shape != value.shape or state[name].dtype != value.dtype:
            raise ValueError(f"the state does not fit at {name!r}")
    return {name: state[name] for name in held}


def below(name: str, state: Arrays) -> Arrays:
    """Return the entries of ``state`` whose names begin with ``name/``, without it."""
    return {key.removeprefix(f"{name}/"): value for key, value in state.items() if key.startswith(f"{name}/")}


def under(name: str, state: Arrays) -> Arrays:
    """Return ``state`` with ``name/`` before every name."""
    return {f"{name}/{key}": value for key, value in state.items()}
