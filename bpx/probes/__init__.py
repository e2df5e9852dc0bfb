"""Probes: what is measured in every layer of a step, read-only; one file for each family of quantities."""

from bpx.probes.attention import AttentionWeights
from bpx.probes.clipping import Clipping
from bpx.probes.coherence import Coherence, SignalToNoise
from bpx.probes.dead_units import DeadUnits
from bpx.probes.depth_slope import DepthSlope, fit_slope, forward_slope
from bpx.probes.gains import Gains, between_hidden
from bpx.probes.gradient_cosine import GradientCosine
from bpx.probes.histograms import Histograms
from bpx.probes.jacobian import Jacobian
from bpx.probes.lost_updates import LostUpdates
from bpx.probes.nonfinite import NonFinite, trace
from bpx.probes.ntk import NTK
from bpx.probes.probe import Probe, ProbeContext
from bpx.probes.probe_set import ProbeSet, Reading
from bpx.probes.scales import Scales
from bpx.probes.schedule import Every, LogSpaced, ReportSchedule, StepSchedule, parse_schedule
from bpx.probes.sharpness import Sharpness
from bpx.probes.state_jacobian import StateJacobian
from bpx.probes.through_time import ThroughTime
from bpx.probes.weights import Weights

PROBES: dict[str, type[Probe]] = {
    cls.name: cls
    for cls in (
        Scales,
        Clipping,
        Gains,
        ThroughTime,
        AttentionWeights,
        DeadUnits,
        LostUpdates,
        Coherence,
        Histograms,
        SignalToNoise,
        Jacobian,
        StateJacobian,
        Weights,
        GradientCosine,
        Sharpness,
        NTK,
    )
}

__all__ = [
    "PROBES",
    "DepthSlope",
    "Every",
    "LogSpaced",
    "NonFinite",
    "Probe",
    "ProbeContext",
    "ProbeSet",
    "Reading",
    "ReportSchedule",
    "StepSchedule",
    "ThroughTime",
    "between_hidden",
    "fit_slope",
    "forward_slope",
    "parse_schedule",
    "trace",
]
