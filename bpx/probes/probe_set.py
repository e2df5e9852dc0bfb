"""ProbeSet: the probes of a run, each on its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

from bpx.engine.arrays import Arrays, Values
from bpx.engine.memory import add_prefix, select_prefix
from bpx.probes.probe import Key, Probe
from bpx.probes.schedule import StepSchedule


class Reading(NamedTuple):
    """What one probe saw in a step: its name, and ``values`` in the order of ``keys``."""

    probe: str
    keys: tuple[Key, ...]
    values: Values


@final
class ProbeSet:
    """Probes with their schedules; ``at`` tells which of them a step concerns."""

    def __init__(self, probes: Sequence[tuple[Probe, StepSchedule]] = ()) -> None:
        self.probes = [probe for probe, _ in probes]
        self._groups: dict[tuple[StepSchedule, int], list[Probe]] = {}
        for probe, schedule in probes:
            self._groups.setdefault((schedule, probe.lookback), []).append(probe)

    def at(self, step: int) -> list[Probe]:
        """Return the probes that have to look at a step: those that are due, and those that soon will be."""
        found: list[Probe] = []
        for (schedule, lookback), probes in self._groups.items():
            if schedule(step) or (lookback and schedule(step + lookback)):
                found += probes
        return found

    def measured(self, step: int) -> tuple[Reading, ...]:
        """Return what the probes that are due at ``step`` saw, copied."""
        return tuple(
            Reading(probe.name, probe.keys, probe.values.copy())
            for (schedule, _), probes in self._groups.items()
            if schedule(step)
            for probe in probes
            if probe.keys
        )

    def state_dict(self) -> Arrays:
        """Return copies of the state of every probe."""
        return {key: value for p in self.probes for key, value in add_prefix(p.name, p.state_dict()).items()}

    def load_state_dict(self, state: Arrays) -> None:
        """Restore what ``state_dict`` returned; raises ValueError where it does not fit."""
        for p in self.probes:
            p.load_state_dict(select_prefix(p.name, state))
