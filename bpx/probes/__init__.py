"""Probes: what is measured in every layer of a step, read-only; one file for each family of quantities."""

from bpx.probes.clipping import Clipping
from bpx.probes.coherence import Coherence, SignalToNoise
from bpx.probes.direction import Direction
from bpx.probes.flow import Flow, flow, forward_slope
from bpx.probes.gains import Gains, between_hidden
from bpx.probes.histograms import Histograms
from bpx.probes.jacobian import Jacobian
from bpx.probes.nonfinite import NonFinite, trace
from bpx.probes.panel import Measured, Panel
from bpx.probes.probe import Probe, Subject
from bpx.probes.scales import Scales
from bpx.probes.schedule import Every, LogSpaced, Schedule, Sparse, schedule
from bpx.probes.units import Units
from bpx.probes.updates import Updates
from bpx.probes.weights import Weights

PROBES: dict[str, type[Probe]] = {
    cls.name: cls
    for cls in (
        Scales,
        Clipping,
        Gains,
        Units,
        Updates,
        Coherence,
        Histograms,
        SignalToNoise,
        Jacobian,
        Weights,
        Direction,
    )
}

__all__ = [
    "PROBES",
    "Every",
    "Flow",
    "LogSpaced",
    "Measured",
    "NonFinite",
    "Panel",
    "Probe",
    "Schedule",
    "Sparse",
    "Subject",
    "between_hidden",
    "flow",
    "forward_slope",
    "schedule",
    "trace",
]
