"""The check of a learning-rate schedule."""

from __future__ import annotations

import math

from bpx.engine.schedules import LRSchedule
from bpx.testing.expect import expect, expect_named, expect_same_state

BEYOND = 10  # steps past the last
COSTS = (1.0, *20 * (0.9,))


def check_schedule(schedule: LRSchedule) -> None:
    """Check a learning-rate schedule.

    That it gives a finite multiplier of at least 0 at every step and beyond the last, the same when it is asked again;
    that its state says all that evaluations have changed; a name and a docstring.

    Parameters
    ----------
    schedule : LRSchedule
        With its ``total_steps`` and the parameters with which it is used.

    Raises
    ------
    AssertionError
        In one line: what is wrong.
    """
    name = expect_named(type(schedule))
    steps = range(schedule.total_steps + BEYOND)
    before = schedule.state_dict()
    values = [schedule(t) for t in steps]
    for t, value in zip(steps, values, strict=True):
        expect(math.isfinite(value) and value >= 0, f"{name} is {value:g} at step {t} of {schedule.total_steps}")
    expect([schedule(t) for t in steps] == values, f"{name} gives another multiplier when it is asked again")
    for cost in COSTS:
        schedule.on_evaluation(cost)
    reached, state = [schedule(t) for t in steps], schedule.state_dict()
    schedule.load_state_dict(before)
    expect([schedule(t) for t in steps] == values, f"{name}.state_fields must name all that an evaluation changes")
    schedule.load_state_dict(state)
    expect([schedule(t) for t in steps] == reached, f"{name} continues differently from a restored state")
    expect_same_state(schedule.state_dict(), state, f"{name} changes its state when it is restored")
    schedule.load_state_dict(before)
